"""Render the cells that a run was asked for, beside reference methods on the same cells."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmark.commands import command, seed_words
from benchmark.networks.names import network_label
from benchmark.text import plural, seed_list
from leaderboard.board import MEAN, Board, BoardCell
from leaderboard.columns import FINETUNE, REFERENCES, Column, column_of
from leaderboard.filters import only
from leaderboard.render.cells import cell_note, cell_value, literal, pipe_table, signed
from leaderboard.render.legend import interval_line
from leaderboard.render.markdown import remark_lists
from leaderboard.render.terminal import CommandLine, Grid, Screen, bullets, wrapped
from leaderboard.render.terminal import remark_lists as terminal_remarks
from leaderboard.statistics import Difference

if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_TASKS = 8  # beyond which only the mean is shown


@dataclass(frozen=True)
class AskedCells:
    """The cells that a run was asked for.

    Attributes:
        board: the table of these tasks and seeds.
        asked: labels that were asked for.
        whole: the words of the command that shows the whole board.
    """

    board: Board
    asked: Collection[str]
    whole: Sequence[str]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that are shown, the mean first if there are several."""
        tasks = self.board.suite.tasks
        if len(tasks) == 1:
            return tasks
        return (MEAN, *tasks) if len(tasks) <= MAX_TASKS else (MEAN,)

    def labels(self, task: str) -> list[str]:
        """What was asked for, source, finetune, the best method and the oracle, best first."""
        cells = self.board.of_task(task)
        ranked = [
            label
            for label in self.board.labels_of(task)
            if cells[label]["track"] != "oracle"
            and not math.isnan(cells[label][self.board.headline[0]])
        ]
        wanted = {*self.asked, *REFERENCES, *ranked[:1]}
        return [label for label in self.board.labels_of(task) if label in wanted]

    @property
    def absent(self) -> list[str]:
        """The references that have no run on these cells."""
        cells = self.board.of_task(MEAN)
        return [name for name in REFERENCES if name not in cells]

    @property
    def _columns(self) -> tuple[Column, ...]:
        """Overall, seen and missing accuracy, as the whole board shows them first."""
        return tuple(map(column_of, self.board.headline))

    def values(self, task: str, cell: BoardCell) -> list[str]:
        """A label's cells: overall, the difference from finetune, seen and missing accuracy."""
        overall, *others = (cell_value(self.board, column, cell) for column in self._columns)
        return [overall, self._difference(task, cell["label"]), *others]

    def _difference(self, task: str, label: str) -> str:
        statistics = self.board.statistics
        if label == FINETUNE or statistics is None:
            return ""
        difference = statistics.difference(label, FINETUNE, task)
        return "-" if difference is None else difference_text(difference)

    @property
    def headings(self) -> list[str]:
        """The headings of the numbers."""
        overall, *others = (column.heading for column in self._columns)
        return [overall, f"vs {FINETUNE}", *others]

    @property
    def legend(self) -> list[str]:
        """What the table shows."""
        lines = [
            "*: asked for; the others are there for comparison",
            f"vs {FINETUNE}: the paired difference in {self.headings[0]} accuracy on the same "
            "tasks, seeds and test images, in points",
        ]
        return [*lines, *filter(None, [interval_line(self.board)])]

    @property
    def part(self) -> Board:
        """The board with only what was asked for, whose remarks are listed."""
        (part,) = only([self.board], self.asked, ())
        return replace(part, name="")

    @property
    def ways_on(self) -> Iterator[tuple[str, str]]:
        """Sentences with a command each: how to get absent references, and the whole board."""
        suite = self.board.suite
        if self.absent:
            methods = [word for name in self.absent for word in ("--method", name)]
            cells = [word for task in suite.tasks for word in ("--task", task)]
            cells += seed_words(suite.seeds)
            where = ("--suite", suite.argument, *self._model, *cells, *self.board.workspace_option)
            names = ", ".join(self.absent)
            yield f"No runs of {names} to compare with:", command("run", *where, *methods)
        yield "The whole board:", command(*self.whole)

    @property
    def _model(self) -> tuple[str, ...]:
        """The option that names the network, if it is not the manifest's."""
        network, manifest = self.board.context["network"], self.board.manifest
        if manifest is None or network == network_label(manifest.document["model"]):
            return ()
        return ("--model", network)


def difference_text(difference: Difference) -> str:
    """A difference with its sign, and half the width of its interval; a dash without a value."""
    if math.isnan(difference.value):
        return "-"
    value = signed(difference.value, 1)
    return value if math.isnan(difference.half) else f"{value} ± {difference.half:.1f}"


def _name(board: Board, task: str) -> str:
    return f"mean over {plural(len(board.suite.tasks), 'task')}" if task == MEAN else task


def asked_markdown(asked: AskedCells) -> str:
    """Render as Markdown."""
    board = asked.board
    rows = []
    for task in asked.tasks:
        cells = board.of_task(task)
        for label in asked.labels(task):
            mark = r"\* " if label in asked.asked else ""
            name = f"{mark}{literal(label)}{cell_note(board, cells[label])}"
            rows.append([_name(board, task), name, *asked.values(task, cells[label])])
    lines = [
        f"# Runs: {literal(board.name)}",
        "",
        f"- {seed_list(board.suite.seeds)}",
        *(f"- {literal(line)}" for line in asked.legend),
        "",
        pipe_table(["task", "method", *asked.headings], rows, left=2),
        "",
        *remark_lists([asked.part]),
        *(f"{sentence} `{words}`" for sentence, words in asked.ways_on),
    ]
    return "\n".join(lines) + "\n"


def asked_terminal(asked: AskedCells, screen: Screen) -> str:
    """Render for a terminal."""
    board = asked.board
    grid = Grid(["method", *asked.headings], 1)
    for task in asked.tasks:
        cells = board.of_task(task)
        if grid.rows:
            grid.breaks.add(len(grid.rows) - 1)
        grid.styles[len(grid.rows)] = "italic"
        grid.rows.append(([_name(board, task), *[""] * len(asked.headings)], ""))
        for label in asked.labels(task):
            is_asked = label in asked.asked
            if is_asked:
                grid.styles[len(grid.rows)] = "bold"
            values = asked.values(task, cells[label])
            grid.rows.append(
                ([f"{'*' if is_asked else ' '} {label}", *values], cell_note(board, cells[label]))
            )
    table = grid.fit(screen.width, [grid.left + i for i in range(len(asked.headings))])
    parts: list[RenderableType] = [
        wrapped(f"{board.name}, {seed_list(board.suite.seeds)}", "bold"),
        "",
        table,
        "",
        bullets(asked.legend),
        "",
        *terminal_remarks([asked.part], asked.whole),
    ]
    for sentence, words in asked.ways_on:
        parts += [sentence, CommandLine(f"  {words}")]
    return screen.text(parts)
