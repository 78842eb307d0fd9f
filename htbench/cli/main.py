"""The `htbench` command: registers the subcommands and turns errors into messages and exit codes.

A subcommand's module is imported when the command is used, so that ``--help`` is fast.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from benchmark.errors import MAX_MESSAGE, HTBenchError
from benchmark.text import shortened
from htbench.cli.output import message_line, printable
from htbench.cli.system_errors import sentence

# Imports create many objects and hardly any garbage: looking for it a hundred times less often
# makes a command start a tenth faster.
COLLECTOR = (100_000, 10, 10)

NO_THREAD = "can't start new thread"  # what Python says where as many threads run as may

# Name -> one line of help. The module has the command's name.
COMMANDS = {
    "cite": "Print BibTeX for data sets, methods and the leaderboard.",
    "cluster": "Run a suite on many machines, with array jobs or Ray.",
    "compare": "Compare two methods: paired differences by task and by class.",
    "data": "Download, import, verify, list or remove the images of a data set.",
    "doctor": "Show package versions, the device, sandboxing support, folders and caches.",
    "figure": "Draw a figure of the leaderboard of a workspace.",
    "leaderboard": "Print the leaderboard of a workspace.",
    "list": "List methods, tasks, suites, data sets or runs.",
    "manifest": "Show, verify, compare or expand manifests, or write one of your own images.",
    "method": "Write, try or check a method of your own.",
    "publish": "Write results as a data set that others load, check and cite.",
    "run": "Run methods on the tasks of a suite.",
    "runs": "Remove runs of a workspace.",
    "score": "Score one run, or a file of predictions.",
    "show": "Show the details of one run.",
    "source": "Train, import, export or list source models.",
    "splits": "Show a task's splits, or export them for other toolkits.",
    "submit": "Submit a method to a public board, or accept submissions.",
    "tune": "Tune hyper-parameters on training images of the seen classes, then run.",
    "workspace": "Merge, check or repair workspaces.",
}


@contextlib.contextmanager
def _ending_with_its_reader() -> Iterator[None]:
    """End with status 0 if nobody reads the output any more, as in ``htbench ... | head``.

    Click would end with status 1.
    """
    try:
        yield
    except BrokenPipeError:
        raise click.exceptions.Exit(0) from None


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is looked up."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _ending_with_its_reader():  # --help and --version print here
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _ending_with_its_reader():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"htbench.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Run `htbench COMMAND --help` to see a command's options and examples.",
)
@click.version_option(package_name="holistic-transfer-bench", prog_name="htbench")
def htbench() -> None:
    """Benchmark fine-tuning with partial target data.

    A source model knows C classes; the target domain has training images of some of them. How does
    adapting the model on those images affect the other, missing classes?

    \b
    Examples:
      htbench run --suite icons            run every method in the suite, then print the leaderboard
      htbench run --suite icons --plugin my_method.py --task outline-solid --seed 0
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit.

    Errors that the user can fix, those of the system included, are printed as one message, with
    status 2; Ctrl-C exits with 130.
    """
    _replace_closed_streams()
    gc.set_threshold(*COLLECTOR)
    # What Python looks for when it ends takes a tenth of a second, and the memory is free anyway.
    atexit.register(gc.freeze)
    try:
        code = htbench.main(args=arguments, prog_name="htbench", standalone_mode=False)
    except click.ClickException as error:
        usage = io.StringIO()
        error.show(usage)
        text = printable(usage.getvalue().expandtabs(2))  # click indents choices by tabs
        _say(shortened(text, MAX_MESSAGE).removesuffix("\n"))
        code = error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        _say("Interrupted. Finished work is kept; run the same command again to resume.")
        code = 130
    except HTBenchError as error:
        _say(message_line(f"htbench: {error}"))
        code = 2
    except BrokenPipeError:  # while an error was shown
        code = 0
    except (OSError, NotImplementedError) as error:
        _say(message_line(f"htbench: {sentence(error)}"))
        code = 2
    except RuntimeError as error:
        if str(error) != NO_THREAD:
            raise
        problem = OSError(errno.EAGAIN, NO_THREAD, "a new thread")
        _say(message_line(f"htbench: {sentence(problem)}"))
        code = 2
    sys.exit(_flushed(code if isinstance(code, int) else 0))


def _replace_closed_streams() -> None:
    """Put the null device in the place of closed streams, as of a service or after ``>&-``.

    Python has None for them. Files that are opened later would get their numbers, with which
    child processes would read and print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def _say(message: str) -> None:
    """Print a message for people; standard error itself may be what is full."""
    with contextlib.suppress(OSError):
        click.echo(message, err=True)


def _flushed(code: int) -> int:
    """Write what is left of the output; a disk may be full, and a reader may have gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                _say(message_line(f"htbench: {sentence(error)}"))
                code = 2
            # Python flushes again when it ends, and would print a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


if __name__ == "__main__":
    main()
