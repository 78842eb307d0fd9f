"""Images are imported from any layout, under the manifest's paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmark.errors import DataError
from benchmark.images.copy.take import absent_paths, import_images, match
from benchmark.images.place import images_folder
from benchmark.manifest.manifest import Manifest

PATHS = ["Art/cup/1.jpg", "Real_World/cup/1.jpg"]


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "data"))
    rows = [{"image_id": path, "path": path} for path in PATHS]
    document: dict[str, Any] = {
        "name": "small",
        "version": "0.1",
        "domains": [{"name": "Art", "folders": []}, {"name": "Real_World", "folders": ["Real"]}],
    }
    return Manifest(tmp_path, document, pa.Table.from_pylist(rows))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for domain in ("art", "real world"):
        file = tmp_path / "copy" / domain / "cup" / "1.jpg"
        file.parent.mkdir(parents=True)
        file.write_text(domain)
    return tmp_path / "copy"


def test_names_are_matched_at_any_depth_and_by_alias(manifest: Manifest) -> None:
    names = ["deep/er/art/Cup/1.jpg", "Real/cup/1.jpg", "Art/cup/2.jpg"]
    assert match(manifest, names) == dict(zip(names, PATHS, strict=False))


def test_two_files_for_one_image(manifest: Manifest) -> None:
    with pytest.raises(DataError, match="both match the image"):
        match(manifest, ["a/Art/cup/1.jpg", "b/Art/cup/1.jpg"])


@pytest.mark.parametrize("by_copy", [False, True])
def test_import(manifest: Manifest, copy: Path, by_copy: bool) -> None:
    assert import_images(manifest, copy, copy=by_copy) == 2
    assert absent_paths(manifest) == set()
    images = [images_folder(manifest) / path for path in PATHS]
    assert [path.read_text() for path in images] == ["art", "real world"]
    assert {path.is_symlink() for path in images} == {not by_copy}
    assert import_images(manifest, copy, copy=by_copy) == 0


def test_linked_folders_are_followed_but_not_in_circles(
    manifest: Manifest, copy: Path, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "Art").symlink_to(copy / "art")
    (links / "Real World").symlink_to(copy / "real world")
    (copy / "art" / "circle").symlink_to(links)
    assert import_images(manifest, links, copy=False) == 2
    assert absent_paths(manifest) == set()
