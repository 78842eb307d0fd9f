"""Fixtures of the tests of submissions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmark.manifest.manifest import Manifest
from tests.leaderboard.submission.folders import Pack, WriteRun, packed


@pytest.fixture
def published(tmp_path: Path) -> Path:
    (tmp_path / "published").mkdir()
    return tmp_path / "published"


@pytest.fixture(scope="module")
def honest() -> dict[str, Path]:
    """Submissions that tests copy, by the options of their runs."""
    return {}


@pytest.fixture
def submit(
    tmp_path: Path,
    write_run: WriteRun,
    icons: Manifest,
    honest: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Pack:
    """Pack a submission: ``submit(skill=4)`` gives its folder."""

    def write_folder(**options: Any) -> Path:
        if repr(options) not in honest:
            folder = tmp_path_factory.mktemp("honest")
            honest[repr(options)] = packed(write_run, icons, folder, **options)
        return shutil.copytree(honest[repr(options)], tmp_path / "half-way")

    return write_folder
