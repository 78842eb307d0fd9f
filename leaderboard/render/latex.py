"""Render the leaderboard as LaTeX: a table environment per board, to be read with ``\\input``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from benchmark.text import plural, seed_list
from leaderboard.board import MEAN, POOLED, Board, BoardCell
from leaderboard.columns import Column, column_of
from leaderboard.render.cells import (
    INCOMPLETE,
    coverage,
    declared_mark,
    in_brackets,
    rank_text,
    rounded,
)
from leaderboard.render.legend import interval_legend, main_task, rank_line

_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # Without a package, these print other characters: inverted marks, a dash, curly quotes.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\char96{}",
    '"': r"\char34{}",
    # A row that begins with one of these would be read as an argument of the row break before it.
    "[": "{[}",
    "*": "{*}",
    "±": r"$\pm$",
    "…": r"\ldots{}",
}
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 .,:;!?'()+=/@\]-]")
_LIGATURE = re.compile(r"([-',])(?=\1)")  # two of them print one other character


def latex_text(text: str) -> str:
    """Untrusted text for LaTeX, which prints it as it is.

    Characters outside ASCII that pdfLaTeX may not have become question marks.
    """
    escaped = _NOT_PLAIN.sub(lambda match: _SPECIAL.get(match[0], "?"), text)
    return _LIGATURE.sub(r"\1{}", escaped)


def to_latex(boards: Sequence[Board]) -> str:
    """A table for each board: its mean over tasks, or its only task."""
    labels: dict[str, None] = {}
    tables = [_table(board, _unique(_slug(board), labels)) for board in boards]
    head = "% In the preamble: \\usepackage{booktabs}\n"
    return "\n".join([head, *tables]) if tables else ""


def _slug(board: Board) -> str:
    """The name of a board for ``\\label``: letters, digits and hyphens."""
    tasks = board.suite.tasks
    words = f"{board.name} {tasks[0] if len(tasks) == 1 else ''}".lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "board"


def _unique(slug: str, taken: dict[str, None]) -> str:
    name, count = slug, 1
    while name in taken:
        count += 1
        name = f"{slug}-{count}"
    taken[name] = None
    return name


def latex_columns(board: Board) -> tuple[Column, ...]:
    """The columns of a table, which must fit a page: scores, and those that were asked for."""
    return tuple(c for c in board.shown_columns if c.sampled or c.key in board.optional_columns)


def _table(board: Board, label: str) -> str:
    task = main_task(board)
    shown = latex_columns(board)
    cells = board.of_task(task)
    order = [name for name in board.labels_of(task) if not math.isnan(cells[name]["overall"])]
    ranked = [name for name in order if cells[name]["track"] != "oracle"]
    best = {c.key: _best(board, task, c, {n: cells[n] for n in ranked}) for c in shown}
    has_ranks = bool(rank_line(board, task))

    def line(name: str) -> str:
        cell = cells[name]
        values = [_value(board, c, cell, bold=name in best[c.key]) for c in shown]
        return (
            " & ".join(
                [
                    *([rank_text(cell)] if has_ranks else []),
                    latex_text(name + in_brackets(coverage(board, cell))),
                    *values,
                ]
            )
            + r" \\"
        )

    oracles = [name for name in order if name not in ranked]
    rule = [r"\midrule"] if ranked and oracles else []
    body = [*map(line, ranked), *rule, *map(line, oracles)]
    heads = [*(["rank"] if has_ranks else []), "method", *(latex_text(c.heading) for c in shown)]
    return "\n".join(
        [
            *(f"% {c.heading}: {c.legend}" for c in shown),
            r"\begin{table}",
            r"  \centering",
            r"  \scriptsize",
            r"  \setlength{\tabcolsep}{3pt}",
            f"  \\caption{{{_caption(board, task, cells)}}}",
            f"  \\label{{tab:{label}}}",
            r"  \smallskip",
            f"  \\begin{{tabular}}{{@{{}}{'r' if has_ranks else ''}l{'r' * len(shown)}@{{}}}}",
            r"    \toprule",
            f"    {' & '.join(heads)} \\\\",
            r"    \midrule",
            *(f"    {row}" for row in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _value(board: Board, column: Column, cell: BoardCell, *, bold: bool) -> str:
    """A number in mathematics, where a hyphen is a minus; bold if it is among the best."""
    text, half = rounded(column, cell[column.key]), cell[f"{column.key}_half"]
    if text == "-":
        return "--"
    number = f"$\\mathbf{{{text}}}$" if bold else f"${text}$"
    if column.sampled and not math.isnan(half):
        number += f"{{\\tiny$\\pm{half:.{column.digits}f}$}}"
    return number + declared_mark(board, column, cell)


def _best(board: Board, task: str, column: Column, cells: Mapping[str, BoardCell]) -> set[str]:
    """The methods whose value is marked: the best, and those that are tied with it.

    In the column that ranks, methods are tied if the paired tests give them rank 1; without tests,
    and in other columns, if their values are equal as the table rounds them. Costs have no best.
    """
    if not column.sampled:
        return set()
    if column.key == board.headline[0] and rank_line(board, task):
        return {name for name, cell in cells.items() if cell["rank"] == 1}
    complete = {name: cell for name, cell in cells.items() if cell["state"] == "ok"}
    values = {name: cell[column.key] for name, cell in complete.items()}
    values = {name: value for name, value in values.items() if not math.isnan(value)}
    if not values:
        return set()
    choose: Callable[..., float] = min if column.lower_is_better else max
    best = rounded(column, choose(values.values()))
    return {name for name, value in values.items() if rounded(column, value) == best}


def _caption(board: Board, task: str, cells: Mapping[str, BoardCell]) -> str:
    """What the table shows, as sentences. What the columns mean is in comments above the table."""
    tasks = plural(len(board.suite.tasks), "task")
    averages = {MEAN: f"mean over {tasks}", POOLED: f"test images of {tasks} pooled"}
    what = averages.get(task, task)
    context = ", ".join(f"{n} {board.context[n]}" for n in ("manifest", "protocol", "network"))
    bold = "the best method, and those equal to it as rounded"
    if rank_line(board, task):
        heading = column_of(board.headline[0]).heading
        bold = f"in {heading} accuracy, the methods of rank 1; in other columns, {bold}"
    sentences = [
        f"{board.suite.title}: {what}; {seed_list(board.suite.seeds)}, {context}",
        *interval_legend(board),
        rank_line(board, task).rstrip("."),
        f"Bold: {bold}",
    ]
    if "shown" in board.context:  # a filter leaves methods out
        sentences.append(f"Shown: {board.context['shown']}")
    if any(cell["track"] == "oracle" for cell in cells.values()):
        sentences.append("Oracles, below the line, are not ranked")
    absent = [name for name in board.labels_of(task) if math.isnan(cells[name]["overall"])]
    if absent:
        sentences.append(f"Not shown, {INCOMPLETE}: {', '.join(absent)}")
    return " ".join(f"{latex_text(s[0].upper() + s[1:])}." for s in sentences if s)
