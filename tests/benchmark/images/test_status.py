"""The local copy of a data set is removed whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.images.place import images_folder
from benchmark.images.status import local_folders, remove_folders
from benchmark.manifest.catalogue import load_manifest


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
