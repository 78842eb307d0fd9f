"""The file ``results.parquet``: a table that carries a checksum over all of its bytes.

The SHA-256 is in the metadata of the Parquet footer. It was computed with 64 zeros in its place,
and is compared before any of the file is parsed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.failpoints import reach
from benchmark.files import atomic_path, read_bounded

MAX_BYTES = 2 << 30
_BEFORE = b"sha256:"  # of the checksum in the metadata, which is near the end of the file
_ZEROS = b"0" * 64
_CHECKSUM = "htbench.checksum"
_MADE_BY = "htbench.made_by"


def write_table(path: Path, table: pa.Table, made_by: str) -> None:
    """Write a table of text and numbers atomically; equal input gives equal bytes.

    Args:
        path: the file.
        table: the table.
        made_by: see :func:`read_table`.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
        writer.add_key_value_metadata({_MADE_BY: made_by, _CHECKSUM: (_BEFORE + _ZEROS).decode()})
    content = bytearray(sink.getvalue())
    start = content.rindex(_BEFORE + _ZEROS) + len(_BEFORE)
    content[start : start + len(_ZEROS)] = hashlib.sha256(content).hexdigest().encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        reach("results-written")
    reach("results-replaced")


def read_table(
    path: Path, schema: pa.Schema, columns: Sequence[str] | None = None
) -> tuple[pa.Table, str]:
    """Read a table that :func:`write_table` wrote.

    Args:
        path: the file.
        schema: the names and types that the table must have.
        columns: read only these; by default all.

    Returns:
        The table and its ``made_by``: a digest of the code that made it. An empty table if the file
        is missing, damaged in any bit, or has another schema.
    """
    empty = schema.empty_table() if columns is None else schema.empty_table().select(columns)
    content = _content(path)
    if not _is_whole(content):
        return empty, ""
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        if not file.schema_arrow.equals(schema):
            return empty, ""
        table = file.read(columns)
        table.validate(full=True)  # reading does not check that texts are UTF-8
        made_by = file.metadata.metadata[_MADE_BY.encode()].decode()
    # Of another version of Arrow, or written by somebody who also computed the checksum.
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return empty, ""
    return table.replace_schema_metadata(None), made_by


def is_damaged(path: Path) -> bool:
    """Whether there is something at a path that is not a whole file of :func:`write_table`."""
    return os.path.lexists(path) and not _is_whole(_content(path))


def _content(path: Path) -> bytes:
    """The bytes of a file; empty if it cannot be read."""
    try:
        return read_bounded(path, MAX_BYTES)
    except OSError:
        return b""


def _is_whole(content: bytes) -> bool:
    """Whether the checksum in the content of a file is that of the content."""
    start = content.rfind(_BEFORE) + len(_BEFORE)
    end = start + len(_ZEROS)
    if len(content) > MAX_BYTES or start < len(_BEFORE) or end > len(content):
        return False
    state = hashlib.sha256()
    view = memoryview(content)
    for part in (view[:start], _ZEROS, view[end:]):
        state.update(part)
    return state.hexdigest().encode() == view[start:end]
