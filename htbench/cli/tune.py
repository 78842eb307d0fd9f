"""`htbench tune`: tune a method's hyper-parameters, then run the method with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import click

from benchmark.errors import UsageError
from benchmark.text import plural
from htbench.cli.options import (
    RUN_SEEDS,
    RUN_TASKS,
    device_option,
    jobs_option,
    json_option,
    memory_limit_option,
    model_option,
    names_of,
    seeds_option,
    suite_option,
    tasks_option,
    time_limit_option,
    workspace_option,
    yes_option,
)
from htbench.cli.output import confirm, print_json, print_table, run_problems
from htbench.long_runs import long_runs
from htbench.progress import Terminal, log

if TYPE_CHECKING:
    from benchmark.manifest.suite import Suite
    from htbench.tune import Searches

SEARCH_HEADERS = ("pseudo-seen %", "pseudo-missing %", "mean", "")


@click.command("tune")
@click.argument("method", required=False)
@click.option(
    "--grid",
    "grids",
    multiple=True,
    metavar="FIELD=A,B,C",
    help="Values to try for a hyper-parameter, or for rate-factor, which multiplies the recipe's "
    "learning rates. If --grid is repeated, all combinations are tried.  [default: the search "
    "space that the method declares]",
)
@click.option(
    "--methods",
    "names",
    metavar="all|A,B,C",
    help="Tune several methods of the suite, each over the search space that it declares. Those "
    "that declare none are run at their defaults.",
)
@suite_option(required=True)
@tasks_option(RUN_TASKS)
@seeds_option(RUN_SEEDS)
@click.option(
    "--plugin",
    metavar="FILE[:CLASS]",
    help="Python file with the method to tune, in place of METHOD.",
)
@model_option
@click.option(
    "--repeats",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="Number of cross-validation folds per task.",
)
@click.option(
    "--search-only",
    is_flag=True,
    help="Only search; do not run the method with the chosen settings.",
)
@workspace_option
@device_option
@jobs_option
@time_limit_option
@memory_limit_option
@yes_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    method: str | None,
    grids: tuple[str, ...],
    names: str | None,
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
    time_limit: float,
    memory_limit: float | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Tune the hyper-parameters of methods for each task, then run them with the best ones.

    Settings are compared by pseudo cross-validation on the seen classes' training images: in each
    fold, half of the seen classes are treated as missing. The settings with the highest mean of
    seen and missing accuracy are chosen. The search uses no test images and no images of missing
    classes. It is recorded with each run, and the leaderboard has a table of tuned methods. A
    declared search space also has the factors 1, 1/3 and 1/10 on the learning rates; at most 12
    settings of it are tried. An interrupted search continues where it stopped.

    \b
    Examples:
      htbench tune --suite icons --methods all --repeats 2
      htbench tune selective-distill --suite icons --grid weight=0.3,1,3,10
      htbench tune --plugin half_way.py --suite icons --grid alpha=0.3,0.5 --task outline-solid
    """
    from benchmark.manifest.suite import load_suite
    from benchmark.runs.workspace import Workspace
    from htbench.cli.leaderboard import print_boards
    from htbench.run import write_board
    from htbench.tune import plan_tuning

    if [method, plugin, names].count(None) != 2:
        raise click.UsageError("give either METHOD, --plugin FILE or --methods")
    loaded, place = load_suite(suite), Workspace(workspace)
    with plan_tuning(
        loaded,
        place,
        methods=[method] if method is not None else _selected(loaded, names),
        plugin=plugin,
        grids=grids,
        tasks=tasks,
        seeds=seeds,
        network=network,
        repeats=repeats,
        device=device,
        jobs=jobs,
        time_limit=time_limit,
        memory_limit=memory_limit,
        monitor=Terminal(),
    ) as plan:
        if not yes:
            confirm(long_runs(plan.search.device, plan.estimate))
        searches = plan.choose()
        if as_json:
            print_json(searches)
        else:
            _print(searches, whole=names is None)
        if unchosen := plan.without_choice(searches):
            searched = plural(unchosen, "search")
            log(f"{searched} ended without a setting that succeeded on every fold; see above")
        if search_only:
            context.exit(1 if unchosen else 0)
        records = plan.run(searches)
        asked = plan.keys(searches)
    with run_problems() as problems:
        boards = write_board(loaded, place, problems.append, asked)
        if not as_json:
            print_boards(boards, None, problems, network=plan.network)
        if failed := sum(record.status == "failed" for record in records):
            runs = plural(failed, "run")
            log(f"{runs} with the chosen settings failed; the leaderboard gives the reasons")
        context.exit(1 if failed or unchosen else 0)


def is_search(search: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value has the form of the record of a search."""
    if not isinstance(search, dict) or not {"by", "folds", "steps", "chosen"} <= search.keys():
        return False
    tried = search.get("tried")
    return isinstance(tried, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("settings"), dict) for entry in tried
    )


def search_rows(search: Mapping[str, Any]) -> list[list[object]]:
    """Return one row per setting that a search tried, with the columns of ``SEARCH_HEADERS``."""
    rows: list[list[object]] = []
    for entry in search["tried"]:
        cells = [_percent(entry.get(name)) for name in ("seen", "missing", "score")]
        settings = " ".join(f"{name}={value}" for name, value in entry["settings"].items())
        mark = "chosen" if entry["settings"] == search["chosen"] else ""
        rows.append([settings, *cells, mark])
    return rows


def _percent(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else "failed"


def _selected(suite: Suite, names: str | None) -> list[str]:
    """The methods that ``--methods`` names; none without it.

    Raises:
        UsageError: one of them is not in the suite.
    """
    from benchmark.manifest.suite import ALL

    if names is None:
        return []
    if names == ALL:
        return list(suite.methods)
    selected = names_of(names)
    if unknown := [name for name in selected if name not in suite.methods]:
        raise UsageError(
            f"--methods: {unknown[0]!r} is not in suite {suite.name}; it has: "
            f"{', '.join(suite.methods)}"
        )
    return selected


def _print(searches: Searches, *, whole: bool) -> None:
    """Print what was tried, or only what was chosen."""
    rows = [
        [task, method, *row]
        for task, of_task in searches.items()
        for method, search in of_task.items()
        for row in search_rows(search)
        if whole or row[-1]
    ]
    print_table(rows, ["task", "method", "settings", *SEARCH_HEADERS])
    every = [search for of_task in searches.values() for search in of_task.values()]
    tried = [entry for search in every for entry in search["tried"]]
    failed = sum(entry["score"] is None for entry in tried)
    steps = sorted(search["steps"] for search in every)
    cost = " to ".join(str(number) for number in dict.fromkeys((steps[0], steps[-1])))
    click.echo(
        "\npseudo: on held-out training images of the seen classes, half of which play missing; "
        "the setting with the highest mean is chosen"
    )
    click.echo(
        f"{plural(len(tried), 'setting')} tried, of which {failed} failed on at least one fold and "
        f"cannot be chosen; gradient steps of a search: {cost}"
    )
