"""What a figure is drawn from: a board, and what the user chose of it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmark.commands import seed_words
from benchmark.errors import MAX_ITEM, UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import run_command
from benchmark.records import NOT_APPLICABLE
from benchmark.text import one_line, plural, seed_list
from leaderboard.board import MEAN, Board, BoardCell
from leaderboard.columns import HEADLINES, REFERENCES, SOURCE
from leaderboard.filters import check_known, is_method
from leaderboard.outcomes import Outcomes
from leaderboard.render.cells import INCOMPLETE
from leaderboard.rows import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.3, 6.8  # inches, of one column and of both in a paper
WIDTHS = {"column": COLUMN, "page": PAGE}
MIN_WIDTH, MAX_WIDTH = 2.5, 20.0
MAX_NAMES = 3  # of methods that are not drawn

# The training log of a row's run.
LogOf = Callable[[Row], Sequence[Mapping[str, float]]]


def inches(width: str) -> float:
    """The width that ``column``, ``page`` or a number of inches names.

    Raises:
        UsageError: it is none of these.
    """
    if width in WIDTHS:
        return WIDTHS[width]
    try:
        value = float(width)
    except ValueError:
        value = math.nan
    if not MIN_WIDTH <= value <= MAX_WIDTH:
        raise UsageError(
            f"--width {one_line(width, MAX_ITEM)} must be {' or '.join(WIDTHS)}, or a number of "
            f"inches from {MIN_WIDTH:g} to {MAX_WIDTH:g}"
        )
    return value


class Drawing(NamedTuple):
    """A figure, and the sentences that explain it below it in a paper."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Request:
    """What to draw.

    Attributes:
        board: the table that the figure shows.
        task: a task of its suite, or ``MEAN``.
        methods: names or labels of methods to name in the figure; chosen by the figure if empty.
        width: of the figure, in inches.
        against: of ``per-class``: the method that is subtracted.
        lines: of ``tradeoff``: what is constant along the grey lines, ``overall`` or ``harmonic``.
        cost: of ``cost``: ``seconds`` or ``steps``.
        by: of ``sensitivity``: ``recipe``, ``draw`` or ``share``; the first that exists if None.
        log_of: of ``curves``: reads training logs; None where only rows are known.
    """

    board: Board
    task: str = MEAN
    methods: tuple[str, ...] = ()
    width: float = PAGE
    against: str = SOURCE
    lines: str = "overall"
    cost: str = "seconds"
    by: str | None = None
    log_of: LogOf | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the figure is about."""
        return self.board.suite.tasks if self.task == MEAN else (self.task,)

    @property
    def accuracies(self) -> tuple[str, ...]:
        """Keys of the columns of overall, seen and missing accuracy that the board shows first."""
        return self.board.headline

    @property
    def is_macro(self) -> bool:
        """Whether these are means over classes."""
        return self.accuracies == HEADLINES["macro"]

    @property
    def overall(self) -> str:
        """What the accuracy is called that ranks the methods: overall, or macro overall."""
        return "macro overall accuracy" if self.is_macro else "overall accuracy"

    @property
    def manifest(self) -> Manifest:
        """The suite's manifest."""
        assert self.board.manifest is not None  # every board that is built from rows has one
        return self.board.manifest

    @property
    def is_narrow(self) -> bool:
        """Whether the figure is about as wide as one column of a paper."""
        return self.width < 0.7 * PAGE

    @property
    def remedy(self) -> str:
        """What to do about missing runs, in the second half of a message."""
        board = self.board
        if board.is_published:
            return "leave out --published to draw the results of a workspace"
        return f"run `{run_command(board.suite, *board.workspace_option)}` first"

    def _or_part(self, methods: Sequence[str] = ()) -> str:
        """After ``remedy``: how to draw the most runs of one task that a ranked method has.

        Args:
            methods: only these; all if empty.

        Returns:
            The end of a message, or nothing if there are no runs.
        """
        rows = self.board.rows
        ok = rows.where(rows.equal("status", "ok") & rows.is_in("task", self.tasks))
        seeds: dict[tuple[str, str], set[int]] = {}
        for row in ok.dicts(["track", "task", "label", "seed"]):
            if row["track"] != "oracle" and (not methods or is_method(row["label"], methods)):
                seeds.setdefault((row["task"], row["label"]), set()).add(row["seed"])
        if not seeds:
            return ""
        (task, _), most = max(seeds.items(), key=lambda item: len(item[1]))
        words = [] if task == self.task else ["--task", task]
        if most != set(self.board.suite.seeds):
            words += seed_words(most)
        return f", or draw what there is with `{shlex.join(words)}`" if words else ""

    def cells(self) -> dict[str, BoardCell]:
        """The complete cells by label, the best first and oracles last.

        Raises:
            UsageError: there are none.
        """
        cells = self.board.of_task(self.task)
        complete = {
            label: cells[label]
            for label in self.board.labels_of(self.task)
            if cells[label]["state"] == "ok" and not math.isnan(cells[label][self.accuracies[0]])
        }
        if not complete:
            what = "all tasks" if self.task == MEAN else f"task {self.task}"
            raise UsageError(
                f"no method has completed {what} of suite {self.board.suite.name}; {self.remedy}"
                f"{self._or_part()}"
            )
        return complete

    def ranked(self) -> list[str]:
        """The complete labels that are not oracles, the best first.

        Raises:
            UsageError: there are none.
        """
        labels = [label for label, cell in self.cells().items() if cell["track"] != "oracle"]
        if not labels:
            raise UsageError(
                f"only oracles have completed suite {self.board.suite.name}; {self.remedy}"
            )
        return labels

    def chosen(self, among: Sequence[str]) -> list[str]:
        """The labels of the methods that the user named, in the order of ``among``.

        Args:
            among: labels that the figure can show.

        Raises:
            UsageError: a method does not exist, or has no complete results.
        """
        cells = self.board.of_task(self.task)
        for method in self.methods:
            check_known(method, self.board.labels)
            if any(is_method(label, [method]) for label in among):
                continue
            name = one_line(repr(method), MAX_ITEM)
            if any(
                is_method(label, [method]) and cell["track"] == "oracle" and cell["state"] == "ok"
                for label, cell in cells.items()
            ):
                raise UsageError(f"{name} is an oracle, which this figure leaves out; name another")
            states = {cell["state"] for label, cell in cells.items() if is_method(label, [method])}
            if states == {NOT_APPLICABLE}:
                what = "some tasks of the suite" if self.task == MEAN else f"task {self.task}"
                raise UsageError(
                    f"{name} does not apply to {what}; choose another --method"
                    f"{self._or_part([method])}"
                )
            raise UsageError(
                f"{name} does not have all of its runs; {self.remedy}{self._or_part([method])}, or "
                "choose another --method"
            )
        return [label for label in among if self.methods and is_method(label, self.methods)]

    def named(self, among: Sequence[str], limit: int) -> list[str]:
        """The labels to name: the chosen ones, else the references and the best up to a limit."""
        if chosen := self.chosen(among):
            return chosen
        if len(among) <= limit:
            return list(among)
        references = [label for label in REFERENCES if label in among]
        others = [label for label in among if label not in references]
        kept = {*references, *others[: max(0, limit - len(references))]}
        return [label for label in among if label in kept]

    def rows(self, label: str) -> list[Row]:
        """The rows with scores of a label on the tasks, by task and seed."""
        order = {task: i for i, task in enumerate(self.tasks)}
        rows = self.board.rows
        of_label = rows.equal("label", label) & rows.equal("status", "ok")
        return sorted(
            rows.where(of_label & rows.is_in("task", order)),
            key=lambda row: (order[row["task"]], row["seed"]),
        )

    def outcomes(self, label: str) -> list[tuple[Row, Outcomes]]:
        """The rows of a label with the outcomes of their test samples.

        Raises:
            UsageError: they are not known for some row.
        """
        pairs = []
        for row in self.rows(label):
            known = None if self.board.outcomes is None else self.board.outcomes(row)
            if known is None:
                raise UsageError(
                    f"the predictions of {label} on {row['task']}, seed {row['seed']}, are not "
                    f"available; {self.remedy}, or choose another --method"
                )
            pairs.append((row, known))
        return pairs

    def what(self, *, is_mean: bool = True) -> str:
        """Suite, tasks and seeds, for captions.

        Args:
            is_mean: whether the figure shows means over the tasks.
        """
        suite = self.board.suite
        several = f"{'mean over ' * is_mean}{len(suite.tasks)} tasks"
        tasks = several if len(self.tasks) > 1 else self.tasks[0]
        return f"Suite {suite.name}, {tasks}, {seed_list(suite.seeds)}."

    def not_drawn(self, drawn: Sequence[str]) -> str:
        """A sentence about the labels of the board that a figure leaves out; or empty."""
        return incomplete(label for label in self.board.labels if label not in drawn)


def in_grey(drawn: Sequence[str], named: Sequence[str]) -> str:
    """A sentence about the methods that a figure draws in grey, without a name; empty if none."""
    count = len(drawn) - len(named)
    return f" Grey: {plural(count, 'other method')}." if count else ""


def incomplete(labels: Iterable[str]) -> str:
    """A sentence about labels that are left out of a figure; empty if there are none."""
    left = sorted(labels)
    if not left:
        return ""
    names = ", ".join(left[:MAX_NAMES])
    more = f" and {len(left) - MAX_NAMES} more" if len(left) > MAX_NAMES else ""
    return f" Not drawn, {INCOMPLETE}: {names}{more}."


def scores(request: Request, labels: Sequence[str]) -> np.ndarray:
    """The overall accuracies of complete labels, float64 of shape (tasks, seeds, labels)."""
    seeds = request.board.suite.seeds
    values = np.empty((len(request.tasks), len(seeds), len(labels)))
    for j, label in enumerate(labels):
        of_cell = {
            (row["task"], row["seed"]): row[request.accuracies[0]] for row in request.rows(label)
        }
        for t, task in enumerate(request.tasks):
            for k, seed in enumerate(seeds):
                values[t, k, j] = of_cell[task, seed]
    return values
