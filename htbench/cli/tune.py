"""`htbench tune`: choose hyper-parameters on seen training images, then run with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from htbench.cli.options import (
    device_option,
    jobs_option,
    json_option,
    model_option,
    seeds_option,
    suite_option,
    tasks_option,
    workspace_option,
)
from htbench.cli.output import print_json, print_table
from htbench.progress import Terminal, log

SEARCH_HEADERS = ("pseudo-seen %", "pseudo-missing %", "mean", "")


@click.command("tune")
@click.argument("method", required=False)
@click.option(
    "--grid",
    "grids",
    multiple=True,
    required=True,
    metavar="FIELD=A,B,C",
    help="Values of a hyper-parameter; with several, all combinations are tried.",
)
@suite_option(required=True)
@tasks_option
@seeds_option
@click.option("--plugin", metavar="FILE[:CLASS]", help="A file with the method, if it is your own.")
@model_option
@click.option(
    "--repeats",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="Folds of each task.",
)
@click.option("--search-only", is_flag=True, help="Choose settings, but do not run them.")
@workspace_option
@device_option
@jobs_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    method: str | None,
    grids: tuple[str, ...],
    suite: str,
    tasks: tuple[str, ...],
    seeds: tuple[int, ...],
    plugin: str | None,
    network: str | None,
    repeats: int,
    search_only: bool,
    workspace: Path,
    device: str,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Choose hyper-parameters of METHOD for each task, then run it with them.

    Settings are compared by pseudo cross-validation on the seen classes' training images: in each
    fold, half of the seen classes play missing. The best mean of seen and missing accuracy wins. No
    test image and no image of a missing class is used. The search is recorded with the run, which
    the board calls METHOD(tuned).

    \b
    Examples:
      htbench tune selective-distill --suite icons --grid weight=0.3,1,3,10
      htbench tune --plugin half_way.py --suite icons --grid alpha=0.3,0.5 --task outline-solid
    """
    from benchmark.manifest.suite import load_suite
    from benchmark.runs.workspace import Workspace
    from htbench.cli.leaderboard import print_boards
    from htbench.run import write_board
    from htbench.tune import plan_tuning

    if (method is None) == (plugin is None):
        raise click.UsageError("name one METHOD, or give its file with --plugin")
    loaded, place = load_suite(suite), Workspace(workspace)
    with plan_tuning(
        loaded,
        place,
        method=method,
        plugin=plugin,
        grids=grids,
        tasks=tasks,
        seeds=seeds,
        network=network,
        repeats=repeats,
        device=device,
        jobs=jobs,
        monitor=Terminal(),
    ) as plan:
        searches = plan.choose()
        if as_json:
            print_json(searches)
        else:
            _print(plan.method, searches)
        if search_only:
            return
        records = plan.run(searches)
    boards = write_board(loaded, place)
    if not as_json:
        print_boards(boards, "markdown", network=plan.network)
    if failed := sum(record.status == "failed" for record in records):
        log(f"{failed} runs with the chosen settings failed; the board lists them")
        context.exit(1)


def search_rows(search: Mapping[str, Any]) -> list[list[object]]:
    """The settings that a search tried, each with the columns of ``SEARCH_HEADERS``."""
    rows: list[list[object]] = []
    for entry in search["tried"]:
        numbers = [entry[name] for name in ("seen", "missing", "score")]
        cells = ["failed" if value is None else f"{value:.1f}" for value in numbers]
        settings = " ".join(f"{name}={value}" for name, value in entry["settings"].items())
        mark = "chosen" if entry["settings"] == search["chosen"] else ""
        rows.append([settings, *cells, mark])
    return rows


def _print(method: str, searches: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [[task, *row] for task, search in searches.items() for row in search_rows(search)]
    print_table(rows, ["task", method, *SEARCH_HEADERS])
