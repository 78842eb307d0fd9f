"""`htbench leaderboard`: print the leaderboard of a workspace."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from htbench.cli.options import out_file_option, suite_option, workspace_option
from htbench.cli.output import print_or_write, run_problems
from htbench.progress import log

if TYPE_CHECKING:
    from leaderboard.board import Board


@click.command("leaderboard")
@suite_option(default="icons")
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "csv", "json"]),
    default="markdown",
    show_default=True,
    help="Output format.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME",
    help="Add a column to the tables: macro_overall, macro_seen, macro_missing, "
    "disruption_bn_stats or openworld_auc. May be repeated. CSV and JSON have every column.",
)
@out_file_option("Write to this file instead of standard output.")
@workspace_option
def command(
    suite: str, form: str, columns: tuple[str, ...], out: Path | None, workspace: Path
) -> None:
    """Score new runs and print the leaderboard of a suite.

    Exits with status 1 if the folder of a run cannot be used; the others are shown.

    \b
    Examples:
      htbench leaderboard
      htbench leaderboard --suite icons --format csv --out icons.csv
      htbench leaderboard --column openworld_auc
    """
    from benchmark.manifest.suite import load_suite
    from benchmark.runs.workspace import Workspace
    from htbench.run import existing_boards
    from leaderboard.columns import table_columns

    table_columns(columns)  # reports an unknown column before runs are scored
    with run_problems() as problems:
        boards = existing_boards(load_suite(suite), Workspace(workspace), problems.append)
        boards = [dataclasses.replace(board, optional_columns=columns) for board in boards]
        print_boards(boards, form, problems, out=out)


def print_boards(
    boards: Sequence[Board],
    form: str,
    problems: Sequence[str],
    *,
    out: Path | None = None,
    network: str | None = None,
) -> None:
    """Print boards, or write them to a file.

    Args:
        boards: the boards of a suite.
        form: an output format; see ``leaderboard.render``.
        problems: folders of runs that cannot be used; the JSON of the first table lists them.
        out: the file to write; if None, print to standard output.
        network: print only the tables of this network (in the form of ``--model``); if None, print
            all.
    """
    from htbench.results import shown_problems
    from leaderboard.render import FORMATS

    shown = [b for b in boards if network in (None, b.context["network"])]
    if form == "json" and shown:
        more = tuple(shown_problems(problems))
        shown[0] = dataclasses.replace(shown[0], problems=(*more, *shown[0].problems))
    text = FORMATS[form](shown)
    print_or_write(text, out)
    if out is not None:
        log(f"wrote {out}")
