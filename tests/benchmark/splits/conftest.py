"""A manifest without pixels: its images are files below the data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.images.place import images_folder
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest

Draft = Any  # the class in conftest.py


@pytest.fixture
def folder_manifest(draft: Draft, own_data: Path) -> Manifest:
    """The small manifest with images in a folder, which has no images."""
    draft.document["images"] = "folder"
    table = draft.table().drop_columns(["image"])
    draft.write(table)
    return load_manifest(draft.root)


@pytest.fixture
def images(folder_manifest: Manifest, draft: Draft) -> Path:
    """The folder of its images, with every image."""
    for row in draft.rows:
        path = images_folder(folder_manifest) / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"]["bytes"])
    return images_folder(folder_manifest)
