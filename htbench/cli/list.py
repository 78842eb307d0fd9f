"""`htbench list`: list methods, tasks, suites, data sets and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmark.commands import command as recommended
from benchmark.errors import UsageError
from benchmark.text import one_line
from htbench.cli.options import (
    OWN_SUITE,
    json_option,
    methods_option,
    plugins_option,
    refuse_workspace,
    seeds_option,
    status_option,
    suite_option,
    tasks_option,
    workspace_option,
)
from htbench.cli.output import (
    MAX_CELL,
    fixed,
    is_terminal,
    list_problems,
    print_json,
    print_table,
    run_problems,
    screen,
)
from htbench.progress import log


@click.group("list")
def command() -> None:
    """List methods, tasks, suites, data sets or runs.

    \b
    Examples:
      htbench list methods
      htbench list tasks --suite icons --json
    """


@command.command()
@plugins_option("Also list the method in this Python file; repeatable.")
@suite_option("List only this suite's methods, with their mean accuracies in the workspace.")
@workspace_option
@click.option(
    "--markdown", is_flag=True, help="Print a Markdown table that includes each method's paper."
)
@json_option
def methods(
    plugins: tuple[str, ...],
    suite: str | None,
    workspace: Path,
    markdown: bool,
    as_json: bool,
) -> None:
    """List methods with their hyper-parameters or, with --suite, their mean accuracies.

    \b
    Examples:
      htbench list methods
      htbench list methods --plugin my_method.py --json
      htbench list methods --suite icons-full --markdown
    """
    from benchmark.manifest.suite import load_suite
    from benchmark.runs.workspace import Workspace
    from htbench.methods import describe_methods, markdown_table, method_entries
    from htbench.results import suite_boards
    from leaderboard.render.methods import means

    if as_json and markdown:
        raise UsageError("--json cannot be combined with --markdown")
    if suite is None:
        refuse_workspace("is only for the accuracies that --suite adds")
    loaded = None if suite is None else load_suite(suite)
    with run_problems() as problems:
        descriptions = describe_methods(loaded, plugins, problems.append)
        entries = method_entries(descriptions, derived=markdown or loaded is not None)
        boards = suite_boards(loaded, Workspace(workspace), problems.append) if loaded else []
        if markdown:
            click.echo(markdown_table(entries, loaded, boards))
            return
        if loaded:
            entries = [{**entry, **means(boards, entry["method"])} for entry in entries]
        if as_json:
            print_json(entries)
        else:
            _print_methods(entries, with_means=loaded is not None)


def _print_methods(entries: list[dict[str, Any]], *, with_means: bool) -> None:
    from leaderboard.render.methods import SHOWN

    columns = SHOWN if with_means else ()
    rows: list[list[object]] = []
    details: list[list[object]] = []
    for e in entries:
        rows.append([e["method"], e["track"], *(fixed(e[c]) for c in columns), e["summary"]])
        fields = " ".join(f"{name}={value}" for name, value in e["fields"].items())
        parts = [e["base"] or "-", ", ".join(e["needs"]) or "-", fields or "-"]
        if any(part != "-" for part in parts):
            details.append([e["method"], *parts])
    print_table(rows, ["method", "track", *columns, "what it does"])
    click.echo()
    print_table(
        details, ["method", "starts from", "needs", "hyper-parameters (--set) and defaults"]
    )


@command.command()
@suite_option("List only the tasks of this suite.")
@json_option
def tasks(suite: str | None, as_json: bool) -> None:
    """List the tasks of all data sets, or those of one suite.

    \b
    Examples:
      htbench list tasks
      htbench list tasks --suite icons --json
    """
    from benchmark.manifest.suite import load_suite
    from benchmark.summaries import task_summaries

    loaded = None if suite is None else load_suite(suite)
    with list_problems() as problems:
        entries = task_summaries(loaded, problems.append)
        if as_json:
            print_json(entries)
            return
        columns = ("task", "manifest", "source", "target", "seen classes", "missing classes")
        rows = [
            [e["task"], e["manifest"], "+".join(e["sources"]), e["target"], e["seen"], e["missing"]]
            for e in entries
        ]
        print_table(rows, columns)


@command.command()
@json_option
def suites(as_json: bool) -> None:
    """List the suites. A suite is a named set of tasks, methods and seeds.

    \b
    Examples:
      htbench list suites
      htbench list suites --json
    """
    from benchmark.summaries import suite_summaries

    with list_problems() as problems:
        entries = suite_summaries(problems.append)
        if as_json:
            print_json(entries)
            return
        rows = [
            [
                *(e["name"], e["manifest"]),
                *(len(e[n]) for n in ("tasks", "methods", "seeds")),
                e["title"],
            ]
            for e in entries
        ]
        print_table(rows, ["suite", "manifest", "tasks", "methods", "seeds", "title"])


@command.command()
@json_option
def datasets(as_json: bool) -> None:
    """List the data sets and their versions.

    \b
    Examples:
      htbench list datasets
      htbench list datasets --json
    """
    from benchmark.summaries import dataset_summaries

    with list_problems() as problems:
        entries = dataset_summaries(problems.append)
        if as_json:
            print_json(entries)
            return
        rows = [
            [
                *(e["manifest"], e["images"], e["classes"], " ".join(e["domains"])),
                *(e["tasks"], e["title"]),
            ]
            for e in entries
        ]
        print_table(rows, ["data set", "images", "classes", "domains", "tasks", "title"])
        print_unexpanded()


def print_unexpanded() -> None:
    """Print how to expand each recipe that has not been expanded."""
    from benchmark.manifest.catalogue import published_manifests, published_recipes

    references = published_manifests()
    for recipe in published_recipes():
        if recipe not in references:
            click.echo(
                f"\n{recipe} is a recipe that has not been expanded yet; run "
                f"`{recommended('manifest', 'expand', recipe, '--metadata', 'FILE')}`"
            )


@command.command()
@suite_option(OWN_SUITE)
@tasks_option("List only runs of this task; repeatable.")
@methods_option("List only runs of this method, or this method with its settings; repeatable.")
@seeds_option("List only runs of this seed, or range of seeds such as 0-4; repeatable.")
@status_option("List only runs of this status; repeatable.")
@workspace_option
@json_option
def runs(
    suite: str | None,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    states: tuple[str, ...],
    workspace: Path,
    as_json: bool,
) -> None:
    """List the runs of a workspace with their scores and when they finished.

    Rows named gamma-star are not runs; they are derived from the predictions of finetune.

    \b
    Examples:
      htbench list runs
      htbench list runs --method lwf --task outline-solid --seed 0-1
      htbench list runs --status failed --json
    """
    from benchmark.runs.workspace import Workspace
    from htbench.own_suite import chosen_suite
    from htbench.results import run_rows

    place = Workspace(workspace)
    loaded = chosen_suite(suite, place)
    with run_problems() as problems:
        entries = run_rows(
            loaded, place, problems.append, task=tasks, method=methods, seed=seeds, status=states
        )
        if as_json:
            print_json(entries)
        elif entries:
            _print_runs(entries)
        else:
            selected = " that match" if tasks or methods or seeds or states else ""
            log(f"{place.root} has no runs of suite {loaded.name}{selected}")


def _print_runs(entries: list[dict[str, Any]]) -> None:
    """Print a table; on a terminal, the columns on the left that fit."""
    from leaderboard.versions import CODE_DIGITS

    headers = [
        *("key", "task", "method", "seed", "status", "overall", "seen", "missing", "s"),
        *("finished (UTC)", "code", "network", "manifest"),
    ]
    rows = [
        [
            e["key"][:12],
            *(str(e[n]) for n in ("task", "label", "seed", "status")),
            *(fixed(e[n]) for n in ("overall", "seen", "missing", "seconds")),
            (e["finished"] or "-").replace("T", " ").removesuffix("Z"),
            e["method_code"][:CODE_DIGITS],
            e["network"],
            e["manifest"],
        ]
        for e in entries
    ]
    if is_terminal():
        _print_fitted(rows, headers)
    else:
        print_table(rows, headers)


def _print_fitted(rows: list[list[str]], headers: list[str]) -> None:
    from leaderboard.render.terminal import Grid

    terminal = screen()
    lines = [([one_line(cell, MAX_CELL) for cell in row], "") for row in rows]
    grid = Grid(headers, headers.index("method") + 1, lines)
    table = grid.fit(terminal.width, range(grid.left, len(headers)))
    hidden = f"hidden at this width: {', '.join(grid.hidden)}; --json has everything"
    click.echo(terminal.text([table, hidden] if grid.hidden else [table]), nl=False)
