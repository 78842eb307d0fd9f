"""`htbench run`: run the unfinished runs of a suite."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.choices import ISOLATION
from benchmark.commands import command as command_line
from benchmark.text import plural
from htbench.cli.options import (
    RUN_SEEDS,
    RUN_TASKS,
    device_option,
    jobs_option,
    json_option,
    memory_limit_option,
    methods_option,
    model_option,
    plugins_option,
    refuse_workspace,
    seeds_option,
    settings_option,
    suite_option,
    tasks_option,
    time_limit_option,
    workspace_option,
    yes_option,
)
from htbench.cli.output import (
    confirm,
    importing,
    is_terminal,
    print_json,
    print_table,
    run_problems,
    screen,
)
from htbench.long_runs import duration, long_runs
from htbench.progress import Terminal, log

if TYPE_CHECKING:
    from benchmark.driver import SuitePlan
    from benchmark.manifest.suite import Suite
    from benchmark.records import RunRecord
    from benchmark.runs.shards import Shard
    from benchmark.runs.workspace import Workspace
    from leaderboard.render.asked import AskedCells

MAX_OUTPUT_LINES = 100
_BOARD_MODULES = ("pandas", "scipy.special", "htbench.run")  # what printing the results takes


@click.command("run")
@suite_option(required=True)
@tasks_option(RUN_TASKS)
@methods_option(
    "Run only this method, or these (A,B); repeatable.  [default: all methods of the suite]"
)
@seeds_option(RUN_SEEDS)
@settings_option
@plugins_option(
    "Also run the method in this Python file; repeatable. Without --method, only plugins run."
)
@model_option
@workspace_option
@device_option
@jobs_option
@click.option(
    "--isolation",
    type=click.Choice(ISOLATION),
    default=ISOLATION[0],
    show_default=True,
    help="What to do if methods cannot be fully sandboxed. required: fail. auto: run "
    "anyway and record it.",
)
@time_limit_option
@memory_limit_option
@click.option(
    "--shard",
    metavar="I/N",
    help="Run only part I of N, in a workspace for this part; see `htbench cluster script`. "
    "auto/N takes I from SLURM or Kubernetes, and auto takes both from a SLURM array.",
)
@click.option(
    "--smoke",
    is_flag=True,
    help="Take two steps on a few images of the first task and seed, with source and finetune, "
    "unless you name others, to see whether a set-up works. Nothing is recorded.",
)
@click.option("--dry-run", is_flag=True, help="Show the planned runs without running them.")
@yes_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    suite: str,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    settings: dict[str, str],
    plugins: tuple[str, ...],
    network: str | None,
    workspace: Path,
    device: str,
    jobs: int | None,
    isolation: str,
    time_limit: float,
    memory_limit: float | None,
    shard: str | None,
    smoke: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Run methods on the tasks of a suite, score them, and print the results.

    Without --task, --method, --seed, --set and --plugin, this prints the whole leaderboard, and
    otherwise the runs that you asked for, with source, finetune, the best method and the oracle on
    the same tasks and seeds. The whole leaderboard is also in leaderboard.md of the workspace.

    With --shard, no board is printed: run `htbench workspace merge`, then `htbench leaderboard`.

    Finished runs are not repeated, so you can run the same command again to resume. Exits with
    status 1 if any run failed; the output gives the reason.

    \b
    Examples:
      htbench run --suite icons
      htbench run --suite icons --plugin my_method.py --task outline-solid --set alpha=0.3
      htbench run --suite icons --model resnet18 --method finetune --method bn-stats
      htbench run --suite icons --shard 3/8 --workspace shards/3
      htbench run --suite office-home --smoke
    """
    from benchmark.isolation.launch import call_ahead

    call_ahead()
    from benchmark.driver import plan_suite
    from benchmark.manifest.suite import load_suite, manifest_of
    from htbench.results import open_workspace
    from htbench.run import shard_of
    from htbench.smoke import METHODS as SMOKE_METHODS
    from htbench.smoke import small, smoke_workspace
    from leaderboard.gamma_star import DERIVED

    loaded, place = load_suite(suite), open_workspace(workspace)
    part, costs = shard_of(shard)
    manifest = None
    if smoke:
        if part is not None:
            raise click.UsageError("--smoke and --shard exclude each other")
        refuse_workspace("cannot be combined with --smoke, which records nothing")
        place = context.with_resource(smoke_workspace())
        tasks, seeds = tasks or loaded.tasks[:1], seeds or loaded.seeds[:1]
        methods = methods or (() if plugins else SMOKE_METHODS)
        whole = manifest_of(loaded)
        manifest = small(whole, map(whole.task, loaded.part(tasks, seeds).tasks))
    with plan_suite(
        loaded,
        place,
        tasks=tasks,
        methods=methods,
        seeds=seeds,
        settings=settings,
        plugins=plugins,
        network=network,
        device=device,
        isolation=isolation,
        time_limit=time_limit,
        memory_limit=memory_limit,
        derived=DERIVED,
        shard=part,
        costs=costs,
        manifest=manifest,
        elsewhere=dry_run,
    ) as plan:
        if part is not None:
            log(f"{part}: {plural(len(plan.cells), 'run')}")
        if dry_run:
            _print_plan(plan, as_json, jobs)
            return
        if not (yes or smoke):
            confirm(long_runs(plan.device, lambda: plan.estimate(jobs)))
        with importing(*_BOARD_MODULES):
            records = plan.execute(jobs, Terminal())
        asked = plan.keys()
    if plan.is_single and records:
        _echo_output(place.folder(records[-1].key))
    failed = sum(record.status == "failed" for record in records)
    if smoke:
        _print_smoke(len(records), failed, place, as_json)
        context.exit(1 if failed else 0)
    if part is not None:
        _print_shard(part, len(plan.cells), failed, place, as_json)
        context.exit(1 if failed else 0)
    print_results(loaded, place, plan, records, asked, context.params, as_json=as_json)


