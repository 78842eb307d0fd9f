"""Train a source model in a child, or import one that was trained elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark import checkpoint
from benchmark.errors import DataError, RunError, UsageError
from benchmark.files import digest_file
from benchmark.images.store.encoded import EncodedImages
from benchmark.images.store.store import DomainStore, store_kind
from benchmark.isolation.answers import HandOut
from benchmark.isolation.conversation import Outcome, no_progress, run_job
from benchmark.jobs import (
    CheckpointPlan,
    ImageFormat,
    ImportJob,
    SourceJob,
    network_of,
    new_scratch,
    source_setup,
    train_files,
)
from benchmark.progress import Progress
from benchmark.sources.pretrained import pretrained_path
from benchmark.sources.spec import SourceCheckpoint, SourceSpec, save_imported, save_source

if TYPE_CHECKING:
    from benchmark.isolation.client import ForkServer


def train_source(
    server: ForkServer,
    spec: SourceSpec,
    stores: Mapping[str, DomainStore],
    folder: Path,
    progress: Progress,
) -> SourceCheckpoint:
    """Train a source model in a child and save its checkpoint.

    Args:
        server: forks the child.
        spec: the source model.
        stores: of its domains.
        folder: an empty folder for the child's output and arrays.
        progress: called with steps done and their total.

    Raises:
        RunError: training failed.
    """
    manifest, classes = spec.manifest, list(range(len(spec.manifest.classes)))
    plan = CheckpointPlan(str(spec.checkpoints_folder), spec.key, checkpoint.SECONDS)
    job = SourceJob(
        scratch=new_scratch(folder),
        setup=source_setup(manifest, spec.device, spec.seed),
        network=network_of(manifest),
        images=ImageFormat(manifest.image_size, store_kind(manifest)),
        train=tuple(
            file for domain in spec.domains for file in train_files(stores[domain], classes)
        ),
        initial=pretrained_path(manifest.model),
        checkpoints=plan,
    )
    spec.checkpoints_folder.mkdir(parents=True, exist_ok=True)
    outcome = _with_tests(server, job, spec, stores, folder, progress)
    if outcome.error is not None:
        raise RunError(f"training the source model of {spec.name} failed: {outcome.error_text}")
    assert outcome.weights is not None
    source = save_source(spec, outcome.weights.read_bytes(), _facts(spec, stores, outcome))
    shutil.rmtree(spec.checkpoints_folder, ignore_errors=True)
    return source


def import_source(
    server: ForkServer,
    spec: SourceSpec,
    stores: Mapping[str, DomainStore],
    file: Path,
    note: str,
    folder: Path,
) -> SourceCheckpoint:
    """Import a source model that was trained elsewhere; a child reads and tests it.

    Args:
        server: forks the child.
        spec: the source model that it becomes.
        stores: of its domains.
        file: safetensors, or a state dict of torch.
        note: its origin, in the user's words.
        folder: an empty folder for the child's output and arrays.

    Raises:
        UsageError: the manifest fixes the source model.
        DataError: it cannot be read, or does not fit the manifest's network.
    """
    if spec.pin:
        raise UsageError(
            f"the manifest fixes the source model of {spec.name} (SHA-256 {spec.pin.sha256[:12]}"
            "...), so no other can be imported; make a manifest without [[source.checkpoints]]"
        )
    manifest = spec.manifest
    job = ImportJob(
        scratch=new_scratch(folder),
        setup=source_setup(manifest, spec.device, spec.seed),
        network=network_of(manifest),
        images=ImageFormat(manifest.image_size, store_kind(manifest)),
        file=str(file.resolve()),
    )
    outcome = _with_tests(server, job, spec, stores, folder, no_progress)
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
    job: SourceJob | ImportJob,
    spec: SourceSpec,
    stores: Mapping[str, DomainStore],
    folder: Path,
    progress: Progress,
) -> Outcome:
    """Run a job that predicts the test images of a source model's own domains."""
    sources = [stores[domain] for domain in spec.domains]
    files = [(store.test_file, len(store.test_ids)) for store in sources]
    with EncodedImages(files, job.images.size, job.images.store) as images:
        hand_out = HandOut.shuffled(images, len(spec.manifest.classes), spec.key)
        return run_job(server, job, hand_out, folder, progress)


def _facts(spec: SourceSpec, stores: Mapping[str, DomainStore], outcome: Outcome) -> dict[str, Any]:
    """For the record of a source model: accuracy on its own test images in per cent, and cost."""
    assert outcome.array is not None
    sources = [stores[domain] for domain in spec.domains]
    samples = spec.manifest.samples(spec.domains, "test")
    labels = dict(zip(samples.ids, samples.labels.tolist(), strict=True))
    truth = np.array([labels[i] for store in sources for i in store.test_ids])
    return {
        "test_accuracy": 100 * float((outcome.array.argmax(axis=1) == truth).mean()),
        "test_images": len(truth),
        "cost": outcome.cost,
        "environment": outcome.environment,
    }
