"""`htbench run`: carry out the runs of a suite that are not done yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htbench.cli.main import network_option, print_json, print_table

if TYPE_CHECKING:
    from benchmark.records import RunRecord
    from benchmark.runs.plan import Cell, RunSpec
    from benchmark.runs.workspace import Workspace
    from benchmark.source import SourceCheckpoint, SourceSpec
    from htbench.cli.session import Session


@click.command("run")
@click.option("--suite", "suite_name", required=True, metavar="SUITE",
              help="Name of a suite, or a .toml file.")  # fmt: skip
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="Only this task; repeatable.")
@click.option("--method", "methods", multiple=True, metavar="METHOD",
              help="Only this method; repeatable. Default: those of the suite.")  # fmt: skip
@click.option("--seed", "seeds", multiple=True, type=int, metavar="SEED",
              help="Only this seed; repeatable.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE",
              help="A hyper-parameter of every chosen method that has it; repeatable.")  # fmt: skip
@click.option("--plugin", "plugins", multiple=True, metavar="FILE[:CLASS]",
              help="A file with a method of your own; alone, only it is run.")  # fmt: skip
@network_option
@click.option("--workspace", "root", default="workspace", show_default=True, metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="Where runs go.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto",
              show_default=True, help="Where to compute.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), metavar="N",
              help="Runs side by side on CPU. Default: one per core.")  # fmt: skip
@click.option("--isolation", type=click.Choice(["auto", "required"]), default="auto",
              show_default=True,
              help="Refuse to run where the kernel cannot lock a method in?")  # fmt: skip
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), default=86400,
              show_default=True, metavar="SECONDS", help="Of one run.")  # fmt: skip
@click.option("--memory-limit", type=click.FloatRange(min=0, min_open=True), metavar="GIB",
              help="Of one run, 0.4 GiB of which are Python and torch.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would run, and run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    context: click.Context,
    suite_name: str,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    settings: tuple[str, ...],
    plugins: tuple[str, ...],
    network: str | None,
    root: Path,
    device: str,
    jobs: int | None,
    isolation: str,
    time_limit: float,
    memory_limit: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run methods on the tasks of a suite, then score them and print the board.

    A run that is done already is not done again: the same command carries on where it stopped.
    Exit status 1 if a run failed; its row says why.

    \b
    Examples:
      htbench run --suite icons
      htbench run --suite icons --plugin my_method.py --task outline-solid --set alpha=0.3
      htbench run --suite icons --model resnet18 --method finetune --method bn-stats
    """
    from benchmark.manifest import load_manifest, load_suite, network_label
    from benchmark.registry import resolve
    from benchmark.runs.isolate import Limits
    from benchmark.runs.plan import grid, resolve_device, select
    from benchmark.runs.workspace import Workspace
    from htbench.cli.leaderboard import print_board
    from htbench.cli.session import Session

    suite = load_suite(suite_name)
    manifest = load_manifest(suite.manifest)
    task_ids, seed_list = select(suite, tasks, seeds)
    given = _parse(settings)
    device = resolve_device(device)
    workspace = Workspace(root)
    memory = round(memory_limit * 2**30) if memory_limit else Limits.memory
    with Session(
        never=[workspace.root, manifest.root],
        cuda=device == "cuda",
        limits=Limits(seconds=time_limit, memory=memory),
        isolation=isolation,
    ) as session:
        manifest = session.with_network(manifest, network)
        names = methods or (() if plugins else suite.methods)
        described = resolve(names, plugins, session.describe)
        cells = grid(manifest, task_ids, described, seed_list, device, given)
        for method in described:
            session.check(method, method.configure(given))
        if dry_run:
            _show_plan(cells, workspace, as_json)
            return
        failed = _carry_out(session, cells, workspace, jobs)
    network = network_label(manifest.model)
    print_board(suite, workspace, "json" if as_json else "markdown", write=True, network=network)
    if failed:
        click.echo(f"{failed} of {len(cells)} runs failed; the board names them", err=True)
        context.exit(1)


def _parse(settings: tuple[str, ...]) -> dict[str, str]:
    from benchmark.errors import UsageError

    parsed = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {setting}: write it as field=value")
        if name in parsed:
            raise UsageError(f"--set {name} is given twice")
        parsed[name] = value
    return parsed


def _carry_out(session: Session, cells: list[Cell], workspace: Workspace, jobs: int | None) -> int:
    """Do all that is not done; return how many runs failed."""
    from benchmark.executors.local import slots

    with workspace:
        return _carry_out_here(session, cells, workspace, jobs or slots(cells[0].device))


def _carry_out_here(session: Session, cells: list[Cell], workspace: Workspace, width: int) -> int:
    from htbench.cli.session import ready_sources

    specs = list(dict.fromkeys(cell.source for cell in cells))
    sources = ready_sources(session, specs, workspace, width)
    records = execute_cells(session, cells, sources, workspace, width)
    return sum(record.status == "failed" for record in records)


