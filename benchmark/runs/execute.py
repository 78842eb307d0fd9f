"""One job in a child from beginning to end: train a source model, or carry out a run."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.errors import MethodError, RunError
from benchmark.files import digest_file, new_folder
from benchmark.images.store import DomainStore
from benchmark.records import (
    PREDICTIONS_FILE,
    RECORD_FILE,
    WEIGHTS_FILE,
    RunRecord,
    write_predictions,
)
from benchmark.registry import MethodSource
from benchmark.source import SEED, SourceCheckpoint, SourceSpec, save_source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmark.runs.isolate import Child, ForkServer
    from benchmark.runs.plan import RunSpec
    from benchmark.runs.workspace import Workspace

Progress = Callable[[int, int], None]
MAX_OUTPUT_TEXT = 64 << 10
OUTPUT_FILE = "output.txt"


@dataclass
class Outcome:
    """What came of a job: an error, or the answer with its arrays checked.

    Attributes:
        logits: float32 (N, C) in the order of the test files.
        facts: what the child said of its environment.
        notes: what the child said after adapting: steps and training log.
        cost: seconds and bytes as measured from outside.
    """

    error: dict[str, str] | None = None
    logits: NDArray[np.float32] | None = None
    weights: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)


def describe(server: ForkServer, source: MethodSource, folder: Path) -> Any:
    """Ask a child what a method says of itself (JSON, unchecked).

    Raises:
        MethodError: its code cannot be imported, or it breaks the contract.
    """
    with (folder / OUTPUT_FILE).open("wb") as output:
        job = {"kind": "describe", "method": source.to_json()}
        with server.start(job, output.fileno()) as child:
            message = _answer(child, lambda done, total: None)
    if "done" in message:
        return message["done"]
    failed = message["failed"]
    raise MethodError(f"{source.origin}: cannot load the method: {failed['message']}")


def train_source(
    server: ForkServer,
    spec: SourceSpec,
    stores: Mapping[str, DomainStore],
    folder: Path,
    progress: Progress,
) -> SourceCheckpoint:
    """Train a source model in a child and save its checkpoint.

    Raises:
        RunError: training failed.
    """
    document, classes = spec.manifest.document, list(range(len(spec.manifest.classes)))
    job = {
        "kind": "source",
        **_common(spec.manifest.document, spec.device, folder),
        "recipe": document["source"],
        "seed": SEED,
        "seen": classes,
        "train": [
            [str(path), label, count]
            for domain in spec.domains
            for path, label, count in stores[domain].train_files(classes)
        ],
    }
    tests = [stores[domain] for domain in spec.domains]
    outcome = _drive(server, job, tests, len(classes), folder, progress)
    if outcome.error is not None:
        raise RunError(
            f"training the source model of {spec.name} failed: {outcome.error['message']}\n"
            f"{outcome.error['traceback']}"
        )
    assert outcome.logits is not None
    assert outcome.weights is not None
    ids = [i for store in tests for i in store.test_ids]
    known = spec.manifest.samples(spec.domains, "test")
    labels = dict(zip(known.ids, known.labels.tolist(), strict=True))
    truth = np.array([labels[i] for i in ids])
    facts = {
        "test_accuracy": 100 * float((outcome.logits.argmax(axis=1) == truth).mean()),
        "test_images": len(ids),
        "cost": outcome.cost,
        "environment": outcome.facts,
    }
    return save_source(spec, outcome.weights.read_bytes(), facts)


def execute_run(
    server: ForkServer,
    spec: RunSpec,
    store: DomainStore,
    workspace: Workspace,
    progress: Progress,
    *,
    keep_weights: bool,
) -> RunRecord:
    """Carry out a run in a child and leave its folder in the workspace.

    Args:
        server: forks the child.
        spec: the run.
        store: of the task's target domain.
        workspace: where the run's folder appears, and where a base run's weights are.
        progress: called with steps done and their total.
        keep_weights: whether the adapted weights are kept for a run that starts from them.

    Returns:
        The record; a method's failure is a record with status ``failed``, not an exception.
    """
    cell = spec.cell
    with workspace.temporary() as folder:
        job = _run_job(spec, store, workspace, folder)
        outcome = _drive(server, job, [store], len(cell.manifest.classes), folder, progress)
        with new_folder(workspace.folder(spec.key)) as building:
            sums = _write_answer(outcome, spec, store, building, keep_weights)
            output = (folder / OUTPUT_FILE).read_bytes()[:MAX_OUTPUT_TEXT]
            if output:
                (building / OUTPUT_FILE).write_bytes(output)
            record = _record(spec, outcome, sums)
            (building / RECORD_FILE).write_bytes(record.to_bytes())
    return record


def fail_run(spec: RunSpec, workspace: Workspace, message: str) -> RunRecord:
    """Record a run that could not be started, such as one whose base failed."""
    outcome = Outcome(error={"kind": "base", "message": message, "traceback": ""})
    record = _record(spec, outcome, {})
    with new_folder(workspace.folder(spec.key)) as building:
        (building / RECORD_FILE).write_bytes(record.to_bytes())
    return record


def _run_job(
    spec: RunSpec, store: DomainStore, workspace: Workspace, folder: Path
) -> dict[str, Any]:
    cell = spec.cell
    seen = np.flatnonzero(cell.manifest.seen_mask(cell.task)).tolist()
    base = None
    if spec.base is not None:
        base = {"path": str(workspace.folder(spec.base.key) / WEIGHTS_FILE)}
    return {
        "kind": "run",
        **_common(cell.manifest.document, cell.device, folder),
        "recipe": cell.manifest.document["recipe"],
        "seed": cell.seed,
        "seen": seen,
        "train": [[str(path), label, count] for path, label, count in store.train_files(seen)],
        "source": {"path": str(spec.source.path), "digest": spec.source.digest},
        "base": base,
        "method": cell.method.source.to_json(),
        "config": dict(cell.config),
    }


def _common(document: Mapping[str, Any], device: str, folder: Path) -> dict[str, Any]:
    scratch = folder / "scratch"
    scratch.mkdir()
    return {
        "device": device,
        "model": document["model"],
        "classes": document["classes"],
        "transforms": document["transforms"],
        "image_size": document["image_size"],
        "scratch": str(scratch),
    }


# --- the conversation with a child -------------------------------------------------------------


def _drive(
    server: ForkServer,
    job: Mapping[str, Any],
    tests: list[DomainStore],
    classes: int,
    folder: Path,
    progress: Progress,
) -> Outcome:
    """Start a child on a job, hand it the test images once it has adapted, check its answer."""
    outcome = Outcome()
    begun = time.perf_counter()
    with ExitStack() as stack:
        output = stack.enter_context((folder / OUTPUT_FILE).open("wb"))
        child = stack.enter_context(server.start(job, output.fileno()))
        message = _answer(child, progress, until="started")
        started = time.perf_counter()
        if "started" in message:
            message = _answer(child, progress, until="adapted")
        adapted = time.perf_counter()
        if "adapted" in message:
            outcome.notes = _checked_notes(message["adapted"])
            outcome.weights = folder / WEIGHTS_FILE
            files = [stack.enter_context(store.test_file.open("rb")) for store in tests]
            files += [
                stack.enter_context(path.open("wb"))
                for path in (folder / "logits.f32", outcome.weights)
            ]
            counts = [len(store.test_ids) for store in tests]
            child.send(
                {"counts": counts, "image_size": job["image_size"]}, [f.fileno() for f in files]
            )
            message = _answer(child, progress)
        done = time.perf_counter()
        ended = child.finish()
    if not server.alive:  # Ctrl-C, or the server was killed: that is nobody's result
        raise RunError("the process that runs methods has ended before the run was done")
    outcome.cost = {
        "adapt_seconds": adapted - started,
        "predict_seconds": done - adapted,
        "wall_seconds": done - begun,
        "total_steps": outcome.notes.get("total_steps", 0),
        "sequential_steps": outcome.notes.get("sequential_steps", 0),
        "peak_memory": ended.peak_memory,
    }
    if "done" in message:
        outcome.facts = _checked_facts(message["done"])
        outcome.logits, outcome.error = _read_logits(
            folder / "logits.f32", sum(len(s.test_ids) for s in tests), classes
        )
    else:
        outcome.error = message["failed"]
    return outcome


def _answer(child: Child, progress: Progress, until: str = "done") -> dict[str, Any]:
    """The child's next message of a kind; progress is passed on, anything odd is a failure."""
    while True:
        try:
            message = child.receive()
        except RunError as error:
            return _failed("contract", str(error))
        if message is None:
            return _failed("died", f"the process of the run {child.finish()} before it answered")
        if "failed" in message:
            return {"failed": _checked_failure(message["failed"])}
        if until in message:
            return message
        steps = message.get("progress")
        if not (isinstance(steps, list) and len(steps) == 2 and all(type(s) is int for s in steps)):
            return _failed("contract", f"the process of the run sent {str(message)[:100]!r}")
        progress(*steps)


