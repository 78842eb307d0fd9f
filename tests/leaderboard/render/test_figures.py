"""Figures: what is drawn equals the numbers, and files are the same for the same inputs."""

from __future__ import annotations

import dataclasses
import re
from importlib import import_module
from typing import Any, get_type_hints

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pytest
from scipy.integrate import trapezoid

from benchmark.drawing import settings
from benchmark.errors import UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, load_suite
from leaderboard.board import MEAN, Board, build_boards
from leaderboard.figure_kinds import KINDS
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import counted_samples
from leaderboard.render.figures import Request, classes, draw, figure_bytes, figure_svg
from leaderboard.render.figures.classes import class_accuracies
from leaderboard.render.figures.cost import pareto_front
from leaderboard.render.figures.critical import tied_groups
from leaderboard.render.figures.curve import curve
from leaderboard.render.figures.placing import Box, Name, place_names, spread
from leaderboard.render.figures.profile import performance_profile
from leaderboard.render.figures.request import Drawing, scores
from leaderboard.render.figures.style import SETTINGS, add_panel, new_figure, shown
from leaderboard.render.figures.tradeoff import iso_line, share_seen
from leaderboard.render.figures.training import mean_curve, running_mean
from leaderboard.rows import SCHEMA
from leaderboard.scoring import calibration_curve, score_with_outcomes
from leaderboard.task_ranks import nemenyi_difference
from tests.leaderboard.grids import TASKS, build, grid, macro_board, row

SKILLS = {"source": 0.5, "finetune": 1.5, "lwf": 1.7, "oracle-finetune": 2.5}
HOSTILE = "x$\\frac{1}{2}$</text><script>alert(1)</script>&\u4e2d"
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def board(icons: Manifest, suite: Suite) -> Board:
    """Four methods with the scores of random logits, and their outcomes."""
    rows: list[dict[str, Any]] = []
    known: dict[str, Outcomes] = {}
    for task in TASKS:
        labels, seen = counted_samples(icons, task).labels, icons.seen_mask(icons.task(task))
        for label, skill in SKILLS.items():
            for seed in range(3):
                logits = RNG.normal(0, 1, (len(labels), seen.size))
                logits[np.arange(len(logits)), labels] += skill
                logits[:, seen] += skill / 2
                scores, outcomes = score_with_outcomes(logits, labels, seen)
                track = "oracle" if label.startswith("oracle") else "standard"
                cost = {"total_steps": int(100 * skill), "measured_adapt_seconds": skill}
                changes = {**scores.as_dict(), **cost, "track": track}
                rows.append(row(icons, label, task, seed, **changes))
                known[rows[-1]["key"]] = outcomes
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return build_boards(suite, icons, table, outcomes=lambda of_run: known.get(of_run["key"]))[0]


def drawing_of(board: Board, kind: str, **options: Any) -> Drawing:
    with settings(SETTINGS):
        return draw(Request(board, **options), kind)


def drawn(board: Board, kind: str, **options: Any) -> Any:
    return drawing_of(board, kind, **options).figure


def points(figure: Any) -> set[tuple[float, float]]:
    """The single points of the first panel."""
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    return {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines}


def test_each_kind_has_a_module_that_draws_it() -> None:
    for kind in KINDS.values():
        module = import_module(f"leaderboard.render.figures.{kind.module}")
        assert get_type_hints(module.draw)["return"] is Drawing


@pytest.mark.parametrize("task", [MEAN, TASKS[0]])
def test_tradeoff_and_cost_have_a_point_for_each_method(board: Board, task: str) -> None:
    cells = board.of_task(task)
    expected = {(cell["seen"], cell["missing"]) for cell in cells.values()}
    assert points(drawn(board, "tradeoff", task=task)) == expected
    ranked = [cell for cell in cells.values() if cell["track"] != "oracle"]
    expected = {(cell["total_steps"], cell["overall"]) for cell in ranked}
    assert points(drawn(board, "cost", task=task, cost="steps")) == expected


