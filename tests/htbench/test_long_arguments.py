"""What the command line says about arguments of any length fits into two kilobytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.htbench.command import Htbench

LONG = "x" * 100_000
DIGITS = "9" * 100_000


@pytest.mark.parametrize(
    "arguments",
    [
        (LONG,),
        (f"--{LONG}",),
        ("show", LONG),
        ("show", "a" * 100_000),
        ("score", LONG),
        ("leaderboard", "--suite", "x" * 200),
        ("leaderboard", "--format", LONG),
        ("run", "--suite", "icons", "--task", LONG, "--dry-run"),
        ("run", "--suite", "icons", "--method", LONG, "--dry-run"),
        ("run", "--suite", "icons", "--set", f"{LONG}=1", "--dry-run"),
        ("manifest", "new", "mine", "--from", ".", "--seen", DIGITS),
        ("manifest", "new", "mine", "--from", ".", "--train", f"0.{DIGITS}"),
    ],
    ids=lambda arguments: " ".join(word[:10] for word in arguments),
)
def test_an_argument(htbench: Htbench, arguments: tuple[str, ...]) -> None:
    status, _, err = htbench(*arguments)
    assert status == 2
    assert "Traceback" not in err
    assert 0 < len(err.encode()) <= 2048


@pytest.mark.parametrize("name", ["\n" * 5000, "\x1b[2J" * 1000])
def test_a_name_cannot_forge_a_message(htbench: Htbench, tmp_path: Path, name: str) -> None:
    _, _, err = htbench(
        "leaderboard", "--workspace", tmp_path / f"a{name[:50]}htbench: all is well"
    )
    assert len(err.encode()) <= 2048
    assert "\x1b" not in err
    assert not [line for line in err.splitlines()[1:] if line.startswith("htbench:")]
