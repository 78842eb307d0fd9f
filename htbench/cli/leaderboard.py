"""`htbench leaderboard`: print the leaderboard of a workspace."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from htbench.cli.options import (
    ANY_SUITE,
    SHOWN_SEEDS,
    LocalPath,
    methods_option,
    refuse_workspace_of,
    seeds_option,
    status_option,
    suite_option,
    tasks_option,
    workspace_option,
)
from htbench.cli.output import is_terminal, print_or_write, run_problems, screen
from htbench.progress import log

if TYPE_CHECKING:
    from leaderboard.board import Board


@click.command("leaderboard")
@suite_option(ANY_SUITE)
@tasks_option("Show only this task; repeatable. On a terminal, adds a table for each task.")
@seeds_option(SHOWN_SEEDS)
@methods_option("Show only this method, or this method with its settings; repeatable.")
@status_option(
    "Show only methods whose runs are all ok, not all there (partial), and so on; repeatable.",
    "ok",
    "partial",
    "failed",
    "not-applicable",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "latex", "csv", "json", "parquet", "html"]),
    help="Output format.  [default: that of the suffix of --out; otherwise terminal on a terminal, "
    "and markdown in a file or a pipe]",
)
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Show the means of methods with missing or failed runs over the tasks that they have, "
    "such as 3 of 5 tasks. They have no rank.",
)
@click.option(
    "--pooled",
    is_flag=True,
    help="On a terminal, add the table of the pooled test images of all tasks; in LaTeX, show it "
    "instead of the mean. Other formats always have it.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME",
    help="Add a column to the tables: macro_overall, macro_seen, macro_missing, "
    "disruption_bn_stats or openworld_auc, and with latex also the costs, such as total_steps. "
    "May be repeated. CSV, JSON and Parquet have every column.",
)
@click.option(
    "--out",
    metavar="PATH",
    type=LocalPath(),
    help="Write to this file instead of standard output; with html, to this folder.",
)
@click.option("--published", is_flag=True, help="Show published results instead of a workspace's.")
@workspace_option
def command(
    suite: str | None,
    tasks: tuple[str, ...],
    seeds: tuple[int, ...],
    methods: tuple[str, ...],
    states: tuple[str, ...],
    form: str | None,
    allow_partial: bool,
    pooled: bool,
    columns: tuple[str, ...],
    out: Path | None,
    published: bool,
    workspace: Path,
) -> None:
    """Score new runs and print the leaderboard of a suite.

    On a terminal, columns that do not fit are left out, and are named below the table. LaTeX has
    one table: the mean over the suite's tasks, or the task that --task names. Exits with status 1
    if the folder of a run cannot be used; the others are shown.

    \b
    Examples:
      htbench leaderboard
      htbench leaderboard --task outline-solid --method finetune --method lwf
      htbench leaderboard --suite icons --out icons.csv
      htbench leaderboard --suite icons --out icons.tex --column total_steps
      htbench leaderboard --format html --out site
      htbench leaderboard --suite icons-full --published
    """
    from benchmark.commands import seed_words
    from benchmark.errors import UsageError
    from benchmark.runs.workspace import Workspace
    from htbench.own_suite import chosen_suite
    from htbench.published_boards import chosen_boards
    from leaderboard.columns import table_columns
    from leaderboard.filters import only
    from leaderboard.partial import with_partial_means

    table_columns(columns)  # reports an unknown column before runs are scored
    form = _form(form, out)
    _check_out(form, out)
    refuse_workspace_of(published)
    place = None if published else Workspace(workspace)
    loaded = chosen_suite(suite, place).part(tasks, seeds)
    with run_problems() as problems:
        boards = only(chosen_boards(loaded, place, problems.append), methods, states)
        if pooled and not any(board.has_pooled for board in boards):
            raise UsageError(
                "--pooled: no pooled values; a suite has them if it has several tasks, no two of "
                "them share a test set, and a method has completed all of them"
            )
        boards = [
            dataclasses.replace(board, optional_columns=columns, shows_pooled=pooled)
            for board in boards
        ]
        boards = [with_partial_means(b) for b in boards] if allow_partial else boards
        if out is not None and form == "html":
            from htbench.results import log_reader
            from htbench.site import write_boards_site

            write_boards_site(out, boards, None if place is None else log_reader(place))
            log(f"wrote {out}; open {out / 'index.html'} in a browser")
        else:
            # Not --status and --pooled, for which a single task may have nothing.
            named = {"--task": tasks, "--method": methods, "--column": columns}
            options = [
                *(
                    word
                    for name, values in named.items()
                    for value in values
                    for word in (name, value)
                ),
                *(seed_words(seeds) if seeds else []),
                *(["--allow-partial"] if allow_partial else []),
                *(["--published"] if published else []),
            ]
            print_boards(boards, form, problems, out=out, by_task=bool(tasks), options=options)


def _check_out(form: str, out: Path | None) -> None:
    """Check the file, or the folder of a site, before runs are scored.

    Raises:
        UsageError: the file is a link, a folder or the like, or no folder is named, or it has other
            files.
    """
    from benchmark.errors import UsageError
    from benchmark.files import check_output
    from leaderboard.render.site import check_site_folder

    if form != "html":
        if out is not None:
            check_output(out)
        return
    if out is None:
        raise UsageError("--format html writes a folder; name it with --out, such as --out site")
    check_site_folder(out)


def _form(form: str | None, out: Path | None) -> str:
    """The output format that the options choose.

    Raises:
        UsageError: the suffix of the file names none, or a binary file would be printed on a
            terminal.
    """
    from benchmark.errors import UsageError
    from leaderboard.render import FORMATS, format_of

    if form is None and out is not None and out.suffix:
        form = format_of(out)
        if form is None:
            known = ", ".join(suffix for each in FORMATS.values() for suffix in each.suffixes)
            raise UsageError(
                f"--out {out} does not end in one of {known}; use one of them or add --format"
            )
    if form is None:
        form = "terminal" if out is None and is_terminal() else "markdown"
    if out is None and is_terminal() and form in FORMATS and FORMATS[form].is_binary:
        raise UsageError(
            f"--format {form} writes a binary file; name it with --out, such as "
            f"--out board{FORMATS[form].suffixes[0]}"
        )
    return form


def print_boards(
    boards: Sequence[Board],
    form: str | None,
    problems: Sequence[str],
    *,
    out: Path | None = None,
    network: str | None = None,
    by_task: bool = False,
    options: Sequence[str] = (),
) -> None:
    """Print boards, or write them to a file.

    Args:
        boards: the boards of a suite.
        form: an output format; see ``leaderboard.render``. ``terminal`` fits the terminal's width.
            If None, that on a terminal and Markdown otherwise.
        problems: folders of runs that cannot be used; the JSON of the first table lists them.
        out: the file to write; if None, print to standard output.
        network: print only the tables of this network (in the form of ``--model``); if None, print
            all.
        by_task: whether the format ``terminal`` has a table for each task.
        options: what has chosen them, for the commands that the format ``terminal`` recommends.
    """
    from htbench.results import shown_problems
    from leaderboard.render import FORMATS

    shown = [b for b in boards if network in (None, b.context["network"])]
    if form == "json" and shown:
        more = tuple(shown_problems(problems))
        shown[0] = dataclasses.replace(shown[0], problems=(*more, *shown[0].problems))
    if form is None:
        form = "terminal" if out is None and is_terminal() else "markdown"
    if form == "terminal":
        from leaderboard.render.terminal import to_terminal

        first = boards[0]
        words = ["leaderboard", "--suite", first.suite.argument, *first.workspace_option, *options]
        content: str | bytes = to_terminal(shown, screen(plain=out is not None), by_task, words)
    else:
        content = FORMATS[form].render(shown)
    print_or_write(content, out)
    if out is not None:
        log(f"wrote {out}")
