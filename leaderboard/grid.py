"""The numbers of many runs as arrays, by task, method and seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from leaderboard import columns
from leaderboard.row_columns import ArrayRow, Codes, Rows
from leaderboard.rows import SCHEMA, Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Grid:
    """Runs by task, label and seed: at most one for each.

    Attributes:
        tasks, labels, seeds: the axes of all arrays, T, L and K long.
        cells: (N,) index of the cell of each run in an array of shape (T, L, K).
    """

    def __init__(
        self,
        tasks: Sequence[str],
        labels: Sequence[str],
        seeds: Sequence[int],
        cells: NDArray[np.intp],
        rows: Rows,
    ) -> None:
        """Use :meth:`of_rows`.

        Args:
            tasks, labels, seeds: the axes.
            cells: (N,) index of the cell of each run in an array of shape (T, L, K).
            rows: the runs.
        """
        self.tasks, self.labels, self.seeds = tuple(tasks), tuple(labels), tuple(seeds)
        self.cells = cells
        self._rows = rows
        self._values: dict[str, Floats] = {}

    @classmethod
    def of_rows(cls, rows: Iterable[Row], tasks: Sequence[str], seeds: Sequence[int]) -> Grid:
        """The grid of rows, whose labels are sorted. All must be of these tasks and seeds."""
        rows = Rows.of(rows)
        labels = sorted(rows.codes("label").names)
        at_task, at_label, at_seed = (
            _positions(rows.codes(name), values)
            for name, values in (("task", tasks), ("label", labels), ("seed", seeds))
        )
        cells = (at_task * len(labels) + at_label) * len(seeds) + at_seed
        return cls(tasks, labels, seeds, cells, rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """T, L, K."""
        return len(self.tasks), len(self.labels), len(self.seeds)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """(T, L, K) whether there is a run."""
        present = np.zeros(self.shape, dtype=bool)
        present.reshape(-1)[self.cells] = True
        return present

    @cached_property
    def complete(self) -> NDArray[np.bool_]:
        """(T, L) whether there are runs of all seeds."""
        return np.asarray(self.present.all(axis=2))

    @cached_property
    def complete_on_all(self) -> NDArray[np.bool_]:
        """(L,) whether there are runs of all seeds on all tasks."""
        return np.asarray(self.complete.all(axis=0))

    def values(self, name: str) -> Floats:
        """(T, L, K) values of a column; NaN where there is no run, or it has no value."""
        if name not in self._values:
            values = np.full(self.shape, np.nan)
            values.reshape(-1)[self.cells] = self._rows.numbers(name)
            self._values[name] = values
        return self._values[name]

    def of_label(self, i: int, name: str) -> Floats:
        """(T, K) values of a column for the label at a position; see :meth:`values`."""
        return self.values(name)[:, i]


def _positions(codes: Codes, values: Sequence[Any]) -> NDArray[np.intp]:
    """(N,) where the value of each row is among some values."""
    position = {value: i for i, value in enumerate(values)}
    return np.array([position[name] for name in codes.names], dtype=np.intp)[codes.numbers]


def with_columns(rows: Iterable[Row], tasks: Sequence[str], seeds: Sequence[int]) -> Rows:
    """The rows with the values of the board's columns.

    Args:
        rows: of a table, at most one per label, task and seed.
        tasks, seeds: of the suite.
    """
    rows = Rows.of(rows)
    grid = Grid.of_rows(rows, tasks, seeds)
    peers = {
        label: ArrayRow(label, partial(grid.of_label, i)) for i, label in enumerate(grid.labels)
    }
    values = {column.key: np.empty(grid.shape) for column in columns.COLUMNS}
    for i, label in enumerate(grid.labels):
        for key, value in columns.column_values(peers[label], peers).items():
            values[key][:, i] = value
    # An entry of the row keeps its type, and is None where it has no value.
    more = {key: array for key, array in values.items() if key not in SCHEMA.names}
    return rows.with_values({key: array.reshape(-1)[grid.cells] for key, array in more.items()})
