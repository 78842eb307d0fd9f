"""`htbench leaderboard`: print the leaderboard of a workspace."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from htbench.cli.options import suite_option, workspace_option
from htbench.cli.output import print_or_write, run_problems
from htbench.progress import log

if TYPE_CHECKING:
    from leaderboard.board import Board


@click.command("leaderboard")
@suite_option(default="icons")
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "csv", "json", "html"]),
    default="markdown",
    show_default=True,
    help="Output format.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME",
    help="Add a column to the tables: disruption_bn_stats or openworld_auc. May be repeated. CSV "
    "and JSON have every column.",
)
@click.option(
    "--out",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Write to this file instead of standard output; with html, to this folder.",
)
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
      htbench leaderboard --format html --out site
    """
    from benchmark.errors import UsageError
    from benchmark.manifest.suite import load_suite
    from benchmark.runs.workspace import Workspace
    from htbench.run import existing_boards
    from htbench.site import write_boards_site
    from leaderboard.columns import table_columns
    from leaderboard.render.site import check_site_folder

    table_columns(columns)  # reports an unknown column before runs are scored
    if form == "html":
        if out is None:
            raise UsageError(
                "--format html writes a folder; name it with --out, such as --out site"
            )
        check_site_folder(out)
    with run_problems() as problems:
        boards = existing_boards(load_suite(suite), Workspace(workspace), problems.append)
        boards = [dataclasses.replace(board, optional_columns=columns) for board in boards]
        if out is not None and form == "html":
            write_boards_site(out, boards)
            log(f"wrote {out}; open {out / 'index.html'} in a browser")
        else:
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