def _failed(kind: str, message: str) -> dict[str, Any]:
    return {"failed": {"kind": kind, "message": message, "traceback": ""}}


def _checked_failure(failure: object) -> dict[str, str]:
    texts = failure if isinstance(failure, dict) else {}
    return {name: str(texts.get(name, ""))[:20_000] for name in ("kind", "message", "traceback")}


def _checked_facts(facts: object) -> dict[str, Any]:
    if not isinstance(facts, dict):
        return {}
    return {str(k)[:50]: str(v)[:200] for k, v in list(facts.items())[:20]}


def _checked_notes(notes: object) -> dict[str, Any]:
    """Step counts and training log: whole numbers, and rows of finite numbers by short names."""
    if not isinstance(notes, dict):
        return {}
    counts = {
        name: int(notes[name])
        for name in ("total_steps", "sequential_steps")
        if type(notes.get(name)) is int
    }
    rows = notes.get("log")
    log = [
        {str(k)[:50]: float(v) for k, v in row.items() if _is_number(v)}
        for row in (rows if isinstance(rows, list) else [])[:1000]
        if isinstance(row, dict) and len(row) <= 50
    ]
    return {**counts, "log": log}


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _read_logits(
    path: Path, count: int, classes: int
) -> tuple[NDArray[np.float32] | None, dict[str, str] | None]:
    """The logits a child wrote; what it said of them is not relied upon."""
    expected = count * classes * 4
    if path.stat().st_size != expected:
        found = path.stat().st_size
        failure = _failed("contract", f"the run wrote {found} bytes of logits, not {expected}")
        return None, failure["failed"]
    logits = np.fromfile(path, dtype=np.float32).reshape(count, classes)
    if not np.isfinite(logits).all():
        return None, _failed("contract", "the run wrote logits that are NaN or infinite")["failed"]
    return logits, None


