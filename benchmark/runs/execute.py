"""One job from beginning to end: describe a method, train a source model, carry out a run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark import checkpoint
from benchmark.errors import DataError, MethodError, RunError, UsageError
from benchmark.failpoints import reach
from benchmark.files import digest_file
from benchmark.images.store import DomainStore, store_kind
from benchmark.manifest import network_label
from benchmark.records import (
    NOT_APPLICABLE,
    PREDICTIONS_FILE,
    RECORD_FILE,
    WEIGHTS_FILE,
    RunRecord,
    Status,
    write_predictions,
)
from benchmark.registry import MethodDescription, MethodSource, Value
from benchmark.runs.converse import OUTPUT_FILE, Outcome, Progress, ask, converse
from benchmark.source import (
    SEED,
    Features,
    SourceCheckpoint,
    SourceSpec,
    features_folder,
    find_features,
    save_features,
    save_imported,
    save_source,
)
from benchmark.weights import initial_path

if TYPE_CHECKING:
    from benchmark.manifest import Manifest
    from benchmark.runs.isolate import ForkServer
    from benchmark.runs.plan import RunSpec
    from benchmark.runs.workspace import Workspace

MAX_OUTPUT_TEXT = 64 << 10


def describe(server: ForkServer, source: MethodSource, folder: Path) -> Any:
    """Ask a child what a method says of itself (JSON, unchecked).

    Raises:
        MethodError: its code cannot be imported, or it breaks the contract.
    """
    job = {"kind": "describe", "method": source.to_json(), "scratch": _scratch(folder)}
    message = ask(server, job, folder)
    if "done" in message:
        return message["done"]
    failed = message["failed"]
    what = f"method {source.name!r} of {source.origin}" if source.name else source.origin
    raise MethodError(f"cannot load {what}: {failed['message']}")


def check_settings(
    server: ForkServer, method: MethodDescription, config: Mapping[str, Value], folder: Path
) -> None:
    """Have a child make a method with settings, which the method may refuse.

    Raises:
        MethodError: it does, in its own words.
    """
    job = {"kind": "configure", "method": method.source.to_json(), "config": dict(config),
           "scratch": _scratch(folder)}  # fmt: skip
    message = ask(server, job, folder)
    if "failed" in message:
        words = message["failed"]["message"].partition(": ")[2]
        raise MethodError(f"{method.label(config)}: {words}")


def try_network(server: ForkServer, manifest: Manifest, device: str, folder: Path) -> None:
    """Have a child build the network of a manifest and try it on images of its size.

    Raises:
        UsageError: it is unknown, has no linear head, or does not train on such images.
    """
    recipe = manifest.document["recipe"]
    job = {"kind": "network", **_common(manifest, device, folder), "recipe": recipe}
    message = ask(server, job, folder)
    if "failed" in message:
        words = message["failed"]["message"].partition(": ")[2].removeprefix("[model] ")
        raise UsageError(f"--model {network_label(manifest.model)}: {words}")


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
        **_common(spec.manifest, spec.device, folder),
        "recipe": document["source"],
        "seen": classes,
        "train": [
            entry for domain in spec.domains for entry in _train(stores[domain], classes)
        ],
        "initial": initial_path(spec.manifest.model),
        "checkpoints": {"folder": str(spec.checkpoints_folder), "key": spec.key,
                        "seconds": checkpoint.SECONDS},
    }  # fmt: skip
    spec.checkpoints_folder.mkdir(parents=True, exist_ok=True)
    outcome = _with_tests(server, job, spec, stores, folder, progress)
    if outcome.error is not None:
        raise RunError(f"training the source model of {spec.name} failed: {_words(outcome)}")
    assert outcome.weights is not None
    made = save_source(spec, outcome.weights.read_bytes(), _facts(spec, stores, outcome))
    shutil.rmtree(spec.checkpoints_folder, ignore_errors=True)
    return made


def import_source(
    server: ForkServer,
    spec: SourceSpec,
    stores: Mapping[str, DomainStore],
    file: Path,
    note: str,
    folder: Path,
) -> SourceCheckpoint:
    """Take a source model that was trained elsewhere; a child reads it and is tested.

    Args:
        server: forks the child.
        spec: whose source model it is to be.
        stores: of its domains.
        file: safetensors, or a state dict of torch.
        note: where it comes from, in the user's words.
        folder: for the child's output and its arrays.

    Raises:
        DataError: it cannot be read, or is not of the manifest's network.
    """
    document = spec.manifest.document
    job = {
        "kind": "import",
        **_common(spec.manifest, spec.device, folder),
        "recipe": document["source"],
        "file": str(file.resolve()),
    }
    outcome = _with_tests(server, job, spec, stores, folder, lambda done, total: None)
    if outcome.error is not None:
        raise DataError(
            f"{file} cannot be the source model of {spec.name}: "
            f"{outcome.error['message'].partition(': ')[2]}"
        )
    assert outcome.weights is not None
    facts = {**_facts(spec, stores, outcome), "note": note, "file_sha256": digest_file(file)}
    return save_imported(spec, outcome.weights.read_bytes(), facts)


def _with_tests(
    server: ForkServer,
    job: Mapping[str, Any],
    spec: SourceSpec,
    stores: Mapping[str, DomainStore],
    folder: Path,
    progress: Progress,
) -> Outcome:
    """Have a child answer for the test images of a source model's own domains."""
    sources = [stores[domain] for domain in spec.domains]
    tests = [(store.test_file, len(store.test_ids)) for store in sources]
    shape = (sum(count for _, count in tests), len(spec.manifest.classes))
    return converse(server, job, tests, shape, folder, progress)


