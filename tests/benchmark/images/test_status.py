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
