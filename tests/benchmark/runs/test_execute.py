"""What is kept of what a run printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.runs.execute import MAX_OUTPUT_TEXT, printed


@pytest.mark.parametrize("size", [0, 1, MAX_OUTPUT_TEXT])
def test_all_of_it_if_it_is_short(tmp_path: Path, size: int) -> None:
    (tmp_path / "output.txt").write_bytes(b"x" * size)
    assert printed(tmp_path / "output.txt") == b"x" * size


@pytest.mark.parametrize(
    "text",
    [
        "x" * (MAX_OUTPUT_TEXT + 1),
        "".join(f"line {i}\n" for i in range(20_000)),
        "first\n" + "y" * 10**6 + "\nlast\n",
        "first\n" + "y" * 10**6,
        "\n" * 10**6,
    ],
    ids=["one line", "lines", "a long line", "no last line", "empty lines"],
)
def test_the_beginning_and_the_end_if_it_is_long(tmp_path: Path, text: str) -> None:
    (tmp_path / "output.txt").write_text(text)
    kept = printed(tmp_path / "output.txt").decode()
    assert len(kept) <= MAX_OUTPUT_TEXT
    begin, left_out, end = re.split(r"\[(\d+) bytes left out\]\n", kept)
    begin = begin if text.startswith(begin) else begin.removesuffix("\n")
    assert text.startswith(begin)
    assert text.endswith(end)
    assert begin
    assert end
    assert len(begin) + int(left_out) + len(end) == len(text)
    if text.startswith("line 0"):
        assert begin.endswith("\n")
        assert end.startswith("line ")


def test_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "output.txt").open("wb") as file:
        file.truncate(1 << 36)
    assert len(printed(tmp_path / "output.txt")) < MAX_OUTPUT_TEXT
