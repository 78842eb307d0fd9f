"""The figure of the classes of a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.roles import class_counts
from benchmark.splits.figure import draw
from tests.benchmark.expected_roles import TASK


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_drawing_twice_writes_the_same_file(mini: Manifest, tmp_path: Path, kind: str) -> None:
    for name in ("a", "b"):
        draw(mini, mini.task(TASK), class_counts(mini, TASK), tmp_path / f"{name}.{kind}")
    first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("a", "b"))
    assert first == second
    if kind == "svg":
        assert all(word in first.decode() for word in ("airplane", "mini@0.1", "withheld"))
