"""Helpers for printing text, tables, JSON and small plots."""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark import text as text_module
from benchmark.errors import MAX_MESSAGE, DataError, UsageError
from benchmark.text import one_line, printable_json, shortened

if TYPE_CHECKING:
    from leaderboard.render.terminal import Screen

MAX_CELL = 500  # bytes of a cell of a table
_BARS = " ▁▂▃▄▅▆▇█"


def printable(text: str) -> str:
    """Return untrusted text made safe for the terminal, keeping line breaks."""
    return text_module.printable(text, keep="\n")


@contextlib.contextmanager
def run_problems() -> Iterator[list[str]]:
    """Collect sentences about folders of runs that cannot be used, and print them at the end.

    The command then exits with status 1, after what it prints about the other runs.
    """
    from htbench.progress import log
    from htbench.results import shown_problems

    problems: list[str] = []
    try:
        yield problems
    finally:
        for problem in shown_problems(problems):
            log(problem)
    if problems:
        click.get_current_context().exit(1)


@contextlib.contextmanager
def list_problems() -> Iterator[list[str]]:
    """Collect sentences about what a list leaves out, and print them at the end.

    The command then exits with status 1, after what it prints about all others.
    """
    from htbench.progress import log

    problems: list[str] = []
    yield problems
    for problem in dict.fromkeys(problems):
        log(problem)
    if problems:
        click.get_current_context().exit(1)


def message_line(text: str) -> str:
    """An error message or a line of progress: printable and bounded.

    Lines after the first are indented, so that none of them looks like another message.
    """
    return shortened(printable(text).replace("\n", "\n  "), MAX_MESSAGE)


def confirm(warning: str | None) -> None:
    """Ask the user before long runs.

    Args:
        warning: what :func:`htbench.long_runs.long_runs` says; None for runs that are not long.

    Raises:
        UsageError: nobody can be asked.
    """
    if warning is not None:
        ask(
            f"{warning}; start them?",
            f"{warning}; add --yes to start them, or use --device cuda",
        )


def ask(question: str, otherwise: str, *, err: bool = True) -> None:
    """Ask the user; end the command, with status 1, if the answer is no.

    Args:
        question: the question.
        otherwise: the error if standard input is not a terminal, so that nobody can be asked.
        err: whether to ask on standard error.

    Raises:
        UsageError: nobody can be asked.
    """
    from htbench.progress import log

    if not sys.stdin.isatty():
        raise UsageError(otherwise)
    if not click.confirm(question, err=err):
        log("nothing was done")
        click.get_current_context().exit(1)


def print_json(value: Any) -> None:
    """Print a value as JSON.

    Raises:
        DataError: it is nested too deeply.
    """
    try:
        text = printable_json(value)
    except ValueError as error:
        raise DataError(f"cannot print JSON: {error}") from None
    click.echo(text)


def print_or_write(content: str | bytes, out: Path | None) -> None:
    """Print text or bytes, or write them to a file if one is named.

    Raises:
        UsageError: the path is a link, a folder, or anything else that is not a regular file.
        OSError: the file cannot be written.
    """
    from benchmark.files import check_output, write_file

    if out is None:
        click.echo(content, nl=False)
        return
    check_output(out)
    write_file(out, content.encode() if isinstance(content, str) else content)


def is_terminal() -> bool:
    """Whether standard output is shown on a terminal."""
    return sys.stdout.isatty()


def screen(*, plain: bool = False) -> Screen:
    """The terminal that standard output is shown on.

    Its width is ``COLUMNS``, if set, or that of the terminal, or 80. It has colours unless standard
    output is not a terminal or ``NO_COLOR`` is set.

    Args:
        plain: leave out colours, for a file.
    """
    from rich.console import Console

    from leaderboard.render.terminal import Screen

    console = Console()
    color = None if plain or console.no_color else console.color_system
    return Screen(console.width, color)


def print_table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> None:
    """Print aligned rows under their headers."""
    from tabulate import tabulate

    cells = [["" if c is None else one_line(c, MAX_CELL) for c in row] for row in rows]
    click.echo(tabulate(cells, headers=headers, tablefmt="simple", disable_numparse=True))


def fixed(value: float | None, digits: int = 1) -> str:
    """Format a number with the given number of decimal places, or a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def plot_curve(values: Sequence[float], height: int = 6, width: int = 60) -> list[str]:
    """Return the lines of a bar plot. Bars start at the minimum; the scale is on the left.

    Args:
        values: from left to right; values that are not finite are left out.
        height: the number of lines.
        width: the maximum number of columns; values are thinned to fit.
    """
    values = [float(value) for value in values if math.isfinite(value)]
    if not values:
        return []
    step = max(1, -(-len(values) // width))
    thinned = values[::step]
    low, high = min(thinned), max(thinned)
    span = high / 2 - low / 2 or 1.0  # halved: the difference may be larger than any float
    levels = [round((value / 2 - low / 2) / span * height * 8) for value in thinned]
    lines = []
    for row in reversed(range(height)):
        bars = "".join(_BARS[min(8, max(0, level - 8 * row))] for level in levels)
        mark = f"{high:8.3g}" if row == height - 1 else f"{low:8.3g}" if row == 0 else " " * 8
        lines.append(f"{mark} |{bars}")
    return lines


@contextlib.contextmanager
def importing(*modules: str) -> Iterator[None]:
    """Import modules in a thread while the block waits for something else."""

    def work() -> None:
        with contextlib.suppress(ImportError):  # the import that needs it says so
            for name in modules:
                importlib.import_module(name)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()
