"""The command `htbench` and what all its subcommands share.

A subcommand lives in a module of its own and imports what it needs inside its function, so that
``--help`` loads click and nothing else.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

# noun -> (module, help): a module is imported when its command is used.
_COMMANDS = {
    "cite": ("cite", "Print BibTeX for data, methods and the board."),
    "data": ("data", "Download, import, verify, show or remove images of a data set."),
    "doctor": ("doctor", "Show versions, device, folders and what is cached."),
    "leaderboard": ("leaderboard", "Print the leaderboard of a workspace."),
    "list": ("list", "List methods, tasks, suites, data sets or runs."),
    "manifest": ("manifest", "Show, verify, compare, describe or expand a manifest."),
    "run": ("run", "Run methods on the tasks of a suite."),
    "score": ("score", "Score the predictions of one run."),
    "show": ("show", "Show everything about one run."),
    "source": ("source", "Train, import, export or list source models."),
    "splits": ("splits", "Show a task's splits, or export them for other toolkits."),
    "tune": ("tune", "Choose hyper-parameters on seen training data, then run."),
}


class _Lazy(click.Group):
    """A group that imports a command's module when the command is looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"htbench.cli.{_COMMANDS[name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Run `htbench COMMAND --help` for examples.",
)
@click.version_option(package_name="holistic-transfer-bench", prog_name="htbench")
def htbench() -> None:
    """Benchmark fine-tuning with partial target data.

    A source model knows C classes; the target domain has training data for some of them. What
    does adapting do to the others?

    \b
    Examples:
      htbench run --suite icons            run every method of the suite, then print the board
      htbench run --suite icons --plugin my_method.py --task outline-solid --seed 0
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a mistake is one sentence and exit status 2, Ctrl-C is 130."""
    from benchmark.errors import HTBenchError

    try:
        code = htbench.main(args=arguments, prog_name="htbench", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("\nInterrupted. Finished runs are kept: the same command goes on.", err=True)
        code = 130
    except HTBenchError as error:
        click.echo(plain(f"htbench: {error}"), err=True)
        code = 2
    except BrokenPipeError:  # `htbench ... | head`
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


# Several commands have it: whose source models, runs and searches are meant.
network_option = click.option(
    "--model",
    "network",
    metavar="NETWORK",
    help="Another network: NAME or NAME@WEIGHTS of torchvision, timm/NAME or timm/NAME.TAG.",
)


def plain(text: str) -> str:
    """Text with words of strangers, without what a terminal would obey; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def print_json(value: Any) -> None:
    """Print a value as JSON for machines."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(rows: list[list[object]], headers: list[str]) -> None:
    """Print rows under headers, aligned."""
    from tabulate import tabulate

    click.echo(plain(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)))


if __name__ == "__main__":
    main()