def _facts(spec: SourceSpec, stores: Mapping[str, DomainStore], outcome: Outcome) -> dict[str, Any]:
    """What goes on record of a source model: its accuracy on its own test lists, and the cost."""
    assert outcome.array is not None
    sources = [stores[domain] for domain in spec.domains]
    known = spec.manifest.samples(spec.domains, "test")
    labels = dict(zip(known.ids, known.labels.tolist(), strict=True))
    truth = np.array([labels[i] for store in sources for i in store.test_ids])
    return {
        "test_accuracy": 100 * float((outcome.array.argmax(axis=1) == truth).mean()),
        "test_images": len(truth),
        "cost": outcome.cost,
        "environment": outcome.facts,
    }


def extract_features(
    server: ForkServer, spec: RunSpec, store: DomainStore, folder: Path
) -> Features:
    """The source model's features of a target's training images: computed once, then shared.

    Raises:
        RunError: a child failed to compute them.
    """
    folder_of = features_folder(spec.source, store, spec.cell.device)
    if (found := find_features(folder_of)) is not None:
        return found
    document = spec.cell.manifest.document
    classes = list(range(len(spec.cell.manifest.classes)))
    files = store.train_files(classes)
    job = {
        "kind": "features",
        **_common(spec.cell.manifest, spec.cell.device, folder),
        "recipe": document["recipe"],
        "seen": classes,
        "train": _train(store, classes),
        "source": {"path": str(spec.source.path), "digest": spec.source.digest},
    }
    shape = (sum(count for _, _, count in files), _head_width(spec.source))
    outcome = converse(server, job, [], shape, folder, lambda done, total: None)
    if outcome.error is not None:
        raise RunError(f"features for {spec.name} failed: {_words(outcome)}")
    assert outcome.array is not None
    return save_features(folder_of, files, outcome.array)


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
        The record; a method's failure is a record with status ``failed``, not an exception, and
        so is that it does not apply.
    """
    cell = spec.cell
    with workspace.temporary() as folder:
        job = _run_job(server, spec, store, workspace, folder) | {"keep_weights": keep_weights}
        tests = [(store.test_file, len(store.test_ids))]
        shape = (len(store.test_ids), len(cell.manifest.classes))
        outcome = converse(server, job, tests, shape, folder, progress)
        with workspace.new_run(spec.key) as building:
            sums = _write_answer(outcome, spec, store, building)
            with (folder / OUTPUT_FILE).open("rb") as file:  # a hole makes it as long as it likes
                output = file.read(MAX_OUTPUT_TEXT)
            if output:
                (building / OUTPUT_FILE).write_bytes(output)
            record = _record(spec, outcome, sums)
            (building / RECORD_FILE).write_bytes(record.to_bytes())
            reach("record-written")
    return record


def fail_run(spec: RunSpec, workspace: Workspace, message: str, kind: str = "base") -> RunRecord:
    """Record a run that could not be started, such as one whose base failed or does not apply."""
    outcome = Outcome(error={"kind": kind, "message": message, "traceback": ""})
    record = _record(spec, outcome, {})
    with workspace.new_run(spec.key) as building:
        (building / RECORD_FILE).write_bytes(record.to_bytes())
    return record


def _run_job(
    server: ForkServer, spec: RunSpec, store: DomainStore, workspace: Workspace, folder: Path
) -> dict[str, Any]:
    cell = spec.cell
    document = cell.manifest.document
    mask = cell.manifest.seen_mask(cell.task)
    seen = np.flatnonzero(mask).tolist()
    missing = np.flatnonzero(~mask).tolist() if cell.method.track == "oracle" else []
    base, features = None, None
    if spec.base is not None:
        base = {"path": str(workspace.folder(spec.base.key) / WEIGHTS_FILE)}
    if cell.method.uses_features:
        with workspace.temporary() as own:
            features = extract_features(server, spec, store, own).rows_of(seen)
    return {
        "kind": "run",
        **_common(cell.manifest, cell.device, folder),
        "recipe": document["recipe"],
        "seed": cell.seed,
        "seen": seen,
        "train": _train(store, seen),
        "missing": _train(store, missing),
        "features": features,
        "source": {"path": str(spec.source.path), "digest": spec.source.digest},
        "base": base,
        "method": cell.method.source.to_json(),
        "code": cell.method.code["files"],
        "config": dict(cell.config),
    }


def _common(manifest: Manifest, device: str, folder: Path) -> dict[str, Any]:
    document = manifest.document
    return {
        "device": device,
        "model": manifest.model,
        "classes": document["classes"],
        "transforms": document["transforms"],
        "image_size": document["image_size"],
        "input_size": manifest.input_size,
        "store": store_kind(manifest),
        "scratch": _scratch(folder),
        "seed": SEED,
        "missing": [],
        "features": None,
    }


def _scratch(folder: Path) -> str:
    scratch = folder / "scratch"
    scratch.mkdir()
    return str(scratch)


def _train(store: DomainStore, classes: list[int]) -> list[list[Any]]:
    return [[str(path), label, count] for path, label, count in store.train_files(classes)]


def _head_width(source: SourceCheckpoint) -> int:
    """Features that the head of a checkpoint takes, read from the file's header."""
    from safetensors import safe_open

    with safe_open(source.path, framework="numpy") as file:
        return int(file.get_slice("head.weight").get_shape()[1])


