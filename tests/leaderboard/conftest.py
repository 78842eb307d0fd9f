"""Fixtures of the leaderboard's tests."""

from __future__ import annotations

import dataclasses

import pytest

from benchmark.manifest.suite import Suite, load_suite


@pytest.fixture(scope="session")
def suite() -> Suite:
    """The suite of the icons with two methods."""
    return dataclasses.replace(load_suite("icons"), methods=("source", "finetune"))
