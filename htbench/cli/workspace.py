"""`htbench workspace`: merge, check and repair workspaces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.commands import command as command_line
from benchmark.errors import MAX_MESSAGE
from benchmark.text import one_line, plural
from htbench.cli.options import LocalPath, json_option, workspace_option
from htbench.cli.output import print_json
from htbench.progress import StepLines

if TYPE_CHECKING:
    from benchmark.runs.workspace import Workspace
    from htbench.workspace import RunsState, WorkspaceState

MEBIBYTE = 1 << 20
MAX_SHOWN = 20  # problems; the others are counted, and all are in the JSON


@click.group("workspace")
def command() -> None:
    """Merge, check or repair workspaces.

    \b
    Examples:
      htbench workspace merge shards/1 shards/2 --into workspace
      htbench workspace check
    """


@command.command()
@click.argument("workspaces", nargs=-1, required=True, type=LocalPath())
@click.option(
    "--into",
    required=True,
    metavar="DIR",
    type=LocalPath(file_okay=False),
    help="Workspace to copy runs into; it may be new.",
)
@json_option
@click.pass_context
def merge(context: click.Context, workspaces: tuple[Path, ...], into: Path, as_json: bool) -> None:
    """Copy the runs of workspaces into another one.

    Every file is compared with its digest. Runs that are there already are not copied again. Of two
    different results for the same run, the first is kept. Exits with status 1 and names what was
    not copied if anything is damaged, different or not a run.

    \b
    Examples:
      htbench workspace merge shards/1 shards/2 --into workspace
      htbench workspace merge laptop/workspace --into workspace --json
    """
    from benchmark.runs.merge import merge_workspaces
    from leaderboard.rows import check_record

    merged = merge_workspaces(workspaces, into, check_record, StepLines)
    if as_json:
        print_json(vars(merged))
    else:
        _print_sentences(merged.problems)
        there = plural(merged.present, "run") + " already there"
        if merged.copied:
            click.echo(f"copied {plural(len(merged.copied), 'run')} to {into}; {there}")
        else:
            click.echo(f"copied nothing to {into}; {there}")
    if merged.problems:
        context.exit(1)


@command.command()
@workspace_option
@json_option
@click.pass_context
def check(context: click.Context, workspace: Path, as_json: bool) -> None:
    """Read every file of a workspace and say what is there and what is wrong.

    Nothing is changed. Exits with status 1 if something is wrong.

    \b
    Examples:
      htbench workspace check
      htbench workspace check --workspace shards/1 --json
    """
    from benchmark.runs.workspace import Workspace
    from htbench.workspace import workspace_state

    state = workspace_state(workspace, StepLines)
    if as_json:
        print_json(state.as_dict())
    else:
        _print_state(state, Workspace(workspace))
    if not state.is_well:
        context.exit(1)


@command.command()
@workspace_option
@json_option
@click.pass_context
def repair(context: click.Context, workspace: Path, as_json: bool) -> None:
    """Repair what can be repaired in a workspace, and say what was done.

    Damaged runs are moved to the folder set-aside, and `htbench run` repeats them. Damaged derived
    files are recreated, and files that killed commands left are removed. Exits with status 1 if
    something is still wrong.

    \b
    Examples:
      htbench workspace repair
      htbench workspace repair --workspace shards/1
    """
    from htbench.workspace import repair as repair_workspace
    from htbench.workspace import workspace_state

    sentences = repair_workspace(workspace, StepLines)
    state = workspace_state(workspace, StepLines)
    if as_json:
        print_json({"repairs": sentences, "state": state.as_dict()})
    else:
        for sentence in sentences or ["nothing to repair"]:
            click.echo(one_line(sentence, MAX_MESSAGE))
        _print_sentences(_problems(state))
    if not state.is_well:
        context.exit(1)


def _print_state(state: WorkspaceState, workspace: Workspace) -> None:
    lines = {
        "workspace": state.folder,
        "runs": _summary(state.runs),
        "tuning": _summary(state.tuning),
        "results": "missing; made when needed" if state.results == "missing" else state.results,
        "outcomes": plural(state.outcomes, "file"),
        "intervals": plural(state.intervals, "file"),
        "set aside": str(state.set_aside),
    }
    for part in (state.runs, state.tuning):
        if part.running:
            lines["running"] = plural(part.running, "command") + " at work here"
    for name, text in lines.items():
        click.echo(f"{name:<12}{text}")
    _print_sentences(_problems(state))
    if state.repairable:
        repair = command_line("workspace", "repair", *workspace.option)
        click.echo(f"run `{repair}` to repair this")


def _problems(state: WorkspaceState) -> list[str]:
    """What is wrong, in sentences, and what belongs to commands on other machines."""
    sentences = []
    for folder, part in (("", state.runs), ("tuning/", state.tuning)):
        sentences += [
            "damaged: "
            + "/".join(filter(None, [f"{folder}runs/{d.name}", d.file]))
            + f": {d.reason}"
            for d in part.damaged
        ]
        sentences += [
            f"unknown: {folder}runs/{key}: a later version of the benchmark wrote it; "
            "update to read it"
            for key in part.newer
        ]
        sentences += [
            f"left over: {folder}tmp/{name}: its command was killed" for name in part.dead
        ]
        sentences += [
            f"perhaps left over: {folder}tmp/{name}: its command runs or ran on another machine"
            for name in part.elsewhere
        ]
    if state.results == "damaged":
        sentences.append("damaged: results.parquet")
    return sentences + [f"damaged or left over: {name}" for name in state.useless]


def _summary(runs: RunsState) -> str:
    total = len(runs.keys)
    if not total:
        return "none"
    counts = [f"{count} {status}" for status, count in sorted(runs.statuses.items())]
    if unusable := total - sum(runs.statuses.values()):
        counts.append(f"{unusable} cannot be used")
    return f"{total}: {', '.join(counts)}; {runs.size / MEBIBYTE:.1f} MiB"


def _print_sentences(sentences: list[str]) -> None:
    for sentence in sentences[:MAX_SHOWN]:
        click.echo(one_line(sentence, MAX_MESSAGE))
    if (more := len(sentences) - MAX_SHOWN) > 0:
        click.echo(f"and {more} more; --json lists all")