# --- what a run leaves behind --------------------------------------------------------------------


def _write_answer(
    outcome: Outcome, spec: RunSpec, store: DomainStore, building: Path, keep_weights: bool
) -> dict[str, str]:
    if outcome.logits is None:
        return {}
    order = sorted(range(len(store.test_ids)), key=store.test_ids.__getitem__)
    path = building / PREDICTIONS_FILE
    write_predictions(path, [store.test_ids[i] for i in order], outcome.logits[order])
    sums = {"predictions_sha256": digest_file(path)}
    if keep_weights and outcome.weights is not None and outcome.weights.stat().st_size:
        limit = 2 * spec.source.path.stat().st_size + (1 << 20)
        if outcome.weights.stat().st_size > limit:
            raise RunError(f"{spec.name} wrote more than {limit} bytes of weights")
        os.replace(outcome.weights, building / WEIGHTS_FILE)
        sums["weights_sha256"] = digest_file(building / WEIGHTS_FILE)
    return sums


def _record(spec: RunSpec, outcome: Outcome, sums: Mapping[str, str]) -> RunRecord:
    cell = spec.cell
    return RunRecord(
        key=spec.key,
        made_from=spec.made_from,
        manifest=cell.manifest.reference,
        task=cell.task.id,
        method=cell.method.name,
        label=cell.label,
        config=dict(cell.config),
        track=cell.method.track,
        seed=cell.seed,
        status="ok" if outcome.error is None else "failed",
        error=outcome.error,
        predictions_sha256=sums.get("predictions_sha256"),
        weights_sha256=sums.get("weights_sha256"),
        cost={**outcome.cost, "finished": time.time()},
        environment={"htbench": version("holistic-transfer-bench"), **outcome.facts},
        isolation=["child-process", "seen-classes-only", "test-images-after-adapt"],
        log=outcome.notes.get("log", []),
    )
