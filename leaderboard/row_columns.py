"""Rows as columns: a table of a million rows fits into memory, and is built in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import pyarrow as pa

from leaderboard.rows import SCHEMA, Row, column_values, rows_of_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 4096  # rows that are built at a time


class Codes(NamedTuple):
    """A column of text or whole numbers: the value of row i is ``names[numbers[i]]``."""

    numbers: NDArray[np.intp]
    names: list[Any]  # None where there is no value


class ArrayRow(Mapping[str, Any]):
    """Several runs of a label as one row, whose numbers are arrays: columns compute with both.

    Args:
        label: the label.
        numbers: gives the array of a column of numbers, whose shape is that of the runs.
    """

    def __init__(self, label: str, numbers: Callable[[str], NDArray[np.float64]]) -> None:
        self._label, self._numbers = label, numbers

    def __getitem__(self, name: str) -> Any:
        return self._label if name == "label" else self._numbers(name)

    def __iter__(self) -> Iterator[str]:
        return iter(SCHEMA.names)

    def __len__(self) -> int:
        return len(SCHEMA.names)


class Rows(Sequence[Row]):
    """Rows of the results. A row is only built, as a dictionary, when it is asked for."""

    def __init__(
        self,
        table: pa.Table,
        index: NDArray[np.intp] | None = None,
        values: Mapping[str, NDArray[np.float64]] | None = None,
    ) -> None:
        """Use :meth:`of` for a list of rows.

        Args:
            table: the columns of ``SCHEMA``.
            index: (N,) which rows of the table these are; by default all.
            values: (N,) numbers that the rows have besides those of the table, or instead.
        """
        self._table = table
        self._index = index
        self._values = dict(values or {})
        self._codes: dict[str, Codes] = {}

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Rows:
        """The rows as columns. Entries that are not in the schema must be numbers."""
        if isinstance(rows, cls):
            return rows
        rows = list(rows)
        more = [name for name in (rows[0] if rows else ()) if name not in SCHEMA.names]
        values = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in more}
        columns = {
            field.name: pa.array(
                [row.get(field.name) for row in rows], field.type, from_pandas=True
            )
            for field in SCHEMA
        }
        return cls(pa.table(columns, schema=SCHEMA), None, values)

    def __len__(self) -> int:
        return self._table.num_rows if self._index is None else len(self._index)

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> Rows: ...

    def __getitem__(self, at: int | slice) -> Row | Rows:
        """A row, or some of the rows."""
        positions = np.arange(len(self))[at]
        if isinstance(at, slice):
            return self.take(positions)
        return self.take(np.array([positions]))._dicts()[0]

    def __iter__(self) -> Iterator[Row]:
        for begin in range(0, len(self), _BLOCK):
            yield from self[begin : begin + _BLOCK]._dicts()

    def dicts(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The rows with only some columns of the table."""
        table = self._table.select(list(names))
        return rows_of_table(table if self._index is None else table.take(pa.array(self._index)))

    def _dicts(self) -> list[dict[str, Any]]:
        rows = self.dicts(self._table.column_names)
        for name, values in self._values.items():
            for row, value in zip(rows, values.tolist(), strict=True):
                row[name] = value
        return rows

    def take(self, positions: NDArray[np.intp]) -> Rows:
        """The rows at some positions."""
        index = positions if self._index is None else self._index[positions]
        return Rows(
            self._table, index, {k: values[positions] for k, values in self._values.items()}
        )

    def where(self, keep: NDArray[np.bool_]) -> Rows:
        """The rows for which an (N,) array is true."""
        return self if keep.all() else self.take(np.flatnonzero(keep))

    def joined(self, other: Rows) -> Rows:
        """These rows and others of the same table."""
        assert self._table is other._table
        return Rows(self._table, np.concatenate([self.positions, other.positions]))

    def with_values(self, values: Mapping[str, NDArray[np.float64]]) -> Rows:
        """The rows with more numbers, each an (N,) array."""
        return Rows(self._table, self._index, {**self._values, **values})

    def with_text(self, name: str, codes: Codes) -> Rows:
        """The rows, copied, with other values of a column of text."""
        table = self._table if self._index is None else self._table.take(pa.array(self._index))
        column = pa.DictionaryArray.from_arrays(pa.array(codes.numbers), pa.array(codes.names))
        at = table.schema.get_field_index(name)
        table = table.set_column(at, SCHEMA.field(name), column.cast(pa.string()))
        return Rows(table, None, self._values)

    @property
    def positions(self) -> NDArray[np.intp]:
        """(N,) positions of the rows in their table."""
        return np.arange(self._table.num_rows) if self._index is None else self._index

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the table."""
        column = self._table[name]
        return column if self._index is None else column.take(pa.array(self._index))

    def texts(self, name: str) -> list[Any]:
        """The values of a column of text; None where there is none."""
        return column_values(self.column(name))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """(N,) values of a column of numbers; NaN where there is none."""
        if name in self._values:
            return self._values[name]
        column = self._table[name]
        values = column.to_numpy().astype(np.float64, copy=False)
        return np.asarray(values if self._index is None else values[self._index])

    def is_known(self, name: str) -> NDArray[np.bool_]:
        """(N,) whether a column of the table has a value."""
        return np.asarray(self.column(name).is_valid().to_numpy())

    def equal(self, name: str, value: str) -> NDArray[np.bool_]:
        """(N,) whether a column of text has a value."""
        return self.is_in(name, [value])

    def is_in(self, name: str, values: Iterable[Any]) -> NDArray[np.bool_]:
        """(N,) whether a column of the table has one of some values."""
        import pyarrow.compute as pc

        wanted = pa.array(list(values), self._table.schema.field(name).type)
        return np.asarray(pc.is_in(self.column(name), wanted).to_numpy())

    def codes(self, name: str) -> Codes:
        """A column of the table as numbers; names are in order of first appearance."""
        if name not in self._codes:
            self._codes[name] = self._encoded(name)
        return self._codes[name]

    def _encoded(self, name: str) -> Codes:
        column = self.column(name).combine_chunks().dictionary_encode(null_encoding="encode")
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        return Codes(column.indices.to_numpy().astype(np.intp), column.dictionary.to_pylist())

    def combined(self, *names: str) -> NDArray[np.intp]:
        """(N,) numbers that are equal where some columns of the table are equal."""
        total = np.zeros(len(self), dtype=np.intp)
        for name in names:
            codes = self.codes(name)
            total = total * len(codes.names) + codes.numbers
            if len(codes.names) > 1:
                total = np.unique(total, return_inverse=True)[1]
        return total

    def distinct(self, *names: str) -> Rows:
        """The first row of each combination of values of some columns, in order."""
        return self.take(np.sort(np.unique(self.combined(*names), return_index=True)[1]))

    def groups(self, *names: str) -> list[Rows]:
        """The rows grouped by some columns, in order of first appearance."""
        return self.grouped(self.combined(*names))

    def grouped(self, codes: NDArray[np.intp]) -> list[Rows]:
        """The rows grouped by (N,) numbers, in order of first appearance."""
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        parts = (part for part in np.split(order, starts[1:]) if len(part))
        return [self.take(part) for part in sorted(parts, key=lambda part: part[0])]

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys of the rows."""
        return frozenset(self.texts("key"))