def test_iso_lines_solve_the_definitions() -> None:
    seen, share = np.array([40.0, 60.0]), 0.3
    assert share * seen + 0.7 * iso_line("overall", 50.0, share, seen) == pytest.approx(50)
    missing = iso_line("harmonic", 50.0, share, seen)
    assert 2 * seen * missing / (seen + missing) == pytest.approx(50)


def test_the_front_is_that_of_brute_force() -> None:
    for _ in range(50):
        cost, value = RNG.integers(0, 5, (2, 12)).astype(float)
        naive = [
            not any(
                cost[j] <= cost[i]
                and value[j] >= value[i]
                and (cost[j] < cost[i] or value[j] > value[i])
                for j in range(12)
            )
            for i in range(12)
        ]
        assert pareto_front(cost, value).tolist() == naive


def test_the_profile_is_that_of_a_naive_loop() -> None:
    values, tau = RNG.integers(40, 60, (9, 4)).astype(float), np.array([0.0, 1.5, 4.0, 30.0])
    naive = [
        [sum(max(cell) - cell[m] <= t for cell in values.tolist()) / 9 for m in range(4)]
        for t in tau
    ]
    assert performance_profile(values, tau).tolist() == naive


def test_tied_groups_are_the_largest_runs_within_the_difference() -> None:
    for _ in range(50):
        ranks = np.sort(RNG.uniform(1, 10, 8))
        runs = [
            {*range(i, j + 1)} for i in range(8) for j in range(i + 1, 8) if ranks[j] - ranks[i] < 2
        ]
        largest = [(min(run), max(run)) for run in runs if not any(run < other for other in runs)]
        assert tied_groups(ranks, 2.0) == largest


def test_cd_refuses_few_tasks_and_draws_ranks_and_the_difference(
    icons: Manifest, board: Board
) -> None:
    with pytest.raises(UsageError, match="at least 8 tasks, and this one has 3"):
        figure_bytes(Request(board), "cd", "svg")
    suite = dataclasses.replace(load_suite("icons-draws"), seeds=(0,))
    overall = {"source": 40.0, "finetune": 50.0, "lwf": 60.0}
    rows = [
        row(icons, label, task, overall=value + i / 10)
        for label, value in overall.items()
        for i, task in enumerate(suite.tasks)
    ]
    rows.append(row(icons, "gla", suite.tasks[0], overall=50.0))
    of_suite = build(suite, icons, rows)[0]
    content, caption = figure_bytes(Request(of_suite), "cd", "svg")
    assert caption.endswith(" Not drawn, because runs are missing, failed or not applicable: gla.")
    some = figure_bytes(Request(of_suite, methods=tuple(overall)), "cd", "svg")[1]
    assert "Not drawn" not in some
    text = content.decode()
    difference = f"{nemenyi_difference(3, 15):.2f}"
    assert f"critical difference {difference}" in text
    assert difference in caption
    assert all(name in text for name in ("lwf  1.0", "finetune  2.0", "source  3.0"))
    assert "Friedman test over 15 tasks: p &lt; 0.0001" in text


def test_the_curve_of_a_run_is_that_of_the_scorer(icons: Manifest) -> None:
    labels, seen = counted_samples(icons, TASKS[0]).labels, icons.seen_mask(icons.task(TASKS[0]))
    logits = RNG.normal(0, 1, (len(labels), seen.size))
    logits[np.arange(len(logits)), labels] += 2
    scores, outcomes = score_with_outcomes(logits, labels, seen)
    own = curve([(outcomes, seen[labels])], points=10_000)
    exact = calibration_curve(logits, labels, seen)
    assert own.zero == pytest.approx((scores.seen, scores.missing))
    assert -trapezoid(own.missing, own.seen) / 1e4 == pytest.approx(scores.ausuc, abs=1e-4)
    for gamma in (-1.0, 0.0, 1.0):
        i = np.searchsorted(own.gamma, gamma) - 1
        j = np.argmin(abs(exact.gamma - own.gamma[i]))
        assert own.seen[i] == pytest.approx(100 * exact.seen[j], abs=0.7)
        assert own.missing[i] == pytest.approx(100 * exact.missing[j], abs=0.7)


