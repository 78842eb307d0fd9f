"""The `htbench` process as a whole."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 1000, flush=True))  # runs last
assert gc.get_freeze_count() == 0
from htbench.cli.main import main
main(["--version"])
"""


def test_its_end_looks_for_no_garbage() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE], check=True, capture_output=True, text=True, timeout=100
    )
    version, is_frozen = ended.stdout.splitlines()
    assert version.startswith("htbench")
    assert is_frozen == "True"


@pytest.mark.parametrize(
    ("words", "closed", "status"),
    [
        ("list suites", ">&-", 0),
        ("list suites", "<&- >&- 2>&-", 0),
        ("nothing", "2>&-", 2),
        ("data download office-home@1.0", "<&-", 2),  # asks, if it can
    ],
)
def test_closed_streams_are_no_error(words: str, closed: str, status: int) -> None:
    line = f"exec '{sys.executable}' -m htbench {words} {closed}"
    ended = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=False, timeout=100
    )
    assert ended.returncode == status
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("words", [["doctor"], ["list", "suites"], ["--help"]], ids=" ".join)
def test_a_reader_that_goes_away_is_not_an_error(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "htbench", *words]
    try:
        ended = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=100
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")
