"""`htbench score`: the metrics of one run, from its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from htbench.cli.main import print_json

if TYPE_CHECKING:
    from benchmark.manifest import Manifest
    from benchmark.records import RunRecord
    from benchmark.runs.workspace import Workspace


@click.command("score")
@click.argument("run", metavar="RUN_OR_PREDICTIONS")
@click.option("--task", "task_id", metavar="TASK", help="The task of a bare predictions file.")
@click.option("--suite", "suite_name", default="icons", show_default=True, metavar="SUITE",
              help="Whose manifest the run or the file is of.")  # fmt: skip
@click.option("--workspace", "root", default="workspace", show_default=True, metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="Where runs are.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, task_id: str | None, suite_name: str, root: Path, as_json: bool) -> None:
    """Score one run of the workspace (its key or the beginning of it), or a predictions file.

    A predictions file is Parquet with columns sample_id (string) and logits (fixed-size list of
    float32, one for each class in the manifest's order).

    \b
    Examples:
      htbench score 3f9a --json
      htbench score predictions.parquet --task outline-solid
    """
    from benchmark.errors import UsageError
    from benchmark.manifest import load_manifest, load_suite
    from benchmark.records import PREDICTIONS_FILE, RunRecord
    from leaderboard.results import score_predictions

    path = Path(run)
    if path.is_file():
        if task_id is None:
            raise UsageError(f"{run} is a predictions file: name its task with --task")
        manifest = load_manifest(load_suite(suite_name).manifest)
        scores = score_predictions(path, manifest, task_id).as_dict()
        about = {"predictions": run, "manifest": manifest.reference, "task": task_id}
    else:
        folder = find_run(run, root)
        record = RunRecord.read(folder)
        if record.status != "ok":
            message = (record.error or {}).get("message", "")
            what = "failed" if record.status == "failed" else "is not applicable"
            raise UsageError(f"run {record.key[:12]} {what} and has no predictions: {message}")
        if task_id not in (None, record.task):
            raise UsageError(f"run {record.key[:12]} is of task {record.task}, not {task_id}")
        manifest = manifest_of(record, suite_name)
        scores = score_predictions(folder / PREDICTIONS_FILE, manifest, record.task).as_dict()
        about = {"run": record.key, "manifest": record.manifest, "task": record.task,
                 "method": record.label, "seed": str(record.seed)}  # fmt: skip
    if as_json:
        print_json({**about, **scores})
        return
    width = max(map(len, [*about, *scores]))
    for name, text in about.items():
        click.echo(f"{name:<{width}}  {text}")
    click.echo()
    for name, value in scores.items():
        shown = str(value) if isinstance(value, int) else f"{value:.{4 if name == 'ausuc' else 2}f}"
        click.echo(f"{name:<{width}}  {shown:>7}")


def manifest_of(record: RunRecord, suite_name: str) -> Manifest:
    """The manifest that a run was made with, by its digest: that of the suite, or a published one.

    Raises:
        UsageError: neither is the one.
    """
    from benchmark.errors import UsageError
    from benchmark.manifest import load_manifest, load_suite, published_manifests

    references = [load_suite(suite_name).manifest]
    references += [r for r in published_manifests() if r == record.manifest]
    for reference in references:
        manifest = load_manifest(reference)
        if manifest.digest == record.made_from["manifest"]:
            return manifest
    raise UsageError(
        f"run {record.key[:12]} was made with {record.manifest} of digest "
        f"{record.made_from['manifest'][:12]}, which is not here; name its suite with --suite"
    )


def find_run(name: str, root: Path) -> Path:
    """The folder of a run, by its path, its key or the beginning of its key.

    Raises:
        UsageError: none or several runs are meant.
    """
    from benchmark.errors import UsageError, first
    from benchmark.runs.workspace import Workspace

    if (Path(name) / "run.json").is_file():
        return Path(name)
    if not name or not set(name) <= set("0123456789abcdef"):
        raise UsageError(f"{name!r} is neither a file, nor a run's folder, nor (part of) its key")
    workspace = Workspace(root)
    found = sorted(workspace.runs.glob(f"{name}*/run.json"))
    if not found:
        _refuse_star(name, workspace)
    if len(found) != 1:
        keys = first(p.parent.name[:12] for p in found)
        what = f"{len(found)} runs begin with {name!r}: {keys}" if found else (
            f"no run in {workspace.runs} begins with {name!r}; --workspace names another folder"
        )  # fmt: skip
        raise UsageError(what)
    return found[0].parent


def _refuse_star(name: str, workspace: Workspace) -> None:
    """A row of gamma-star is no run.

    Raises:
        UsageError: its key is meant; the message names the run that it is made of.
    """
    from benchmark.errors import UsageError
    from benchmark.records import RunRecord
    from leaderboard.results import CALIBRATED, star_key

    for path in sorted(workspace.runs.glob("*/run.json")):
        key = path.parent.name
        if star_key(key).startswith(name) and RunRecord.read(path.parent).method == CALIBRATED:
            raise UsageError(
                f"{name} is the row of gamma-star that is made of run {key[:12]}; "
                f"`htbench show {key[:12]}` shows both"
            )