def _words(outcome: Outcome) -> str:
    assert outcome.error is not None
    return f"{outcome.error['message']}\n{outcome.error['traceback']}".strip()


# --- what a run leaves behind --------------------------------------------------------------------


def _write_answer(
    outcome: Outcome, spec: RunSpec, store: DomainStore, building: Path
) -> dict[str, str]:
    if outcome.array is None:
        return {}
    size = outcome.weights.stat().st_size if outcome.weights is not None else 0
    # The weights of the same network: anything much larger is not what was asked for.
    if size > 2 * spec.source.path.stat().st_size + (1 << 20):
        message = f"the run wrote {size} bytes of weights, more than its network has"
        outcome.error = {"kind": "contract", "message": message, "traceback": ""}
        return {}
    order = sorted(range(len(store.test_ids)), key=store.test_ids.__getitem__)
    path = building / PREDICTIONS_FILE
    write_predictions(path, [store.test_ids[i] for i in order], outcome.array[order])
    reach("predictions-written")
    sums = {"predictions_sha256": digest_file(path)}
    if outcome.weights is not None and size:
        outcome.weights.replace(building / WEIGHTS_FILE)
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
        status=_status(outcome),
        error=outcome.error,
        predictions_sha256=sums.get("predictions_sha256"),
        weights_sha256=sums.get("weights_sha256"),
        cost={**outcome.cost, "finished": time.time()},
        environment={"htbench": version("holistic-transfer-bench"), **outcome.facts},
        isolation=outcome.isolation,
        log=outcome.notes.get("log", []),
        notes=outcome.notes.get("notes", []),
    )


def _status(outcome: Outcome) -> Status:
    if outcome.error is None:
        return "ok"
    return NOT_APPLICABLE if outcome.error["kind"] == NOT_APPLICABLE else "failed"
