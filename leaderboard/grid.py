"""The numbers of many runs as arrays, by task, method and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from leaderboard import columns
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
        column: Callable[[str], Floats],
    ) -> None:
        """Use :meth:`of_rows` or :meth:`of_table`.

        Args:
            tasks, labels, seeds: the axes.
            cells: (N,) index of the cell of each run in an array of shape (T, L, K).
            column: the (N,) values of a column of the runs.
        """
        self.tasks, self.labels, self.seeds = tuple(tasks), tuple(labels), tuple(seeds)
        self.cells = cells
        self._column = column
        self._values: dict[str, Floats] = {}

    @classmethod
    def of_rows(cls, rows: Sequence[Row], tasks: Sequence[str], seeds: Sequence[int]) -> Grid:
        """The grid of rows, whose labels are sorted."""
        labels = sorted({row["label"] for row in rows})
        at_task, at_label, at_seed = map(_positions, (tasks, labels, seeds))
        n, k = len(labels), len(seeds)
        cells = np.fromiter(
            (
                (at_task[row["task"]] * n + at_label[row["label"]]) * k + at_seed[row["seed"]]
                for row in rows
            ),
            dtype=np.intp,
            count=len(rows),
        )

        def column(name: str) -> Floats:
            return np.array([row[name] for row in rows], dtype=np.float64)

        return cls(tasks, labels, seeds, cells, column)

    @classmethod
    def of_table(cls, results: pa.Table, tasks: Sequence[str], seeds: Sequence[int]) -> Grid:
        """The grid of results, all of which must be of these tasks and seeds.

        Args:
            results: with the columns ``task``, ``label`` and ``seed`` and those of numbers.
        """
        import pyarrow.compute as pc

        codes = results["label"].combine_chunks().dictionary_encode()
        known = codes.dictionary.to_pylist()
        labels = sorted(known)
        position = _positions(labels)
        at_label = np.array([position[name] for name in known], dtype=np.intp)
        at_task, at_seed = (
            pc.index_in(results[name], pa.array(values, results.schema.field(name).type)).to_numpy()
            for name, values in (("task", tasks), ("seed", seeds))
        )
        cells = (at_task * len(labels) + at_label[codes.indices.to_numpy()]) * len(seeds) + at_seed

        def column(name: str) -> Floats:
            values: Floats = results[name].to_numpy().astype(np.float64, copy=False)
            return values

        return cls(tasks, labels, seeds, cells, column)

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

    def values(self, name: str) -> Floats:
        """(T, L, K) values of a column; NaN where there is no run, or it has no value."""
        if name not in self._values:
            values = np.full(self.shape, np.nan)
            values.reshape(-1)[self.cells] = self._column(name)
            self._values[name] = values
        return self._values[name]


def _positions(names: Iterable[Any]) -> Mapping[Any, int]:
    return {name: i for i, name in enumerate(names)}


def with_columns(rows: Sequence[Row], tasks: Sequence[str], seeds: Sequence[int]) -> list[Row]:
    """The rows with the values of the board's columns.

    Args:
        rows: of a table, at most one per label, task and seed.
        tasks, seeds: of the suite.
    """
    grid = Grid.of_rows(rows, tasks, seeds)
    peers: dict[str, Row] = {label: _OfLabel(label, i, grid) for i, label in enumerate(grid.labels)}
    keys = [column.key for column in columns.COLUMNS]
    values = np.empty((len(keys), *grid.shape))
    for i, label in enumerate(grid.labels):
        for c, value in enumerate(columns.column_values(peers[label], peers).values()):
            values[c, :, i] = value
    of_rows = values.reshape(len(keys), -1)[:, grid.cells].T.tolist()
    return [
        {**row, **dict(zip(keys, of_row, strict=True))}
        for row, of_row in zip(rows, of_rows, strict=True)
    ]


class _OfLabel(Mapping[str, Any]):
    """All runs of a label as one row, whose numbers are arrays of shape (T, K)."""

    def __init__(self, label: str, i: int, grid: Grid) -> None:
        self._label = label
        self._i = i
        self._grid = grid

    def __getitem__(self, name: str) -> Any:
        return self._label if name == "label" else self._grid.values(name)[:, self._i]

    def __iter__(self) -> Any:
        return iter(SCHEMA.names)

    def __len__(self) -> int:
        return len(SCHEMA.names)
