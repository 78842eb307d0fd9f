"""Read text columns of untrusted Parquet files, and know what a column takes before it is read.

A small file can hold any amount: pages are compressed, and dictionaries and run lengths repeat
values. The footer says how much it is, but nothing checks the footer. What a reader decodes is what
the header of each page says, so the headers are added up. They are Thrift structs in the compact
protocol; see the files ``parquet.thrift`` of the Parquet format and
``thrift-compact-protocol.md`` of Thrift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

HEADER_BYTES = (1 << 10, 1 << 20)  # read at first, and for statistics that hold a long value
PAGE_BYTES = 16 << 20  # what the pages of a column may take beside its values
MAX_TEXT_BYTES = 1000  # of one value, such as the id of an image
MAX_COLUMN_BYTES = 1 << 28  # of the pages of a column, and of all values if as long as the longest
BATCH_ROWS = 1 << 20  # read at once
BY_DICTIONARY = {2, 8}  # the encodings of pages that hold positions in a dictionary
DELTA_BYTE_ARRAY = 7  # the encoding in which a few bytes can repeat a long text

# Ids of fields in parquet.thrift.
_UNCOMPRESSED, _COMPRESSED = 2, 3  # of PageHeader
_DATA, _DICTIONARY, _DATA_V2 = 5, 7, 8
_NUM_VALUES = 1  # of all three structs
_ENCODING = {_DATA: 2, _DICTIONARY: 2, _DATA_V2: 4}

# Types of the compact protocol.
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, 12


@dataclass(frozen=True)
class ColumnSize:
    """What the pages of a column take.

    Attributes:
        values: entries of the column, repeated and empty ones included.
        bytes: sum of the sizes of its pages, before or after compression, whichever is larger.
        encodings: ids of the encodings of its pages.
    """

    values: int
    bytes: int
    encodings: frozenset[int]


def read_texts(file: pq.ParquetFile, source: pa.NativeFile, name: str) -> pa.ChunkedArray:
    """Read a column of texts whose values are bounded; see ``MAX_TEXT_BYTES``.

    Args:
        file: the opened file.
        source: the same file.
        name: the name of a top-level column with some type of text, or a dictionary of texts.

    Returns:
        The column as ``pa.string()``.

    Raises:
        ValueError: a value is too long, all values together are, or the pages are damaged.
        pyarrow.ArrowException: the column cannot be read, or is not UTF-8.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows, size = file.metadata.num_rows, column_size(file, source, name)
    if size.values > rows:
        raise ValueError(f"the pages of {name} hold {size.values} values for {rows} rows")
    if DELTA_BYTE_ARRAY in size.encodings:
        raise ValueError(
            f"{name} has the encoding DELTA_BYTE_ARRAY; write the file with another one"
        )
    if size.bytes > rows * MAX_TEXT_BYTES + PAGE_BYTES:
        raise ValueError(f"a value of {name} is longer than {MAX_TEXT_BYTES} bytes")
    if size.bytes > MAX_COLUMN_BYTES:
        raise ValueError(f"{name} takes {size.bytes} bytes; the limit is {MAX_COLUMN_BYTES}")
    if size.encodings & BY_DICTIONARY:  # read as one, a repeated value takes memory once
        file = pq.ParquetFile(source, read_dictionary=[name], metadata=file.metadata)
    texts = []
    for batch in file.iter_batches(BATCH_ROWS, columns=[name], use_threads=False):
        column = batch.column(0)
        column.validate(full=True)  # reading does not check that texts are UTF-8
        if pa.types.is_dictionary(column.type):
            values, copies = column.dictionary, rows
        else:
            values, copies = column.cast(pa.string()), 1
        longest = pc.max(pc.binary_length(values)).as_py() or 0
        if longest > MAX_TEXT_BYTES:
            raise ValueError(f"a value of {name} is longer than {MAX_TEXT_BYTES} bytes")
        if copies * longest > MAX_COLUMN_BYTES:
            raise ValueError(f"{name} has {rows} values of up to {longest} bytes")
        texts.append(column.cast(pa.string()))
    return pa.chunked_array(texts, pa.string())


def column_size(file: pq.ParquetFile, source: pa.NativeFile, name: str) -> ColumnSize:
    """Add up the page headers of a column and of the columns inside it.

    Args:
        file: the opened file.
        source: the same file, to read the headers from.
        name: the name of a top-level column.

    Raises:
        ValueError: a header is damaged, or outside the file.
    """
    values, total, encodings = 0, 0, set()
    for group in range(file.metadata.num_row_groups):
        row_group = file.metadata.row_group(group)
        for index in range(row_group.num_columns):
            chunk = row_group.column(index)
            if chunk.path_in_schema.split(".")[0] != name or not chunk.num_values:
                continue
            for header in _page_headers(chunk, source):
                total += max(header[_UNCOMPRESSED], header[_COMPRESSED])
                for kind in _ENCODING.keys() & header.keys():
                    encodings.add(header[kind][_ENCODING[kind]])
                    values += header[kind][_NUM_VALUES] if kind != _DICTIONARY else 0
    return ColumnSize(values, total, frozenset(encodings))


def _page_headers(chunk: Any, source: pa.NativeFile) -> Iterator[dict[int, Any]]:
    """The page headers of a column chunk, as fields by id."""
    position = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < position:
        position = chunk.dictionary_page_offset
    end = position + chunk.total_compressed_size
    if not 0 < position <= end <= source.size():
        raise ValueError("a column is outside the file")
    while position < end:
        header, length = _header(source, position, end)
        sizes = header.get(_UNCOMPRESSED), header.get(_COMPRESSED)
        if any(type(size) is not int or size < 0 for size in sizes):
            raise ValueError("a page has no valid size")
        for kind in _ENCODING.keys() & header.keys():
            counts = header[kind].get(_NUM_VALUES), header[kind].get(_ENCODING[kind])
            if any(type(count) is not int or count < 0 for count in counts):
                raise ValueError("a page has no valid number of values")
        yield header
        position += length + header[_COMPRESSED]


def _header(source: pa.NativeFile, position: int, end: int) -> tuple[dict[int, Any], int]:
    """The page header at a position, and its length in bytes."""
    for size in HEADER_BYTES:
        try:
            return _Struct(source.read_at(min(size, end - position), position)).read()
        except IndexError:
            continue
    raise ValueError("a page header is damaged")


class _Struct:
    """Reads one struct of the compact protocol.

    Args:
        data: bytes that begin with the struct.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self) -> tuple[dict[int, Any], int]:
        """Its fields by id, and its length in bytes.

        Raises:
            IndexError: it is longer than the data.
            ValueError: it is damaged, or has a type that page headers do not use.
        """
        return self._fields(depth=0), self._at

    def _fields(self, depth: int) -> dict[int, Any]:
        if depth > 4:
            raise ValueError("a page header is nested too deeply")
        fields: dict[int, Any] = {}
        field = 0
        while (byte := self._byte()) != 0:
            step, kind = byte >> 4, byte & 15
            field = field + step if step else self._integer()
            fields[field] = self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _BYTE:
            return self._byte()
        if kind in _INTEGERS:
            return self._integer()
        if kind == _DOUBLE:
            return self._skip(8)
        if kind == _BINARY:
            return self._skip(self._unsigned())
        if kind == _STRUCT:
            return self._fields(depth + 1)
        raise ValueError("a page header is damaged")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _skip(self, count: int) -> None:
        self._at += count
        if self._at > len(self._data):
            raise IndexError

    def _unsigned(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a page header is damaged")

    def _integer(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)  # zigzag
