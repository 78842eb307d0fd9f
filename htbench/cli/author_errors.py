"""Show an exception of an author's code as Python would, without the frames of the benchmark."""

from __future__ import annotations

import bdb
import contextlib
import select
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import click

from benchmark.child.job import ContractError
from benchmark.errors import HTBenchError
from benchmark.folders import ROOT, installed_folders
from benchmark.text import printable
from htbench.cli.output import message_line

_OURS = tuple(str(ROOT / package) + "/" for package in ("htbench", "benchmark"))


@contextlib.contextmanager
def author_errors(status: int = 1) -> Iterator[None]:
    """Print the traceback of an exception that the block raises, and exit with a status.

    A broken contract is one sentence. Errors of the benchmark and of click pass through.
    ``sys.exit`` in the author's code is an exception like others: with its own status, often 0, the
    command would seem to have succeeded.
    """
    try:
        yield
    except ContractError as error:
        click.echo(message_line(f"htbench: {error}"), err=True)
        sys.exit(status)
    except (HTBenchError, click.exceptions.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except bdb.BdbQuit:  # `q` at a breakpoint
        sys.exit(status)
    except (Exception, SystemExit) as error:
        if isinstance(error, BrokenPipeError) and _has_no_reader():
            raise
        frames = _author_frames(error.__traceback__)
        if frames is None and not isinstance(error, SyntaxError):  # of a file that never ran
            frames = error.__traceback__
        lines = traceback.format_exception(type(error), error, frames)
        click.echo(printable("".join(lines), keep="\n\t"), err=True, nl=False)
        sys.exit(status)


def _has_no_reader() -> bool:
    """Whether nobody reads the output any more; the broken pipe may also be the author's own."""
    output = select.poll()  # not a flush: an unbuffered stream has nothing left to write
    output.register(sys.stdout.fileno(), 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in output.poll(0))


def _author_frames(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame of the author's code on."""
    first = frames
    while first is not None and _is_ours(first.tb_frame.f_code.co_filename):
        first = first.tb_next
    return first


def _is_ours(file: str) -> bool:
    """Whether a file belongs to the benchmark, to click, to torch or to the import system."""
    is_library = Path(file).parent.name in ("click", "importlib", "utils")
    is_installed = any(Path(file).is_relative_to(folder) for folder in installed_folders())
    return file.startswith((*_OURS, "<frozen importlib")) or (is_library and is_installed)
