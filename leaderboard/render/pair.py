"""Render the comparison of two methods for a terminal, as Markdown, as LaTeX and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.text import plural, printable_json, seed_list
from leaderboard.board import MEAN, POOLED
from leaderboard.pairs import MIN_IMAGES, ClassDifference, Pair
from leaderboard.render.asked import difference_text
from leaderboard.render.cells import literal, pipe_table, signed
from leaderboard.render.comparison import not_compared
from leaderboard.render.latex import latex_text
from leaderboard.render.legend import POOLED_ACCURACIES, interval_line
from leaderboard.render.terminal import Grid, Screen, bullets, wrapped

if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_CLASSES = 5  # gains and losses that are shown
POOLED_NAME = "pooled test images"
CLASS_HEADINGS = ("group", "n", "first", "second", "difference")


def task_name(pair: Pair, task: str) -> str:
    """The name of a task, of the mean over the suite's tasks, or of their pooled test images."""
    mean = f"mean over {plural(len(pair.board.suite.tasks), 'task')}"
    return {MEAN: mean, POOLED: POOLED_NAME}.get(task, task)


def p_text(p: float) -> str:
    """A p-value for people."""
    if math.isnan(p):
        return "-"
    return "<0.0001" if p < 0.0001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _headings(pair: Pair) -> list[str]:
    return ["first", "second", *(column.heading for column in pair.metrics), "p"]


def _rows(pair: Pair) -> list[list[str]]:
    """Task, both overall accuracies, the differences of all metrics, and p of the first."""
    rows = []
    for task in pair.tasks:
        differences = [pair.difference(task, metric) for metric in pair.board.headline]
        values = [pair.value(label, task) for label in (pair.first, pair.second)]
        rows.append(
            [
                task_name(pair, task),
                *("-" if math.isnan(value) else f"{value:.1f}" for value in values),
                *("-" if d is None else difference_text(d) for d in differences),
                "-" if differences[0] is None else p_text(differences[0].p),
            ]
        )
    return rows


def _class_rows(classes: Sequence[ClassDifference]) -> list[list[str]]:
    return [
        [
            c.name,
            c.group,
            str(c.n),
            f"{c.first:.1f}",
            f"{c.second:.1f}",
            signed(c.difference, 1),
        ]
        for c in classes
    ]


def _legend(pair: Pair) -> list[str]:
    names = [column.heading for column in pair.metrics]
    return [
        f"first and second: {names[0]} accuracy in per cent; {', '.join(names)}: the paired "
        "difference, first minus second, on the same tasks, seeds and test images, in points",
        f"p: two-sided, of no difference in {names[0]} accuracy, for this pair alone; "
        f"{seed_list(pair.board.suite.seeds)}",
        *filter(None, [interval_line(pair.board)]),
        *_pooled_legend(pair),
        *([not_compared(pair.left_out)] if pair.left_out else []),
    ]


def _pooled_legend(pair: Pair) -> list[str]:
    """What the row of pooled test images is, or why it has no value."""
    if POOLED not in pair.averages:
        return []
    legend = f"{POOLED_NAME}: {POOLED_ACCURACIES}"
    if math.isnan(pair.value(pair.first, POOLED)):
        legend += "; not known here, because accuracies of classes need the outcome of each image"
    return [legend]


def _sections(pair: Pair) -> list[tuple[str, list[list[str]]]]:
    """The classes with the largest gains and losses of the first method."""
    gains, losses = pair.largest(MAX_CLASSES)
    sections = [("Classes that gain most", gains), ("Classes that lose most", losses)]
    return [(heading, _class_rows(classes)) for heading, classes in sections if classes]


def _few_images(pair: Pair) -> list[str]:
    """How many classes the sections leave out, because they have few test images."""
    n_few = sum(row.n < MIN_IMAGES for row in pair.classes)
    if not n_few:
        return []
    has_both = len({row.name for row in pair.classes}) < len(pair.classes)
    twice = " (one that is seen in some tasks and missing in others counts twice)" * has_both
    return [
        f"gains and losses: of {plural(len(pair.classes), 'class')}{twice}, {n_few} with fewer "
        f"than {MIN_IMAGES} test images are left out; --format json has every class"
    ]


def pair_terminal(pair: Pair, screen: Screen) -> str:
    """Render for a terminal."""
    parts: list[RenderableType] = [
        wrapped(pair.board.name, "bold"),
        wrapped(f"first:  {pair.first}"),
        wrapped(f"second: {pair.second}"),
        "",
    ]
    tables = [("", ["task", *_headings(pair)], _rows(pair))]
    tables += [(heading, ["class", *CLASS_HEADINGS], rows) for heading, rows in _sections(pair)]
    for heading, headers, rows in tables:
        grid = Grid(headers, 1, [(row, "") for row in rows])
        # Differences first, so that they stay where little fits.
        order = [3, 5, 4, 6, 1, 2] if not heading else [5, 1, 3, 4, 2]
        parts += [wrapped(heading, "bold")] if heading else []
        table = grid.fit(screen.width, order)
        if "second" in grid.hidden:  # the two accuracies are shown together or not at all
            both = ("first", "second")
            table = grid.fit(screen.width, [i for i in order if headers[i] not in both])
        parts.append(table)
        if grid.hidden:
            parts.append(f"hidden at this width: {', '.join(grid.hidden)}")
        parts.append("")
    return screen.text([*parts, bullets([*_legend(pair), *_few_images(pair)])])


def pair_markdown(pair: Pair) -> str:
    """Render as Markdown."""
    lines = [
        f"# {literal(pair.first)} against {literal(pair.second)}",
        "",
        f"- table: {literal(pair.board.name)}",
        *(f"- {literal(line)}" for line in [*_legend(pair), *_few_images(pair)]),
        "",
        pipe_table(["task", *_headings(pair)], _rows(pair), left=1),
        "",
    ]
    for heading, rows in _sections(pair):
        escaped = [[literal(row[0]), *row[1:]] for row in rows]
        table = pipe_table(["class", *CLASS_HEADINGS], escaped, left=2)
        lines += [f"## {heading}", "", table, ""]
    return "\n".join(lines)


def pair_json(pair: Pair) -> str:
    """Render as JSON, unrounded, with every class."""
    return printable_json(pair.as_dict()) + "\n"


def _latex_number(text: str) -> str:
    """A number with its sign and interval, in mathematics: a hyphen there is a minus."""
    if text.startswith("<"):
        return f"${text}$"
    return "--" if text == "-" else f"${text.replace('±', chr(92) + 'pm')}$"


def pair_latex(pair: Pair) -> str:
    """Render the table of tasks as LaTeX, for a document that loads ``booktabs``."""
    rows = [
        " & ".join([latex_text(task), *map(_latex_number, numbers)]) + r" \\"
        for task, *numbers in _rows(pair)
    ]
    if 0 < len(pair.averages) < len(rows):
        rows.insert(len(pair.averages), r"\midrule")
    caption = "; ".join(_legend(pair))
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{"
        + latex_text(f"{pair.first} (first) against {pair.second} (second). {caption}")
        + "}",
        r"\begin{tabular}{l" + "r" * len(_headings(pair)) + "}",
        r"\toprule",
        " & ".join(["task", *_headings(pair)]) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
