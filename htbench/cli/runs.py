"""`htbench runs`: remove runs of a workspace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.errors import MAX_ITEM, UsageError, first
from benchmark.text import near, one_line, plural, seed_list
from htbench.cli.options import (
    json_option,
    methods_option,
    seeds_option,
    status_option,
    tasks_option,
    workspace_option,
)
from htbench.cli.output import ask, print_json, print_table
from htbench.progress import log

if TYPE_CHECKING:
    from benchmark.records import RunRecord
    from benchmark.runs.remove import Removal
    from benchmark.runs.workspace import Workspace

MEBIBYTE = 1 << 20


@click.group("runs")
def command() -> None:
    """Remove runs of a workspace (`htbench list runs` lists them).

    \b
    Examples:
      htbench runs remove --method my-method --dry-run
      htbench runs remove --method my-method
    """


@command.command()
@methods_option(
    "Remove runs of this method, or of this method with its settings; repeatable.  [required]"
)
@tasks_option("Remove only runs of this task; repeatable.")
@seeds_option("Remove only runs of this seed, or range of seeds such as 0-4; repeatable.")
@status_option("Remove only runs of this status; repeatable.")
@workspace_option
@click.option("--yes", is_flag=True, help="Do not ask before runs are removed.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@json_option
def remove(
    methods: tuple[str, ...],
    tasks: tuple[str, ...],
    seeds: tuple[int, ...],
    states: tuple[str, ...],
    workspace: Path,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove runs of a method: their records, predictions and weights.

    Runs of all suites in the workspace are removed. A run that other runs start from is kept
    unless these are removed as well. What another process is carrying out is kept, too.

    \b
    Examples:
      htbench runs remove --method my-method --status failed
      htbench runs remove --method "my-method(alpha=0.3)" --task outline-solid --seed 0-2 --yes
    """
    from benchmark.runs.remove import remove_runs, size_of
    from benchmark.runs.workspace import Workspace
    from leaderboard.outcome_files import remove_outcomes

    if not methods:
        raise UsageError("name the method whose runs to remove with --method")
    place = Workspace(workspace)
    removal = _chosen(place, methods, tasks, seeds, states)
    if removal.kept:
        dependents = first(sorted({record.label for record in removal.dependents}), 8)
        log(
            f"kept: {_summary(removal.kept)}, because runs of {dependents} start from them; "
            "choose these with --method as well to remove all of them"
        )
    if as_json and (dry_run or not removal.runs):
        _print_json(removal.runs, removal.kept, [])
        return
    if not removal.runs:
        click.echo("no runs to remove")
        return
    if not as_json:
        _print(removal.runs)
    size = sum(size_of(place.folder(record.key)) for record in removal.runs)
    what = f"{plural(len(removal.runs), 'run')} in {place.root}, {size / MEBIBYTE:.1f} MiB"
    if dry_run:
        click.echo(f"\nwould remove {what}")
        return
    if not yes:
        refusal = f"this would remove {what}; add --yes to remove them"
        ask(f"\nremove {what}?", refusal, err=as_json)
    busy = remove_runs(place, [record.key for record in removal.runs])
    if busy:
        log(f"kept {plural(len(busy), 'run')} that another process is carrying out: {first(busy)}")
    for key in {record.key for record in removal.runs} - set(busy):
        remove_outcomes(place.root, key)
    if as_json:
        _print_json(removal.runs, removal.kept, busy)
    else:
        click.echo(f"removed {plural(len(removal.runs) - len(busy), 'run')}")


def _chosen(
    workspace: Workspace,
    methods: Sequence[str],
    tasks: Sequence[str],
    seeds: Sequence[int],
    states: Sequence[str],
) -> Removal:
    """The runs of a workspace that the options choose, as far as no other run needs them.

    Raises:
        UsageError: the workspace has no runs of one of the methods, or of one of the tasks.
    """
    from benchmark.runs.remove import plan_removal
    from leaderboard.filters import check_known, is_method

    records = list(workspace.records())
    labels = sorted({record.label for record in records})
    for method in methods:
        check_known(method, labels)
    known = sorted({record.task for record in records})
    for task in tasks:
        if task not in known:
            raise UsageError(
                f"--task {task}: {workspace.root} has no runs of this task; {near(task, known)}"
                f"it has: {first(known, 8)}"
            )
    return plan_removal(
        records,
        lambda record: (
            is_method(record.label, methods)
            and (not tasks or record.task in tasks)
            and (not seeds or record.seed in seeds)
            and (not states or record.status in states)
        ),
    )


def _print_json(runs: Sequence[RunRecord], kept: Sequence[RunRecord], busy: Sequence[str]) -> None:
    """The keys of the runs that are removed (with ``--dry-run``, would be), and of the others."""
    print_json(
        {
            "removed": [record.key for record in runs if record.key not in busy],
            "kept": [record.key for record in kept],
            "in progress": list(busy),
        }
    )


def _print(records: Sequence[RunRecord]) -> None:
    """A line for each method, task and status."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for record in records:
        seeds.setdefault((record.label, record.task, record.status), []).append(record.seed)
    rows = [
        [label, task, status, seed_list(numbers).partition(" ")[2], len(numbers)]
        for (label, task, status), numbers in sorted(seeds.items())
    ]
    print_table(rows, ["method", "task", "status", "seeds", "runs"])


def _summary(records: Iterable[RunRecord]) -> str:
    """How many runs of which methods."""
    counts = Counter(record.label for record in records)
    return ", ".join(
        f"{plural(n, 'run')} of {one_line(label, MAX_ITEM)}" for label, n in sorted(counts.items())
    )
