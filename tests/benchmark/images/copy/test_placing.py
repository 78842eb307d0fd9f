"""An image is in the local copy as a whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark.images.copy.placing import placing
from tests.benchmark.full_disk import files_of_at_most


def test_of_an_image_that_does_not_fit_on_the_disk_nothing_stays(tmp_path: Path) -> None:
    with files_of_at_most(10_000), placing(tmp_path / "copy") as writer:
        writer.write([os.urandom(9_000)], "art/1.png")
        with pytest.raises(OSError, match="File too large"):
            writer.write([os.urandom(11_000)], "art/2.png")
    assert [path.name for path in tmp_path.rglob("*.png")] == ["1.png"]