def print_results(
    suite: Suite,
    place: Workspace,
    plan: SuitePlan,
    records: Sequence[RunRecord],
    asked: Collection[str],
    options: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Score new runs, print the board or what was asked for, and exit with 1 if a run failed.

    Args:
        suite: the suite.
        place: the workspace.
        plan: its runs.
        records: of the runs that were carried out now.
        asked: keys of all runs that were asked for.
        options: of the command, by their names in ``command``.
        as_json: whether the board is printed as JSON.
    """
    from benchmark.networks.names import network_label
    from htbench.cli.leaderboard import print_boards
    from htbench.run import asked_cells, write_board

    failed = sum(record.status == "failed" for record in records)
    manifest = plan.manifest if options["network"] is None else None
    with run_problems() as problems:
        boards = write_board(suite, place, problems.append, asked, manifest)
        parts = ("tasks", "methods", "seeds", "settings", "plugins")
        is_part = any(options[name] for name in parts) and not as_json
        cells = (
            asked_cells(suite.part(options["tasks"], options["seeds"]), place, asked, manifest)
            if is_part
            else None
        )
        if cells is not None:
            _print_asked(cells)
        else:
            label = network_label(plan.manifest.model)
            print_boards(boards, "json" if as_json else None, problems, network=label)
        if failed:
            runs = plural(len(plan.cells), "run")
            log(f"{failed} of {runs} failed; the reasons are below the table")
            click.get_current_context().exit(1)


def _echo_output(folder: Path) -> None:
    """Print what a run printed, on standard error: the board is on standard output."""
    from htbench.results import last_output

    lines = last_output(folder, MAX_OUTPUT_LINES + 1)
    if len(lines) > MAX_OUTPUT_LINES:
        log(f"(only the last {MAX_OUTPUT_LINES} lines that the run printed)")
    for line in lines[-MAX_OUTPUT_LINES:]:
        log(f"  | {line}")


def _print_shard(part: Shard, runs: int, failed: int, place: Workspace, as_json: bool) -> None:
    """The board needs all shards, so it is printed after the merge."""
    if as_json:
        print_json({"shard": part.number, "shards": part.count, "runs": runs, "failed": failed})
        return
    merge = command_line("workspace", "merge", place.root, "...", "--into", "DIR")
    click.echo(f"{part}: {runs - failed} of {plural(runs, 'run')} finished, {failed} failed")
    click.echo(f"when all shards have ended, merge their workspaces: `{merge}`")


def _print_smoke(runs: int, failed: int, place: Workspace, as_json: bool) -> None:
    """No scores: after two steps, they mean nothing."""
    if as_json:
        print_json({"runs": runs, "failed": failed})
        return
    click.echo(f"{runs - failed} of {plural(runs, 'run')} finished, {failed} failed")
    kept = f"; `htbench show` reads failed runs in {place.root}" if failed else ""
    click.echo(f"two steps on a few images; nothing is recorded{kept}")


def _print_asked(cells: AskedCells) -> None:
    from leaderboard.render.asked import asked_markdown, asked_terminal

    text = asked_terminal(cells, screen()) if is_terminal() else asked_markdown(cells)
    click.echo(text, nl=False)


def _print_plan(plan: SuitePlan, as_json: bool, jobs: int | None) -> None:
    from htbench.run import estimated_gpu_hours

    runs = plan.preview(timed=as_json)
    if as_json:
        print_json([run.as_dict() for run in runs])
        for sentence in plan.absent():
            log(sentence)
        return
    print_table(
        [[run.task, run.method, run.seed, run.state, (run.key or "-")[:12]] for run in runs],
        ["task", "method", "seed", "state", "key"],
    )
    if untrained := len(plan.untrained()):
        click.echo(f"\n{plural(untrained, 'source model')} must be trained first")
    unfinished = [run for run in runs if not run.finished]
    finished = len(runs) - len(unfinished)
    click.echo(f"\n{plural(len(runs), 'run')}: {finished} done, {len(unfinished)} to run")
    if not unfinished:
        return
    if (gpu_hours := estimated_gpu_hours(plan)) is not None:
        click.echo(gpu_hours)
    seconds = plan.estimate(jobs)
    if seconds is None:
        why = "this machine has no CUDA device" if plan.is_elsewhere else ""
        click.echo(f"no time estimate: {why or 'a step of the network could not be timed'}")
    else:
        known = [run for run in unfinished if run.estimated_seconds is not None]
        basis = "earlier runs in this workspace"
        if untrained or len(known) < len(unfinished):
            basis = "one step of the network on this device" + (f", and {basis}" if known else "")
        click.echo(f"estimated time: {duration(seconds)}, based on {basis}")
        if len(known) < len(unfinished):
            click.echo("(less for methods with fewer steps than the recipe)")
    for sentence in plan.absent():
        click.echo(sentence)
