"""The local copy of a data set is removed whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.images.place import images_folder
from benchmark.images.status import find_manifest, local_folders, remove_folders
from benchmark.manifest.catalogue import load_manifest
from benchmark.own_data.add import add_manifests
from benchmark.own_data.write import write_manifest
from tests.benchmark.own_data.pictures import build, grid, paint


def test_an_interrupted_removal_is_finished(own_data: Path) -> None:
    manifest = load_manifest("office-home@1.0")
    folder = images_folder(manifest)
    (folder.with_name(f".removed-{folder.name}") / "Art").mkdir(parents=True)
    assert list(remove_folders(manifest, local_folders(manifest, stores=False))) == [folder]
    assert not list(folder.parent.iterdir())
    with pytest.raises(UsageError, match=r"there are no images of office-home@1\.0"):
        local_folders(manifest, stores=False)


def test_of_a_linked_folder_the_link_is_removed(own_data: Path, tmp_path: Path) -> None:
    manifest = load_manifest("office-home@1.0")
    folder, disk = images_folder(manifest), tmp_path / "disk"
    (disk / "Art").mkdir(parents=True)
    folder.parent.mkdir(parents=True)
    folder.symlink_to(disk)
    assert list(remove_folders(manifest, local_folders(manifest, stores=False))) == [folder]
    assert not list(folder.parent.iterdir())
    assert (disk / "Art").is_dir()


def test_a_folder_comes_before_the_name_of_an_added_manifest(
    own_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    new = build(paint(tmp_path / "photos", grid()), "mine")
    add_manifests([write_manifest(new, tmp_path / "mine", "").manifest.root])
    assert find_manifest("mine").reference == "mine@0.1"
    file = tmp_path / "mine" / "manifest.toml"
    file.write_text(file.read_text().replace('version = "0.1"', 'version = "0.2"'))
    assert find_manifest("mine").reference == load_manifest("mine").reference == "mine@0.2"
    file.unlink()
    assert find_manifest("mine").reference == "mine@0.1"