def test_class_accuracies_are_those_of_a_naive_loop(icons: Manifest, board: Board) -> None:
    request = Request(board)
    own = class_accuracies(request, "lwf")
    naive: dict[tuple[bool, int], dict[str, list[float]]] = {}
    for of_run, outcomes in request.outcomes("lwf"):
        samples = counted_samples(icons, of_run["task"])
        for index in set(samples.labels.tolist()):
            right = [r for r, y in zip(outcomes.right, samples.labels, strict=True) if y == index]
            key = bool(icons.seen_mask(icons.task(of_run["task"]))[index]), index
            tasks = naive.setdefault(key, {})
            tasks.setdefault(of_run["task"], []).append(100 * sum(right) / len(right))
    assert own == pytest.approx(
        {k: np.mean([np.mean(v) for v in tasks.values()]) for k, tasks in naive.items()}
    )


def test_of_many_classes_those_that_change_most_are_drawn(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where most of them gain: the smallest gains are left out, and not those between."""
    points = [*range(50, 0, -1), -5.5, -20]
    group = [classes.Change(f"class {p}", float(p)) for p in points]
    monkeypatch.setattr(classes, "changes", lambda *_: (group, group))
    drawing = draw(Request(board, methods=("lwf",)), "per-class")
    names = [text.get_text() for text in drawing.figure.axes[0].get_yticklabels()]
    largest = [f"class {p}" for p in range(50, 12, -1)]
    assert names == [*largest, "\N{VERTICAL ELLIPSIS}", "class -20"]
    assert "Left out: 26 smaller changes." in drawing.caption


def test_a_mean_change_of_classes_that_rounds_to_0_has_no_minus(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [classes.Change("a", -0.04)], [classes.Change("b", -0.06)]
    monkeypatch.setattr(classes, "changes", lambda *_: groups)
    text = figure_svg(board, "per-class", methods=("lwf",))
    assert "1 seen classes, mean +0.0" in text
    assert "1 missing classes, mean \N{MINUS SIGN}0.1" in text


def test_training_curves_are_means_at_common_steps_of_usable_losses() -> None:
    logs: list[list[dict[str, float]]] = [
        [{"step": 1, "loss": 2.0}, {"step": 5, "loss": 1.0}, {"step": 9, "loss": 1e300}],
        [{"step": 1, "loss": 4.0}, {"step": 5, "loss": 2.0}, {"step": 9, "loss": 1}, {"other": 1}],
    ]
    steps, losses = mean_curve(logs)
    assert (steps.tolist(), losses.tolist()) == ([1, 5], [3.0, 1.5])
    assert running_mean(np.arange(5.0), 0.6).tolist() == [0.5, 1, 2, 3, 3.5]
    below = [{"step": s, "loss": 1.0} for s in (-5, -3, 0)]  # a method logs what it wants
    assert mean_curve([below])[0].tolist() == [0]


def test_curves_read_logs_and_name_methods_without(board: Board) -> None:
    def log_of(of_run: Any) -> list[dict[str, float]]:
        return [{"step": s, "loss": 1 / s} for s in (1, 2)] if of_run["label"] == "lwf" else []

    _, caption = figure_bytes(
        Request(board, methods=("lwf", "source"), log_of=log_of), "curves", "svg"
    )
    assert "Without a logged loss: source." in caption
    with pytest.raises(UsageError, match="no training loss"):
        figure_bytes(Request(board, methods=("source",), log_of=log_of), "curves", "svg")
    with pytest.raises(UsageError, match="not published"):
        figure_bytes(Request(board), "curves", "svg")


def test_a_macro_board_is_drawn_by_macro_accuracy(icons: Manifest, suite: Suite) -> None:
    of_macro = macro_board(suite, icons)
    assert points(drawn(of_macro, "tradeoff")) == {(10.0, 10.0), (20.0, 20.0), (35.0, 35.0)}
    assert points(drawn(of_macro, "cost", cost="steps")) == {(10, 10), (10, 20), (10, 35)}
    for kind in ("cost", "profile"):
        text = figure_svg(of_macro, kind, cost="steps")
        assert "acro overall accuracy" in text, kind
    assert scores(Request(of_macro), ["mine"]).tolist() == [[[35.0]] * 3] * 3


def test_a_caption_says_mean_over_tasks_only_of_means(icons: Manifest, board: Board) -> None:
    assert "Suite icons, mean over 3 tasks, seeds 0-2." in drawing_of(board, "tradeoff").caption
    assert "Suite icons, 3 tasks, seeds 0-2." in drawing_of(board, "profile").caption
    one = drawing_of(board, "profile", task=TASKS[0]).caption
    assert f"Suite icons, {TASKS[0]}, seeds 0-2." in one
    for name, kind, tasks in (("icons-draws", "cd", 15), ("icons-partial", "partial", 16)):
        suite = dataclasses.replace(load_suite(name), seeds=(0,))
        overall = {"source": 40.0, "finetune": 50.0, "lwf": 60.0}
        rows = [row(icons, n, task, overall=v) for n, v in overall.items() for task in suite.tasks]
        caption = drawing_of(build(suite, icons, rows)[0], kind).caption
        assert f"Suite {name}, {tasks} tasks, seed 0." in caption
    assert caption.startswith("Accuracy, per cent, on all test images")


def test_the_caption_of_macro_accuracies_by_share_says_so(icons: Manifest) -> None:
    macro = dataclasses.replace(icons, document={**icons.document, "headline": "macro"})
    suite = dataclasses.replace(load_suite("icons-partial"), seeds=(0,))
    rows = [row(macro, label, task) for label in ("source", "lwf") for task in suite.tasks]
    caption = drawing_of(build(suite, macro, rows)[0], "partial").caption
    assert caption.startswith("Macro accuracy, per cent, on all test images")


def test_a_caption_promises_only_bars_that_are_drawn(icons: Manifest, suite: Suite) -> None:
    rows = [*grid(icons, "source"), *grid(icons, "finetune", overall=60.0)]
    for kind in ("tradeoff", "cost"):
        for seeds, has_bars in (((0, 1, 2), True), ((0,), False)):
            (of_seeds,) = build(dataclasses.replace(suite, seeds=seeds), icons, rows)
            caption = figure_bytes(Request(of_seeds), kind, "svg")[1]
            assert ("Bars are" in caption) == has_bars, (kind, seeds)


def test_the_weight_of_seen_accuracy(icons: Manifest, suite: Suite) -> None:
    of_macro = macro_board(suite, icons)
    micro = dataclasses.replace(of_macro, manifest=icons)
    for task, share in zip(TASKS, share_seen(Request(of_macro)), strict=True):
        assert share == pytest.approx(len(icons.task(task).seen) / len(icons.classes))
    for task, share in zip(TASKS, share_seen(Request(micro)), strict=True):
        assert share == counted_samples(icons, task).is_seen.mean()


@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
def test_files_are_the_same_for_the_same_inputs_whatever_the_users_settings(
    board: Board, form: str
) -> None:
    request = Request(board, width=3.3)
    first = figure_bytes(request, "tradeoff", form)
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30, "svg.hashsalt": None, "axes.grid": True}):
        assert figure_bytes(request, "tradeoff", form) == first
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("kind", ["tradeoff", "ausuc", "cost", "profile", "per-class"])
def test_text_of_an_svg_is_text(board: Board, kind: str) -> None:
    options = {"methods": ("lwf",)} if kind == "per-class" else {}
    text = figure_svg(board, kind, **options)
    assert text.startswith("<svg ")
    assert text.count("<title>") == 1
    assert "accuracy" in text if kind != "profile" else "behind the best" in text
    assert "style=" not in text
    assert "<style" not in text
    ids = re.findall(r' id="([^"]*)"', text)
    used = {*re.findall(r"url\(#([^)]*)\)", text), *re.findall(r'href="#([^"]*)"', text)}
    assert set(ids) == used
    assert len(ids) == len(set(ids))


def test_a_hostile_label_is_drawn_as_it_is(icons: Manifest, suite: Suite) -> None:
    rows = grid(icons, "source", overall=40.0, total_steps=0)
    rows += grid(icons, HOSTILE, overall=60.0, total_steps=10)
    rows += grid(icons, "y" * 140 + "$", overall=55.0, total_steps=20)
    of_label = build(suite, icons, rows)[0]
    for kind in ("tradeoff", "profile", "cost"):
        for form in ("pdf", "png"):
            figure_bytes(Request(of_label, cost="steps"), kind, form)
        text = figure_svg(of_label, kind, cost="steps")
        assert "<script" not in text
        assert "$" in text
        assert "y" * 40 not in text.partition("</title>")[2]


def test_labels_are_cut_in_the_middle() -> None:
    assert shown("lolsgd(" + "a" * 40 + "=5)", 11) == "lolsg…aa=5)"
    assert shown("short", 11) == "short"


def test_names_of_many_points_do_not_overlap() -> None:
    with settings(SETTINGS):
        figure = new_figure(6.8, 4)
        axes = add_panel(figure, 0.4, 0.4, 0.1, 0.1)
        axes.set(xlim=(0, 100), ylim=(0, 100))
        at = RNG.normal(60, 6, (14, 2))
        boxes = place_names(axes, [Name("name-of-a-method", x, y, "#000000") for x, y in at])
    for i, box in enumerate(boxes):
        assert all(box.overlap(other) == 0 for other in boxes[:i])


@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_the_name_of_a_point_on_a_curve_does_not_touch_its_marker(angle: int) -> None:
    along = 4 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    with settings(SETTINGS):
        axes = add_panel(new_figure(3.3, 3), 0.4, 0.4, 0.1, 0.1)
        axes.set(xlim=(-5, 5), ylim=(-5, 5))
        lines = [(tuple(-along), tuple(along))]
        (box,) = place_names(axes, [Name("a method (0.2)", 0, 0, "#000000")], lines=lines)
        x, y = axes.transData.transform((0, 0))
    assert box.overlap(Box(x - 3, y - 3, x + 3, y + 3)) == 0


def test_spread_keeps_order_and_distance_and_moves_little() -> None:
    assert spread([5.0, 5.0, 50.0], 10, 0, 100) == [0.0, 10.0, 50.0]
    assert spread([40.0, 40.0], 10, 0, 100) == [35.0, 45.0]
    assert spread([99.0, 98.0], 10, 0, 100) == [100.0, 90.0]


def test_an_incomplete_board_says_what_to_run(icons: Manifest, suite: Suite) -> None:
    rows = [row(icons, "finetune", TASKS[0], seed) for seed in range(3)]
    of_one = build(suite, icons, rows)[0]
    message = (
        r"no method has completed all tasks of suite icons; run `htbench run --suite icons` first, "
        f"or draw what there is with `--task {TASKS[0]}`$"
    )
    with pytest.raises(UsageError, match=message):
        figure_bytes(Request(of_one), "tradeoff", "svg")
    two = [*rows[:2], row(icons, "finetune", TASKS[1], 0)]
    of_seeds = build(suite, icons, two)[0]
    with pytest.raises(UsageError, match=f"with `--task {TASKS[0]} --seed 0-1`$"):
        figure_bytes(Request(of_seeds), "tradeoff", "svg")
    with pytest.raises(UsageError, match=f"task {TASKS[1]} of suite .* is with `--seed 0`$"):
        figure_bytes(Request(of_seeds, task=TASKS[1]), "tradeoff", "svg")
    others = [row(icons, "lwf", TASKS[0], 2), row(icons, "oracle-finetune", TASKS[1], 1)]
    of_different = build(suite, icons, [*two, *others])[0]
    with pytest.raises(UsageError, match=f"with `--task {TASKS[0]} --seed 0-1`$"):
        figure_bytes(Request(of_different), "tradeoff", "svg")
    both = [*[row(icons, "finetune", task, seed) for task in TASKS for seed in range(3)], others[0]]
    of_both = build(suite, icons, both)[0]
    with pytest.raises(
        UsageError, match=f"'lwf' .* is with `--task {TASKS[0]} --seed 2`, or choose"
    ):
        figure_bytes(Request(of_both, methods=("lwf",)), "tradeoff", "svg")
    refused = row(icons, "bn", TASKS[0], status="not-applicable", error_message="m", overall=None)
    of_refused = build(suite, icons, [*both, refused])[0]
    for task, words in ((MEAN, "some tasks of the suite"), (TASKS[0], f"task {TASKS[0]}")):
        with pytest.raises(UsageError, match=f"'bn' does not apply to {words}; choose another"):
            figure_bytes(Request(of_refused, task=task, methods=("bn",)), "tradeoff", "svg")
    published = dataclasses.replace(of_one, is_published=True)
    with pytest.raises(UsageError, match="all tasks of suite icons; leave out --published to draw"):
        figure_bytes(Request(published), "tradeoff", "svg")
    figure_bytes(Request(of_one, task=TASKS[0]), "tradeoff", "svg")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("profile", {"methods": ("oracle-finetune",)}, "is an oracle"),
        ("profile", {"methods": ("lfw",)}, "did you mean lwf"),
        ("per-class", {"methods": ("lwf", "source")}, "chooses 2"),
        ("per-class", {"methods": ("lwf",), "against": "lwf"}, "other than lwf"),
        ("cost", {"task": "outline-solid", "cost": "steps", "methods": ("nope",)}, "no runs of"),
        ("partial", {}, "several numbers of seen classes"),
        ("sensitivity", {}, "no results under several conditions"),
    ],
)
def test_refusals(board: Board, kind: str, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        figure_bytes(Request(board, **options), kind, "svg")


def test_partial_and_sensitivity_draw_the_numbers_of_the_board(icons: Manifest) -> None:
    from leaderboard.conditions import by_share

    suite = dataclasses.replace(load_suite("icons-partial"), seeds=(0,))
    rows = [
        row(icons, label, task, overall=base + i, seen=base + 10 + i, missing=base - 10 + i)
        for label, base in (("source", 40.0), ("finetune", 50.0))
        for i, task in enumerate(suite.tasks)
    ]
    rows.append(row(icons, "gla", suite.tasks[0], overall=50.0))
    of_suite = build(suite, icons, rows)[0]
    comparison = by_share(of_suite, icons)
    assert comparison is not None
    of_suite = dataclasses.replace(of_suite, comparisons=(comparison,))
    expected = set(comparison.overall.values())
    for kind in ("partial", "sensitivity"):
        panel = drawn(of_suite, kind).axes[0]
        lines = {
            tuple(map(float, ln.get_ydata())) for ln in panel.lines if len(ln.get_ydata()) == 4
        }
        assert lines == expected
    caption = figure_bytes(Request(of_suite), "sensitivity", "svg")[1]
    assert caption.endswith(" Not drawn, because runs are missing, failed or not applicable: gla.")
    assert [len(task.seen) for task in map(icons.task, suite.tasks[:8:2])] == [8, 16, 32, 48]
    assert panel.get_xlabel() == "of 65 seen"
