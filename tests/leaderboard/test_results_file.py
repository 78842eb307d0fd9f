"""The file of rows: what is damaged is not used, although its checksum fits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from leaderboard.results_file import read_table, write_table

SCHEMA = pa.schema([("key", pa.string())])
MARK = b"sha256:"


def with_fitting_checksum(content: bytes) -> bytes:
    start = content.rindex(MARK) + len(MARK)
    zeroed = content[:start] + b"0" * 64 + content[start + 64 :]
    digest = hashlib.sha256(zeroed).hexdigest().encode()
    return zeroed[:start] + digest + zeroed[start + 64 :]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a text", b"a \xff\xffxt"),  # not UTF-8
        (b"htbench.made_by", b"htbench.made_no"),
        (b"PAR1\x15\x04", b"PAR1\xff\xff"),  # the header of the first page
    ],
)
def test_damage(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "rows.parquet"
    write_table(path, pa.table({"key": ["a text"]}, schema=SCHEMA), "code")
    content = path.read_bytes()
    assert read_table(path, SCHEMA)[1] == "code"
    assert before in content
    path.write_bytes(with_fitting_checksum(content.replace(before, after)))
    assert read_table(path, SCHEMA) == (SCHEMA.empty_table(), "")


def test_some_columns(tmp_path: Path) -> None:
    path, schema = tmp_path / "rows.parquet", pa.schema([*SCHEMA, ("run", pa.string())])
    write_table(path, pa.table({"key": ["a"], "run": ["b"]}, schema=schema), "code")
    table, made_by = read_table(path, schema, ["run"])
    assert (table.to_pydict(), made_by) == ({"run": ["b"]}, "code")
    path.unlink()
    assert read_table(path, schema, ["run"])[0].to_pydict() == {"run": []}
