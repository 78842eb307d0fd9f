"""The figure of the classes of a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.manifest.manifest import Manifest
from tests.benchmark.command import Htbench
from tests.benchmark.expected_roles import TASK


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_two_runs_write_the_same_file(
    htbench: Htbench, mini: Manifest, tmp_path: Path, kind: str
) -> None:
    for name in ("a", "b"):
        out = tmp_path / f"{name}.{kind}"
        arguments = ["show", mini.root, "--task", TASK, "--figure", out]
        status, output, err = htbench("splits", *arguments)
        assert status == 0, err
        assert f"figure  {out}" in output
    first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("a", "b"))
    assert first == second
    if kind == "svg":
        assert all(word in first.decode() for word in ("airplane", "mini@0.1", "withheld"))
