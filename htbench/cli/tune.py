"""`htbench tune`: choose hyper-parameters on seen training data, then run with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htbench.cli.main import network_option, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmark.manifest import Manifest, Task
    from benchmark.registry import MethodDescription
    from benchmark.runs.plan import Cell, RunSpec
    from benchmark.runs.workspace import Workspace
    from benchmark.source import SourceCheckpoint, SourceSpec
    from benchmark.tune import Trial
    from htbench.cli.session import Session

SEARCH_HEADERS = ("pseudo-seen %", "pseudo-missing %", "mean", "")
FOLDER = "tuning"  # of the workspace: runs on folds never stand among those on tasks


@click.command("tune")
@click.argument("method", required=False)
@click.option("--grid", "grids", multiple=True, required=True, metavar="FIELD=A,B,C",
              help="Values of a hyper-parameter; several options make a product.")  # fmt: skip
@click.option("--suite", "suite_name", required=True, metavar="SUITE",
              help="Name of a suite, or a .toml file.")  # fmt: skip
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="Only this task; repeatable.")
@click.option("--seed", "seeds", multiple=True, type=int, metavar="SEED",
              help="Only this seed; repeatable.")  # fmt: skip
@click.option("--plugin", metavar="FILE[:CLASS]", help="The method is in a file of your own.")
@network_option
@click.option("--repeats", type=click.IntRange(1, 20), default=3, show_default=True,
              help="Folds of each task.")  # fmt: skip
@click.option("--search-only", is_flag=True, help="Choose, and do not run the choice.")
@click.option("--workspace", "root", default="workspace", show_default=True, metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="Where runs go.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto",
              show_default=True, help="Where to compute.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), metavar="N",
              help="Runs side by side on CPU. Default: one per core.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the searches as JSON.")
@click.pass_context
def command(
    context: click.Context,
    method: str | None,
    grids: tuple[str, ...],
    suite_name: str,
    tasks: tuple[str, ...],
    seeds: tuple[int, ...],
    plugin: str | None,
    network: str | None,
    repeats: int,
    search_only: bool,
    root: Path,
    device: str,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Choose hyper-parameters of METHOD for each task, then run it with them.

    By pseudo cross-validation on the seen classes' training images: half of the seen classes play
    missing, three times over, and the settings with the best mean of seen and missing accuracy
    win. No test image and no image of a missing class is touched. The search stands on the row,
    which the board calls METHOD(tuned).

    \b
    Examples:
      htbench tune selective-distill --suite icons --grid weight=0.3,1,3,10
      htbench tune --plugin half_way.py --suite icons --grid alpha=0.3,0.5 --task outline-solid
    """
    from benchmark.executors.local import slots
    from benchmark.manifest import load_manifest, load_suite, network_label
    from benchmark.registry import resolve
    from benchmark.runs.plan import resolve_device, select
    from benchmark.runs.workspace import Workspace
    from htbench.cli.leaderboard import print_board
    from htbench.cli.session import Session

    if (method is None) == (plugin is None):
        raise click.UsageError("name one METHOD, or give its file with --plugin")
    suite = load_suite(suite_name)
    manifest = load_manifest(suite.manifest)
    task_ids, seed_list = select(suite, tasks, seeds)
    device = resolve_device(device)
    workspace = Workspace(root)
    with Session(never=[workspace.root, manifest.root], cuda=device == "cuda") as session:
        manifest = session.with_network(manifest, network)
        described = resolve(
            [method] if method else [], [plugin] if plugin else [], session.describe
        )
        settings = _product(grids, described[-1])
        for chosen in settings:
            session.check(described[-1], described[-1].configure(chosen))
        search = _Search(session, manifest, described, settings, repeats, seed_list[0], device,
                         jobs or slots(device))  # fmt: skip
        with workspace:
            found = {task: search.on(manifest.task(task), workspace) for task in task_ids}
            if as_json:
                print_json(found)
            else:
                _print(described[-1].name, found)
            failed = 0
            if not search_only:
                failed = search.run_chosen(found, seed_list, workspace)
    if not search_only:
        network = network_label(manifest.model)
        print_board(suite, workspace, "markdown", write=True, show=not as_json, network=network)
    if failed:
        click.echo(f"{failed} runs with the chosen settings failed; the board names them", err=True)
        context.exit(1)


