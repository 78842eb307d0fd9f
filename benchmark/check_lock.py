"""A run of a method in the lock, for its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.driver import SuitePlan
from benchmark.images.store.store import open_store
from benchmark.isolation.client import Limits
from benchmark.isolation.facts import FULL_ISOLATION
from benchmark.manifest.manifest import Manifest
from benchmark.methods.describe import MethodDescription
from benchmark.methods.places import place_in
from benchmark.progress import Silent
from benchmark.records import NOT_APPLICABLE, PREDICTIONS_FILE, RunRecord, read_predictions
from benchmark.runs.plan import grid
from benchmark.runs.workspace import Workspace
from benchmark.session import Session
from benchmark.temporary import temporary_folder

SECONDS = 60.0  # after which the run is stopped


@dataclass(frozen=True)
class LockedRun:
    """The outcome of a run.

    Attributes:
        error: why it failed; ``reason``: why the method does not apply; None otherwise.
        missing: what this machine cannot enforce.
        images: uint8 (N, 3, H, W); ``logits``: float32 (N, C), or None without predictions.
        seconds: of adapting; ``memory``: the most bytes of its process.
    """

    error: str | None
    reason: str | None
    missing: tuple[str, ...]
    images: Tensor
    logits: NDArray[Any] | None
    seconds: float
    memory: int


def run_in_lock(
    methods: Sequence[MethodDescription], settings: Mapping[str, str], manifest: Manifest
) -> LockedRun:
    """Run a method on the only task of a manifest, in a workspace that is deleted afterwards.

    Args:
        methods: the method, last, after those that it starts from.
        settings: hyper-parameters as text.
        manifest: of embedded images.
    """
    with (
        temporary_folder() as folder,
        Session(never=[manifest.root], limits=Limits(seconds=SECONDS)) as session,
    ):
        tasks = [task.id for task in manifest.tasks]
        cells = grid(manifest, tasks, methods, [0], "cpu", settings)
        workspace = Workspace(folder)
        plan = SuitePlan(session, manifest, cells, workspace)
        plan.execute(1, Silent())
        spec = plan.ready[-1]
        run = workspace.folder(spec.key)
        record = RunRecord.read(run)
        ids, logits = _predictions(run) if record.status == "ok" else ([], None)
    files = [file.path for file in methods[-1].own.files]
    is_absent = record.status == NOT_APPLICABLE
    message = record.error["message"] if record.error else None
    if record.error and not is_absent:
        place = place_in(record.error.get("traceback", ""), files)
        message = f"{place}: {message}" if place else message
    return LockedRun(
        error=None if is_absent else message,
        reason=message if is_absent else None,
        missing=tuple(sorted(set(FULL_ISOLATION).difference(record.isolation))),
        images=_images(manifest, ids),
        logits=logits,
        seconds=record.cost.get("adapt_seconds", 0.0),
        memory=int(record.cost.get("peak_memory", 0)),
    )


def _predictions(run: Path) -> tuple[list[str], NDArray[Any]]:
    ids, logits = read_predictions(run / PREDICTIONS_FILE)
    return list(ids), logits


def _images(manifest: Manifest, ids: Sequence[str]) -> Tensor:
    """The test images of some ids."""
    store = open_store(manifest, manifest.tasks[0].target)
    size = manifest.image_size
    pixels = torch.frombuffer(bytearray(store.test_file.read_bytes()), dtype=torch.uint8)
    rows = [store.test_ids.index(image_id) for image_id in ids]
    return pixels.view(-1, 3, size, size)[rows]
