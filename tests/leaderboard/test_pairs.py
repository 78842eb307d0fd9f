"""The comparison of two methods: paired differences, classes, and every form of output."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from benchmark.drawing import settings
from benchmark.errors import UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.records import RunRecord
from leaderboard.board import MEAN, POOLED, build_boards
from leaderboard.outcome_files import WorkspaceOutcomes
from leaderboard.pairs import Pair, find_label, find_pair
from leaderboard.per_class import per_class
from leaderboard.predictions import read_logits_and_labels
from leaderboard.render import compare_figure
from leaderboard.render.pair import (
    latex_text,
    p_text,
    pair_json,
    pair_latex,
    pair_markdown,
    pair_terminal,
)
from leaderboard.render.terminal import Screen
from leaderboard.results import update_results
from tests.leaderboard.grids import TASKS, build, grid, macro_board

WriteRun = Callable[..., RunRecord]
HOSTILE = r"mine(x=a_b & 50% $y$ \end{table} <b>)"


@pytest.fixture
def pair(tmp_path: Path, suite: Suite, icons: Manifest, write_run: WriteRun) -> Pair:
    """Two methods on two tasks with two seeds, with outcomes."""
    part = dataclasses.replace(suite, tasks=TASKS[:2], seeds=(0, 1))
    for task in part.tasks:
        for seed in part.seeds:
            write_run(tmp_path, "mine", task, seed, skill=2.5, label=HOSTILE)
            write_run(tmp_path, "finetune", task, seed, skill=1.5, bias=1.0)
    results = update_results(tmp_path, [icons])
    outcomes = WorkspaceOutcomes(tmp_path, icons)
    return find_pair(build_boards(part, icons, results, outcomes=outcomes), "mine", "finetune")


def test_a_macro_board_is_compared_by_macro_accuracy(suite: Suite, icons: Manifest) -> None:
    pair = find_pair([macro_board(suite, icons)], "mine", "finetune")
    (difference, value) = pair.difference(MEAN), pair.value("mine", MEAN)
    assert difference is not None
    assert (difference.value, value) == (15.0, 35.0)
    assert list(json.loads(pair_json(pair))["tasks"][0]) == [
        "task",
        "macro_overall",
        "macro_seen",
        "macro_missing",
    ]
    assert "no difference in macro overall accuracy" in pair_markdown(pair)
    assert b"macro missing" in compare_figure.draw(pair, "svg")


def test_a_difference_is_that_of_the_board(pair: Pair) -> None:
    assert pair.tasks == [MEAN, POOLED, *TASKS[:2]]
    for task in pair.tasks:
        for metric in ("overall", "seen", "missing"):
            difference = pair.difference(task, metric)
            assert difference is not None
            values = [pair.value(label, task, metric) for label in (pair.first, pair.second)]
            assert difference.value == pytest.approx(values[0] - values[1])
            assert difference.half > 0


def test_classes_are_those_of_the_predictions(pair: Pair, icons: Manifest, tmp_path: Path) -> None:
    expected: dict[tuple[str, bool], list[list[float]]] = {}
    for i, method in enumerate(("mine", "finetune")):
        for row in pair.board.rows:
            if row["method"] != method:
                continue
            path = tmp_path / "runs" / row["key"] / "predictions.parquet"
            logits, labels = read_logits_and_labels(path, icons, row["task"])
            seen = icons.seen_mask(icons.task(row["task"]))
            for score in per_class(logits, labels, seen, icons.classes):
                both = expected.setdefault((score.name, score.seen), [[], []])
                both[i].append(score.accuracy)
    classes = {(c.name, c.group == "seen"): (c.first, c.second) for c in pair.classes}
    assert classes.keys() == expected.keys()
    for key, values in classes.items():
        assert values == pytest.approx([np.mean(part) for part in expected[key]])
    differences = [c.difference for c in pair.classes]
    assert differences == sorted(differences, reverse=True)


def test_a_class_with_few_test_images_is_in_no_list_of_the_largest(pair: Pair) -> None:
    few = [c.name for c in pair.classes if c.n < 10]
    large = [c for c in pair.classes if c.n >= 10]
    assert few
    gains, losses = pair.largest(len(pair.classes))
    assert gains == [c for c in large if c.difference > 0]
    assert losses == [c for c in reversed(large) if c.difference < 0]
    assert pair.largest(3) == (gains[:3], losses[:3])
    assert len({c.name for c in pair.classes}) < len(pair.classes)
    twice = "(one that is seen in some tasks and missing in others counts twice)"
    line = f"of {len(pair.classes)} classes {twice}, {len(few)} with fewer than 10 test images"
    assert line in pair_markdown(pair)
    assert line in " ".join(pair_terminal(pair, Screen(200)).split())
    one = dataclasses.replace(pair.board.suite, tasks=TASKS[:1])
    of_one = dataclasses.replace(pair, board=dataclasses.replace(pair.board, suite=one))
    assert f"of {len(of_one.classes)} classes, " in pair_markdown(of_one)
    assert "gains and losses" not in pair_latex(pair)  # which has no such lists


def test_scores_alone_have_no_classes(suite: Suite, icons: Manifest) -> None:
    boards = build(suite, icons, grid(icons, "mine") + grid(icons, "finetune"))
    pair = find_pair(boards, "mine", "finetune")
    assert pair.classes == []
    assert "Classes" not in pair_markdown(pair)


def test_names_are_labels_or_their_beginnings() -> None:
    labels = ["finetune", "finetune-short", "mine(alpha=1.0)", "mine(alpha=2.0)"]
    assert find_label("finetune", labels) == "finetune"
    assert find_label("finetune-", labels) == "finetune-short"
    assert find_label("mine(alpha=2", labels) == "mine(alpha=2.0)"
    assert find_label("a", ["a(tuned)", "a-short(tuned)"]) == "a(tuned)"  # the method's only row
    with pytest.raises(UsageError, match=r"'mine' is the beginning of several methods: mine\(alph"):
        find_label("mine", labels)
    with pytest.raises(UsageError, match="no runs of method 'fintune'; did you mean finetune"):
        find_label("fintune", labels)


def test_what_cannot_be_compared_is_an_error(suite: Suite, icons: Manifest) -> None:
    boards = build(suite, icons, grid(icons, "mine") + grid(icons, "finetune")[:1])
    with pytest.raises(UsageError, match="are the same method"):
        find_pair(boards, "mine", "min")
    message = (
        "mine and finetune cannot be compared: they share no task of which both have runs of seeds "
        "0-2; `htbench list runs --suite icons --workspace w` shows the runs that exist, "
        "and --seed compares runs of some seeds"
    )
    there = [dataclasses.replace(b, workspace_option=("--workspace", "w")) for b in boards]
    with pytest.raises(UsageError, match=f"^{message}$"):
        find_pair(there, "mine", "finetune")
    published = [dataclasses.replace(b, is_published=True) for b in boards]
    with pytest.raises(UsageError, match="; leave out --published to compare the results of a wor"):
        find_pair(published, "mine", "finetune")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_it_fits_the_terminal(pair: Pair, width: int) -> None:
    reverse = dataclasses.replace(pair, first=pair.second, second=pair.first)
    # The first is the better one on every class with enough test images.
    for of, heading in ((pair, "Classes that gain most"), (reverse, "Classes that lose most")):
        text = pair_terminal(of, Screen(width))
        assert max(map(cell_len, text.splitlines())) <= width
        assert heading in text
        lines = [line for line in text.splitlines() if line.startswith(("task ", "class "))]
        headings = [line.split() for line in lines]
        assert len(headings) == 2
        assert all(("first" in words) == ("second" in words) for words in headings)
        assert all("overall" in words or "difference" in words for words in headings)
        assert f"{'first' if of is pair else 'second'}:" in text
        assert f": {HOSTILE[:20]}" in " ".join(text.split())


def test_json_has_every_class_and_interval(pair: Pair) -> None:
    document = json.loads(pair_json(pair), parse_constant=pytest.fail)
    assert (document["first"], document["second"]) == (HOSTILE, "finetune")
    mean = document["tasks"][0]["overall"]
    difference = pair.difference(MEAN)
    assert difference is not None
    assert [mean[name] for name in ("difference", "low", "high", "p")] == [
        difference.value,
        difference.low,
        difference.high,
        difference.p,
    ]
    assert len(document["classes"]) == len(pair.classes)


def test_markdown_and_latex_escape_labels(pair: Pair) -> None:
    assert r"\<b\>" in pair_markdown(pair)
    assert pair_latex(pair).count(r"\end{table}") == 1
    assert r"a\_b \& 50\% \$y\$ \textbackslash{}end\{table\}" in pair_latex(pair)
    assert latex_text("漢…") == r"?\ldots{}"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "x.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        f"{pair_latex(pair)}\\end{{document}}\n"
    )
    result = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-1000:]


def test_the_figure_has_text_as_text_and_the_same_bytes_twice(pair: Pair) -> None:
    svg = compare_figure.draw(pair, "svg")
    assert svg == compare_figure.draw(pair, "svg")
    for word in ("minus finetune", "mean over 2 tasks", TASKS[0], "missing", "&lt;b&gt;"):
        assert word in svg.decode()
    assert compare_figure.draw(pair, "pdf").startswith(b"%PDF")
    assert b"with 95 % interval" in svg


def test_the_figure_of_one_seed_has_no_intervals(suite: Suite, icons: Manifest) -> None:
    one = dataclasses.replace(suite, seeds=(0,))
    rows = grid(icons, "mine", overall=60.0) + grid(icons, "finetune")
    pair = find_pair(build(one, icons, rows), "mine", "finetune")
    assert b"interval" not in compare_figure.draw(pair, "svg")
    with settings({}):
        (axes,) = compare_figure._figure(pair).axes
    ends = [line.get_xdata() for line in axes.lines if line.get_marker() == "|"]
    assert len(ends) == 2 * 3  # of each of overall, seen and missing
    assert np.isnan(np.array(ends, dtype=float)).all()
    assert compare_figure.draw(pair, "png").startswith(b"\x89PNG")


def test_a_p_value() -> None:
    assert [p_text(p) for p in (0.5, 0.0123, 1e-9, float("nan"))] == [
        "0.50",
        "0.012",
        "<0.0001",
        "-",
    ]
