"""The command `htbench`: its subcommands, and how errors become messages and exit codes.

A subcommand's module is imported when the command is used, so that ``--help`` is fast.
"""

from __future__ import annotations

import importlib
import sys

import click

from benchmark.errors import HTBenchError
from htbench.cli.output import printable

# Name -> one line of help. The module has the command's name.
COMMANDS = {
    "cite": "Print BibTeX for data sets, methods and the board.",
    "data": "Download, import, verify, list or remove the images of a data set.",
    "doctor": "Show versions, device, isolation, folders and caches.",
    "leaderboard": "Print the leaderboard of a workspace.",
    "list": "List methods, tasks, suites, data sets or runs.",
    "manifest": "Show, verify, compare, describe or expand a manifest.",
    "run": "Run methods on the tasks of a suite.",
    "score": "Score the predictions of one run.",
    "show": "Show everything about one run.",
    "source": "Train, import, export or list source models.",
    "splits": "Show a task's splits, or export them for other toolkits.",
    "tune": "Choose hyper-parameters on seen training images, then run.",
}


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is looked up."""

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
    epilog="Run `htbench COMMAND --help` for the options and examples of a command.",
)
@click.version_option(package_name="holistic-transfer-bench", prog_name="htbench")
def htbench() -> None:
    """Benchmark fine-tuning with partial target data.

    A source model knows C classes; the target domain has training images of some of them. What
    does adaptation do to the others?

    \b
    Examples:
      htbench run --suite icons            run every method of the suite, then print the board
      htbench run --suite icons --plugin my_method.py --task outline-solid --seed 0
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit: 2 for a user's mistake, in one sentence; 130 for Ctrl-C."""
    try:
        code = htbench.main(args=arguments, prog_name="htbench", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo(
            "\nInterrupted. Finished runs are kept; run the same command again to resume.", err=True
        )
        code = 130
    except HTBenchError as error:
        click.echo(printable(f"htbench: {error}"), err=True)
        code = 2
    except BrokenPipeError:  # `htbench ... | head`
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
