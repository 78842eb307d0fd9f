"""Fixtures of the tests of isolation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmark.isolation.places import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    allowed, outside, scratch = (tmp_path / name for name in ("allowed.txt", "outside", "scratch"))
    outside.mkdir()
    scratch.mkdir()
    allowed.write_text("images")
    (outside / "labels.txt").write_text("labels")
    return Places(allowed, outside, scratch)