def _product(grids: Sequence[str], method: MethodDescription) -> list[dict[str, str]]:
    """Every combination of the values, in the order given; all are checked against the fields."""
    from itertools import product

    from benchmark.errors import MethodError, UsageError

    if method.track == "oracle":
        raise MethodError(f"{method.name} is an oracle: there is nothing to choose without data "
                          "that only it is given")  # fmt: skip
    known = [field.name for field in method.fields]
    values: dict[str, list[str]] = {}
    for text in grids:
        name, equals, listed = text.partition("=")
        options = [option.strip() for option in listed.split(",")]
        if not equals or not all(options):
            raise UsageError(f"--grid {text}: write it as field=a,b,c")
        if name not in known:
            raise MethodError(
                f"--grid {name}: {method.name} has no such field; fields: {', '.join(known) or '-'}"
            )
        if name in values or len(set(options)) < len(options):
            raise UsageError(f"--grid {text}: the field or one of its values is given twice")
        values[name] = options
    made = [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
    for settings in made:
        method.configure(settings)  # a value of the wrong type is an error before anything runs
    return made


class _Search:
    """Tries settings on the folds of tasks."""

    def __init__(
        self,
        session: Session,
        manifest: Manifest,
        methods: list[MethodDescription],
        settings: list[dict[str, str]],
        repeats: int,
        seed: int,
        device: str,
        width: int,
    ) -> None:
        self._session, self._manifest, self._methods = session, manifest, methods
        self._settings, self._repeats, self._seed = settings, repeats, seed
        self._device, self._width = device, width

    def on(self, task: Task, workspace: Workspace) -> dict[str, Any]:
        """Search for one task; the answer is what stands on the row of its runs."""
        from benchmark.runs.workspace import Workspace
        from benchmark.tune import best, fold, trial

        source = self._source(task, workspace)
        scores: list[list[tuple[float, float] | None]] = [[] for _ in self._settings]
        steps = 0
        with Workspace(workspace.root / FOLDER) as folds:
            for repeat in range(self._repeats):
                pseudo = fold(self._manifest, task, repeat)
                click.echo(f"{task.id}: fold {repeat + 1} of {self._repeats}", err=True)
                specs, spent = self._try(pseudo, source, folds)
                steps += spent
                for found, spec in zip(scores, specs, strict=True):
                    found.append(_score(pseudo, spec, folds))
        trials = [trial(settings, found)
                  for settings, found in zip(self._settings, scores, strict=True)]  # fmt: skip
        chosen = best(trials)
        return {
            "by": "pseudo cross-validation on seen training images",
            "criterion": "mean of seen and missing accuracy over folds",
            "folds": self._repeats,
            "seed": self._seed,
            "tried": [_entry(one) for one in trials],
            "chosen": dict(chosen.settings),
            "steps": steps,
        }

    def run_chosen(
        self, found: Mapping[str, Mapping[str, Any]], seeds: list[int], workspace: Workspace
    ) -> int:
        """Run the method on the tasks with what was chosen for each; return how many failed."""
        from dataclasses import replace

        from benchmark.runs.plan import grid
        from htbench.cli.run import execute_cells
        from htbench.cli.session import ready_sources

        cells: list[Cell] = []
        for task, search in found.items():
            of_task = grid(self._manifest, [task], self._methods, seeds, self._device,
                           search["chosen"])  # fmt: skip
            name = self._methods[-1].name
            cells += [replace(c, search=search) if c.method.name == name else c for c in of_task]
        specs = list(dict.fromkeys(cell.source for cell in cells))
        sources = ready_sources(self._session, specs, workspace, self._width)
        records = execute_cells(self._session, cells, sources, workspace, self._width)
        return sum(record.status == "failed" for record in records)

    def _source(self, task: Task, workspace: Workspace) -> SourceCheckpoint:
        """The task's own source model: what a fold starts from as well."""
        from benchmark.source import SourceSpec
        from htbench.cli.session import ready_sources

        spec = SourceSpec.of(self._manifest, task.sources, self._device)
        return ready_sources(self._session, [spec], workspace, self._width)[spec]

    def _try(
        self, pseudo: Manifest, source: SourceCheckpoint, folds: Workspace
    ) -> tuple[list[RunSpec], int]:
        """Run all settings on a fold: the run of each, and the gradient steps of all together."""
        from benchmark.records import RunRecord
        from benchmark.runs.plan import grid, with_sources
        from htbench.cli.run import execute_cells

        (task,) = pseudo.tasks
        ends: list[RunSpec] = []
        all_cells: list[Cell] = []
        sources: dict[SourceSpec, SourceCheckpoint] = {}
        for settings in self._settings:
            cells = grid(pseudo, [task.id], self._methods, [self._seed], self._device, settings)
            sources |= {cell.source: source for cell in cells}
            all_cells += cells
            ends.append(list(with_sources(cells, sources))[-1])
        execute_cells(self._session, all_cells, sources, folds, self._width)
        keys = {spec.key for spec in with_sources(all_cells, sources)}
        records = [RunRecord.read(folds.folder(key)) for key in keys]
        return ends, int(sum(record.cost.get("total_steps", 0) for record in records))


def _score(pseudo: Manifest, spec: RunSpec, folds: Workspace) -> tuple[float, float] | None:
    """Seen and missing accuracy of a run on a fold; None if it did not end well."""
    from benchmark.records import PREDICTIONS_FILE, RunRecord
    from leaderboard.results import score_predictions

    folder = folds.folder(spec.key)
    if RunRecord.read(folder).status != "ok":
        return None
    scores = score_predictions(folder / PREDICTIONS_FILE, pseudo, spec.cell.task.id)
    return scores.seen, scores.missing


def _entry(one: Trial) -> dict[str, Any]:
    return {
        "settings": dict(one.settings),
        "seen": one.seen,
        "missing": one.missing,
        "score": one.score,
    }


def search_rows(search: Mapping[str, Any]) -> list[list[object]]:
    """What a search tried, for people: settings, the columns of ``SEARCH_HEADERS``."""
    rows: list[list[object]] = []
    for entry in search["tried"]:
        numbers = [entry[name] for name in ("seen", "missing", "score")]
        shown = ["failed" if value is None else f"{value:.1f}" for value in numbers]
        settings = " ".join(f"{name}={value}" for name, value in entry["settings"].items())
        chosen = "chosen" if entry["settings"] == search["chosen"] else ""
        rows.append([settings, *shown, chosen])
    return rows


def _print(method: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    rows: list[list[object]] = []
    for task, search in found.items():
        rows += [[task, *row] for row in search_rows(search)]
    print_table(rows, ["task", method, *SEARCH_HEADERS])
