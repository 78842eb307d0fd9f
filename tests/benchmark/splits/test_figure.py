"""The figure of the classes of a task."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
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


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_neither_names_nor_the_settings_of_the_user_change_how_it_is_drawn(
    mini: Manifest, tmp_path: Path, form: str
) -> None:
    """A dollar sign is not mathematics, and a letter that the font does not have is a box."""
    counts = class_counts(mini, TASK)
    counts["class"] = [*list(counts["class"])[2:], r"$\frac$", "日本"]
    draw(mini, mini.task(TASK), counts, ours := tmp_path / f"ours.{form}")
    theirs = {"axes.facecolor": "red", "savefig.transparent": True, "lines.linewidth": 9}
    with mpl.rc_context(theirs):
        draw(mini, mini.task(TASK), counts, same := tmp_path / f"same.{form}")
        assert all(mpl.rcParams[name] == value for name, value in theirs.items())
    assert same.read_bytes() == ours.read_bytes()
    if form == "svg":
        assert all(name in ours.read_text("utf-8") for name in (r"$\frac$", "日本"))
