"""One run: have a child adapt and predict, and leave the run's folder in the workspace."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import MethodError
from benchmark.failpoints import reach
from benchmark.files import digest_file
from benchmark.images.store.encoded import EncodedImages
from benchmark.images.store.store import DomainStore, store_kind
from benchmark.isolation.answers import HandOut
from benchmark.isolation.conversation import OUTPUT_FILE, Outcome, run_job
from benchmark.jobs import ImageFormat, RunJob, network_of, new_scratch, setup_of, train_files
from benchmark.methods.files import keep_code, unchanged_contents
from benchmark.progress import Progress
from benchmark.records import (
    NOT_APPLICABLE,
    PREDICTIONS_FILE,
    RECORD_FILE,
    WEIGHTS_FILE,
    RunRecord,
    Status,
    write_predictions,
)

if TYPE_CHECKING:
    from benchmark.isolation.client import ForkServer
    from benchmark.runs.plan import RunSpec
    from benchmark.runs.workspace import Workspace
    from benchmark.sources.features import Features

MAX_OUTPUT_TEXT = 64 << 10


@dataclass(frozen=True)
class Inputs:
    """What a run starts from besides the source model: the base run's weights, and features."""

    base: Path | None
    features: Features | None


def execute_run(
    server: ForkServer,
    spec: RunSpec,
    store: DomainStore,
    inputs: Inputs,
    workspace: Workspace,
    progress: Progress,
    *,
    keep_weights: bool,
) -> RunRecord:
    """Carry out a run in a child and create its folder in the workspace.

    Args:
        server: forks the child.
        spec: the run.
        store: of the task's target domain.
        inputs: what it starts from.
        workspace: where the run's folder appears.
        progress: called with steps done and their total.
        keep_weights: whether the adapted weights are kept for a run that starts from them.

    Returns:
        The record. A method that fails or does not apply gives a record of that status, not an
        exception.
    """
    run = spec.planned
    with workspace.temporary() as folder:
        job = _job(spec, store, inputs, new_scratch(folder), keep_weights=keep_weights)
        tests = [(store.test_file, len(store.test_ids))]
        # Weights of the same network: anything much larger is something else.
        limit = 2 * spec.source.path.stat().st_size + (1 << 20)
        with EncodedImages(tests, job.images.size, job.images.store) as images:
            hand_out = HandOut.shuffled(images, len(run.manifest.classes), spec.key)
            outcome = run_job(server, job, hand_out, folder, progress, weights_limit=limit)
        code = _unchanged_code(outcome, spec)
        with workspace.new_run(spec.key) as building:
            sums = _write_answer(outcome, store, building)
            if output := printed(folder / OUTPUT_FILE):
                (building / OUTPUT_FILE).write_bytes(output)
            keep_code(code, building)
            record = _record(spec, outcome, sums)
            (building / RECORD_FILE).write_bytes(record.to_bytes())
            reach("record-written")
    return record


def printed(file: Path) -> bytes:
    """What a run printed; of more than ``MAX_OUTPUT_TEXT`` bytes the beginning and the end.

    The end is what a failed run said last; a line between the two says how much is left out.
    """
    with file.open("rb") as output:
        size = os.fstat(output.fileno()).st_size  # a sparse file may be of any length
        if size <= MAX_OUTPUT_TEXT:
            return output.read(MAX_OUTPUT_TEXT)
        half = MAX_OUTPUT_TEXT // 2 - 50  # with room for the line
        begin = output.read(half)
        output.seek(size - half)
        end = output.read(half)
    # Whole lines, unless there is only one.
    begin = begin[: begin.rfind(b"\n") + 1] or begin
    end = end[end.find(b"\n") + 1 :] or end
    left_out = f"[{size - len(begin) - len(end)} bytes left out]\n"
    return b"".join((begin, b"" if begin.endswith(b"\n") else b"\n", left_out.encode(), end))


def fail_run(spec: RunSpec, workspace: Workspace, message: str, kind: str = "base") -> RunRecord:
    """Record a run that cannot be started, such as one whose base failed or does not apply."""
    outcome = Outcome(error={"kind": kind, "message": message, "traceback": ""})
    record = _record(spec, outcome, {})
    with workspace.new_run(spec.key) as building:
        (building / RECORD_FILE).write_bytes(record.to_bytes())
    return record


def _job(
    spec: RunSpec, store: DomainStore, inputs: Inputs, scratch: str, *, keep_weights: bool
) -> RunJob:
    run = spec.planned
    manifest, method = run.manifest, run.method
    mask = manifest.seen_mask(run.task)
    seen = np.flatnonzero(mask).tolist()
    missing = np.flatnonzero(~mask).tolist() if method.track == "oracle" else []
    return RunJob(
        scratch=scratch,
        setup=setup_of(manifest, run.device, run.seed),
        network=network_of(manifest),
        images=ImageFormat(manifest.image_size, store_kind(manifest)),
        seen=tuple(seen),
        train=train_files(store, seen),
        missing=train_files(store, missing),
        features=inputs.features.rows_of(seen) if inputs.features else None,
        source=str(spec.source.path),
        source_digest=spec.source.digest,
        base=str(inputs.base) if inputs.base else None,
        method=method.own.message,
        code=tuple((file.name, file.sha256) for file in method.own.files),
        config=dict(run.config),
        keep_weights=keep_weights,
    )


# --- what a run leaves behind --------------------------------------------------------------------


def _unchanged_code(outcome: Outcome, spec: RunSpec) -> dict[str, bytes]:
    """The files of the method to keep; the run failed if one has changed since it was planned."""
    try:
        return unchanged_contents(spec.planned.method.own.files)
    except MethodError as error:
        outcome.array = None
        outcome.error = {"kind": "contract", "message": str(error), "traceback": ""}
        return {}


def _write_answer(outcome: Outcome, store: DomainStore, building: Path) -> dict[str, str]:
    if outcome.array is None:
        return {}
    order = sorted(range(len(store.test_ids)), key=store.test_ids.__getitem__)
    path = building / PREDICTIONS_FILE
    write_predictions(path, [store.test_ids[i] for i in order], outcome.array[order])
    reach("predictions-written")
    sums = {"predictions_sha256": digest_file(path)}
    if outcome.weights is not None and outcome.weights.stat().st_size:
        outcome.weights.replace(building / WEIGHTS_FILE)
        sums["weights_sha256"] = digest_file(building / WEIGHTS_FILE)
    return sums


def _record(spec: RunSpec, outcome: Outcome, sums: Mapping[str, str]) -> RunRecord:
    run = spec.planned
    return RunRecord(
        key=spec.key,
        made_from=spec.facts.to_json(),
        manifest=run.manifest.reference,
        task=run.task.id,
        method=run.method.name,
        label=run.label,
        config=dict(run.config),
        track=run.method.track,
        seed=run.seed,
        status=_status(outcome),
        error=outcome.error,
        predictions_sha256=sums.get("predictions_sha256"),
        weights_sha256=sums.get("weights_sha256"),
        cost={**outcome.cost, "finished": time.time()},
        environment={"htbench": version("holistic-transfer-bench"), **outcome.environment},
        isolation=outcome.isolation,
        log=outcome.notes.get("log", []),
        notes=outcome.notes.get("notes", []),
    )


def _status(outcome: Outcome) -> Status:
    if outcome.error is None:
        return "ok"
    return NOT_APPLICABLE if outcome.error["kind"] == NOT_APPLICABLE else "failed"