def execute_cells(
    session: Session,
    cells: list[Cell],
    sources: Mapping[SourceSpec, SourceCheckpoint],
    workspace: Workspace,
    width: int,
) -> list[RunRecord]:
    """Carry out those cells of one manifest that are not done; return what they recorded."""
    from benchmark.executors.local import LocalExecutor
    from htbench.cli.session import open_stores, progress, target_needs, tell

    runs = _to_do(cells, sources, workspace)
    if not runs:
        return []
    if again := sum(workspace.finished(run.key) is not None for run in runs):
        tell(f"{again} finished runs are done again, for runs that start from their weights")
    stores = open_stores(cells[0].manifest, target_needs(run.cell for run in runs))
    with progress(len(runs)) as reporter:
        return LocalExecutor(session.server, workspace, width, reporter).execute(runs, stores)


def _to_do(cells: list[Cell], sources: Any, workspace: Workspace) -> list[RunSpec]:
    """The runs that are not done; a base whose weights are wanted and gone is done again."""
    from benchmark.runs.plan import with_sources

    specs = list(with_sources(cells, sources))
    open_runs = {s.key for s in specs if workspace.finished(s.key) is None}
    bases = {s.base.key for s in specs if s.key in open_runs and s.base is not None}
    open_runs |= {key for key in bases if workspace.finished(key, weights=True) is None}
    return list({spec.key: spec for spec in specs if spec.key in open_runs}.values())


def _show_plan(cells: list[Cell], workspace: Workspace, as_json: bool) -> None:
    from benchmark.runs.plan import with_sources
    from benchmark.source import find_source

    rows: list[dict[str, Any]] = []
    seconds = _past_seconds(workspace, cells[0].manifest.model)
    for cell in cells:
        source = find_source(cell.source)
        key, state = None, "to run, after its source model"
        if source is not None:
            *_, spec = with_sources(_chain(cell), {cell.source: source})
            key = spec.key
            state = "done" if workspace.finished(key) else "to run"
        rows.append(
            {
                "task": cell.task.id,
                "method": cell.label,
                "seed": cell.seed,
                "state": state,
                "key": key,
                "estimated_seconds": 0.0 if state == "done" else seconds.get(cell.method.name),
            }
        )
    if as_json:
        print_json(rows)
        for line in _lacking(cells):
            click.echo(line, err=True)
        return
    print_table(
        [[r["task"], r["method"], r["seed"], r["state"], (r["key"] or "-")[:12]] for r in rows],
        ["task", "method", "seed", "state", "key"],
    )
    to_do = [r for r in rows if r["state"] != "done"]
    untrained = {cell.source for cell in cells if find_source(cell.source) is None}
    if untrained:
        click.echo(f"\nsource models to train first: {len(untrained)}, of no known cost")
    click.echo(f"\n{len(rows)} runs: {len(rows) - len(to_do)} done, {len(to_do)} to run")
    known = [r["estimated_seconds"] for r in to_do if r["estimated_seconds"] is not None]
    if to_do:
        unknown = len(to_do) - len(known)
        rest = f"; no figure yet for {unknown}" if unknown else ""
        click.echo(f"cost, by earlier runs of the same methods here: {sum(known):.0f} s{rest}")
        for line in _lacking(cells):
            click.echo(line)


def _lacking(cells: list[Cell]) -> list[str]:
    """What the runs need and is not here, each with the command that brings it."""
    from benchmark.images.store import lacking_images
    from benchmark.source import find_source
    from benchmark.weights import find_initial, initial_name
    from htbench.cli.session import source_needs, target_needs

    manifest = cells[0].manifest
    untrained = [spec for spec in {cell.source for cell in cells} if find_source(spec) is None]
    needs = target_needs(cells)
    for domain, need in source_needs(untrained).items():
        needs[domain] = needs[domain] | need if domain in needs else need
    lines = []
    left = {domain: len(lacking_images(manifest, domain, need)) for domain, need in needs.items()}
    if count := sum(left.values()):
        each = ", ".join(f"{domain} {number}" for domain, number in sorted(left.items()) if number)
        got = "htbench data download {0}, or " if manifest.document.get("mirrors") else ""
        lines.append(
            f"{count} images are not here ({each}): "
            + f"{got}htbench data import {{0}} PATH".format(manifest.reference)
        )
    name = initial_name(manifest.model)
    if untrained and name and find_initial(manifest.model) is None:
        lines.append(
            f"the initial weights {name} are not here: the first run downloads them, or "
            f"htbench source train --manifest {manifest.reference}{manifest.model_option} "
            "--weights FILE brings a file"
        )
    return lines


def _chain(cell: Cell) -> list[Cell]:
    """A cell after the cells that it starts from."""
    return [*_chain(cell.base), cell] if cell.base else [cell]


def _past_seconds(workspace: Workspace, model: Mapping[str, Any]) -> dict[str, float]:
    """Median wall seconds of each method's finished runs of a network in the workspace."""
    from statistics import median

    times: dict[str, list[float]] = {}
    for record in workspace.records():
        if record.status == "ok" and record.made_from.get("model") == model:
            times.setdefault(record.method, []).append(record.cost["wall_seconds"])
    return {method: median(values) for method, values in times.items()}
