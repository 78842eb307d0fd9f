"""Read text columns of untrusted Parquet files, and know what a column takes before it is read.

A small file can hold any amount: pages are compressed, and dictionaries and run lengths repeat
values. The footer says how much it is, but nothing checks the footer. What a reader decodes is what
the header of each page says, so the headers are added up. They are Thrift structs in the compact
protocol, and so is the footer; see the files ``parquet.thrift`` of the Parquet format and
``thrift-compact-protocol.md`` of Thrift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

FOOTER_BYTES = 16 << 20  # of the description of all columns, which is at the end of a file
HEADER_BYTES = (1 << 10, 1 << 20)  # read at first, and for statistics that hold a long value
PAGE_BYTES = 16 << 20  # what the pages of a column may take beside its values
MAX_TEXT_BYTES = 1000  # of one value, such as the id of an image
MAX_COLUMN_BYTES = 1 << 28  # of the pages of a column, and of all values if as long as the longest
BATCH_ROWS = 1 << 20  # read at once
BY_DICTIONARY = {2, 8}  # the encodings of pages that hold positions in a dictionary
DELTA_BYTE_ARRAY = 7  # the encoding in which a few bytes can repeat a long text

MAX_DEPTH = 8  # of structs and lists in each other

# Ids of fields in parquet.thrift.
_ROW_GROUPS, _CHUNKS, _COLUMN = 4, 1, 3  # of FileMetaData, RowGroup and ColumnChunk
_PATH, _VALUES, _CHUNK_BYTES, _FIRST_DATA, _FIRST_DICTIONARY = 3, 5, 7, 9, 11  # of ColumnMetaData
_UNCOMPRESSED, _COMPRESSED = 2, 3  # of PageHeader
_DATA, _DICTIONARY, _DATA_V2 = 5, 7, 8
_NUM_VALUES = 1  # of all three structs
_ENCODING = {_DATA: 2, _DICTIONARY: 2, _DATA_V2: 4}

# Types of the compact protocol.
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LIST, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, 9, 12


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

    rows, size = file.metadata.num_rows, column_size(source, name)
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


def column_size(source: pa.NativeFile, name: str) -> ColumnSize:
    """Add up the page headers of a column and of the columns inside it.

    Args:
        source: the opened file.
        name: the name of a top-level column.

    Raises:
        ValueError: the footer or a header is damaged, or describes what is outside the file.
    """
    values, total, encodings = 0, 0, set()
    for chunk in _column_chunks(source, name):
        for header in _page_headers(chunk, source):
            total += max(header[_UNCOMPRESSED], header[_COMPRESSED])
            for kind in _ENCODING.keys() & header.keys():
                encodings.add(header[kind][_ENCODING[kind]])
                values += header[kind][_NUM_VALUES] if kind != _DICTIONARY else 0
    return ColumnSize(values, total, frozenset(encodings))


def _column_chunks(source: pa.NativeFile, name: str) -> Iterator[dict[int, Any]]:
    """What the footer says about the chunks of a column and of the columns inside it.

    It is read here because pyarrow's ``RowGroupMetaData.column`` ends the process if the
    description of a chunk is damaged.
    """
    end = source.size() - 8  # of the footer, which its length and PAR1 follow
    tail = source.read_at(8, max(0, end))
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or length > min(end, FOOTER_BYTES):
        raise ValueError(f"its footer is damaged, or has more than {FOOTER_BYTES} bytes")
    try:
        footer, _ = _Struct(source.read_at(length, end - length)).read()
        for row_group in footer[_ROW_GROUPS]:
            for chunk in row_group[_CHUNKS]:
                column = chunk[_COLUMN]
                if column[_PATH][0] == name.encode() and _count(column, _VALUES):
                    yield column
    except (AttributeError, IndexError, KeyError, TypeError):
        raise ValueError("its footer is damaged") from None


def _count(struct: dict[int, Any], field: int) -> int:
    """A number of a struct that must be there.

    Raises:
        ValueError: it is missing or negative, or not a whole number.
    """
    value = struct.get(field)
    if type(value) is not int or value < 0:
        raise ValueError("a column or a page has no valid size or number of values")
    return value


def _page_headers(chunk: dict[int, Any], source: pa.NativeFile) -> Iterator[dict[int, Any]]:
    """The page headers of a column chunk, as fields by id."""
    position = _count(chunk, _FIRST_DATA)
    if 0 < chunk.get(_FIRST_DICTIONARY, 0) < position:
        position = _count(chunk, _FIRST_DICTIONARY)
    end = position + _count(chunk, _CHUNK_BYTES)
    if not 0 < position <= end <= source.size():
        raise ValueError("a column is outside the file")
    while position < end:
        header, length = _header(source, position, end)
        size = _count(header, _COMPRESSED)
        _count(header, _UNCOMPRESSED)
        for kind in _ENCODING.keys() & header.keys():
            if not isinstance(header[kind], dict):
                raise ValueError("a page header is damaged")
            _count(header[kind], _NUM_VALUES)
            _count(header[kind], _ENCODING[kind])
        yield header
        position += length + size


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
        if depth > MAX_DEPTH:
            raise ValueError("its footer or a page header is nested too deeply")
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
        if kind == _LIST:
            return self._items(depth + 1)
        if kind == _STRUCT:
            return self._fields(depth + 1)
        raise ValueError("its footer or a page header is damaged")

    def _items(self, depth: int) -> list[Any]:
        if depth > MAX_DEPTH:
            raise ValueError("its footer or a page header is nested too deeply")
        byte = self._byte()
        count, kind = byte >> 4, byte & 15
        if count == 15:
            count = self._unsigned()
        if kind in (_TRUE, _FALSE):  # a byte for each, unlike a field, whose type is its value
            kind = _BYTE
        items: list[Any] = []
        for _ in range(count):  # each takes a byte or more, so that the data bounds their number
            items.append(self._value(kind, depth))
        return items

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _skip(self, count: int) -> bytes:
        begin = self._at
        self._at += count
        if self._at > len(self._data):
            raise IndexError
        return self._data[begin : self._at]

    def _unsigned(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("its footer or a page header is damaged")

    def _integer(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)  # zigzag
