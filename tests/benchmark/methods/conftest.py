"""Fixtures of the tests of methods."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text("class Mine: ...\n")
    return path
