"""What every executor does with one run: claim it, carry it out or record why not, journal it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.commands import command
from benchmark.failpoints import reach
from benchmark.images.store.store import DomainStore
from benchmark.intact import files_of_features, files_of_store, intact
from benchmark.manifest.manifest import DEFAULT_RECIPE
from benchmark.methods.places import place_in
from benchmark.progress import Reporter
from benchmark.records import NOT_APPLICABLE, WEIGHTS_FILE, RunRecord
from benchmark.runs.execute import Inputs, execute_run, fail_run
from benchmark.runs.plan import RunSpec
from benchmark.runs.workspace import Workspace
from benchmark.sources.features import extract_features
from benchmark.text import first_line, shortened

if TYPE_CHECKING:
    from benchmark.isolation.client import ForkServer


MAX_REASON = 1000  # bytes, so that the command after it is not cut off


class ClaimedError(Exception):
    """Another driver is carrying out the run."""


def carry_out(
    server: ForkServer,
    spec: RunSpec,
    store: DomainStore,
    workspace: Workspace,
    reporter: Reporter,
    *,
    keep_weights: bool,
) -> RunRecord:
    """Carry out a run, unless another driver has finished it.

    Args:
        server: forks the child.
        spec: the run; its base run, if it has one, must be over.
        store: of the task's target domain.
        workspace: where the run's folder appears.
        reporter: told about the run.
        keep_weights: whether another run starts from the adapted weights.

    Returns:
        The record, whatever its status.

    Raises:
        ClaimedError: another driver is carrying it out.
    """
    with workspace.claim(spec.key) as claimed:
        if not claimed:
            raise ClaimedError
        reach("run-claimed")
        reporter.begin(spec.name)
        record = workspace.finished(spec.key, weights=keep_weights)
        if record is not None:
            reporter.end(spec.name, "finished by another process")
            return record
        workspace.note("start", spec.key, spec.name)
        reach("run-journaled")
        problem = _base_problem(spec, workspace) or _oracle_problem(spec, store)
        if problem is not None:
            record = fail_run(spec, workspace, **problem)
        else:
            with ExitStack() as stack:
                stack.enter_context(intact(_files(spec, store, workspace)))
                inputs = _inputs(server, spec, store, workspace)
                if inputs.features is not None:
                    stack.enter_context(intact(files_of_features(inputs.features)))
                record = execute_run(
                    server,
                    spec,
                    store,
                    inputs,
                    workspace,
                    lambda done, total: reporter.step(spec.name, done, total),
                    keep_weights=keep_weights,
                )
        workspace.note(record.status, spec.key, spec.name)
        reporter.end(spec.name, _summary(record, spec, workspace))
        return record


def _files(spec: RunSpec, store: DomainStore, workspace: Workspace) -> dict[Path, str]:
    """What the run and the features that it starts from are computed from, with digests."""
    files = {**files_of_store(store), spec.source.path: spec.source.digest}
    if spec.base is not None:
        folder = workspace.folder(spec.base.key)
        base = RunRecord.read(folder, spec.base.key)
        files[folder / WEIGHTS_FILE] = base.weights_sha256 or ""
    return files


def _inputs(server: ForkServer, spec: RunSpec, store: DomainStore, workspace: Workspace) -> Inputs:
    """The base run's weights, and the source model's features, where the method uses them."""
    run = spec.planned
    base = workspace.folder(spec.base.key) / WEIGHTS_FILE if spec.base else None
    if not run.method.uses_features:
        return Inputs(base, None)
    # Features have no recipe in their key, and another recipe may have another precision (TF32).
    manifest = run.manifest.with_recipe(DEFAULT_RECIPE)
    with workspace.temporary() as folder:
        return Inputs(
            base, extract_features(server, spec.source, manifest, run.device, store, folder)
        )


def _base_problem(spec: RunSpec, workspace: Workspace) -> dict[str, str] | None:
    """The kind of error and the message of a run whose base has no weights to start from."""
    if spec.base is None or workspace.finished(spec.base.key, weights=True) is not None:
        return None
    base = workspace.finished(spec.base.key)
    if base is not None and base.status == NOT_APPLICABLE:
        reason = (base.error or {}).get("message", "")
        message = f"it starts from {spec.base.planned.label}, which is not applicable: {reason}"
        return {"kind": NOT_APPLICABLE, "message": message}
    name = spec.base.planned.label
    if base is not None and base.status == "ok":
        message = (
            f"it starts from {name}, whose adapted model is not an htbench.Classifier and so "
            "cannot be started from; choose another base"
        )
    else:
        message = f"its base run ({spec.base.name}) failed"
    return {"kind": "base", "message": message}


def _oracle_problem(spec: RunSpec, store: DomainStore) -> dict[str, str] | None:
    """An oracle method does not apply where the target has no missing-class training images."""
    run = spec.planned
    missing = (~run.manifest.seen_mask(run.task)).nonzero()[0].tolist()
    if run.method.track != "oracle" or store.train_files(missing):
        return None
    message = f"{run.task.target} has no training images of missing classes"
    return {"kind": NOT_APPLICABLE, "message": message}


def _summary(record: RunRecord, spec: RunSpec, workspace: Workspace) -> str:
    """The result of a run on one line; that of a failed one says where and how to learn more."""
    if record.error is None:
        return f"{record.cost.get('wall_seconds', 0):.1f} s"
    reason = first_line(record.error["message"])
    if record.status == NOT_APPLICABLE:
        return f"not applicable: {reason}"
    files = (file.path for file in spec.planned.method.own.files)
    place = place_in(record.error["traceback"], files)
    reason = f"{place}: {reason}" if place else reason
    show = command("show", record.key[:12], *workspace.option)
    return f"{record.status}: {shortened(reason, MAX_REASON)}; details: {show}"
