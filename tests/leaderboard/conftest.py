"""Fixtures of the leaderboard's tests."""

from __future__ import annotations

import dataclasses

import pytest

from benchmark.manifest.suite import Suite, load_suite
from tests.leaderboard.grids import TASKS


@pytest.fixture(scope="session")
def suite() -> Suite:
    """Three tasks of the icons with two methods."""
    return dataclasses.replace(load_suite("icons"), tasks=TASKS, methods=("source", "finetune"))
