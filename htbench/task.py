"""Open a task in the current process, for notebooks and debugging."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmark.child.data import on_device, open_model, open_training
from benchmark.child.job import start_run
from benchmark.driver import open_stores, ready_sources
from benchmark.images.store.store import ImageNeed, store_kind
from benchmark.jobs import ImageFormat, ImageJob, network_of, setup_of, train_files
from benchmark.manifest.suite import Suite, load_suite, manifest_of
from benchmark.method import Run, SourceModel, TargetData
from benchmark.progress import Silent
from benchmark.runs.plan import resolve_device
from benchmark.runs.workspace import Workspace
from benchmark.session import Session
from benchmark.sources.spec import SourceSpec
from htbench.progress import Terminal

_SCRATCH: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


def open_task(
    suite: str | Path | Suite,
    task: str,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> tuple[SourceModel, TargetData, Run]:
    """Open a task in the current process, with the arguments that ``Method.adapt`` receives.

    Your code is **not sandboxed** here. As in a run, it receives only the training images of the
    seen classes, and no test images or test labels. This call also switches the process to
    deterministic algorithms and one CPU thread, as a run does. A missing source model is trained
    first, in a child process.

    Args:
        suite: a suite's name, its .toml file, or a loaded suite.
        task: id of one of its manifest's tasks.
        seed: seed of the run's random streams, and of its source model where there are several.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: whether to show the progress of decoding and training on standard error.

    Returns:
        ``(source, target, run)``, the arguments of ``Method.adapt``. ``target.features`` and
        ``run.base`` are None; ``run.scratch`` is a folder that is deleted when the process exits.

    Raises:
        ManifestError: the suite or the task does not exist.
        DataError: images are missing or damaged.

    Example:
        >>> source, target, run = open_task("icons", "outline-solid", seed=0)
        >>> model = fit(source.copy(), target, run)
        >>> logits = predict(model, target.images, run)  # float32 (N, C)
    """
    loaded = suite if isinstance(suite, Suite) else load_suite(str(suite))
    manifest = manifest_of(loaded)
    entry = manifest.task(task)
    device = resolve_device(device)
    monitor = Terminal() if progress else Silent()
    spec = SourceSpec.of(manifest, entry.sources, device, seed)
    seen = manifest.seen_mask(entry).nonzero()[0].tolist()
    with (
        tempfile.TemporaryDirectory() as folder,
        Session(never=[manifest.root], cuda=device == "cuda") as session,
        Workspace(Path(folder)) as workspace,
    ):
        checkpoint = ready_sources(session, [spec], workspace, 1, monitor)[spec]
    stores = open_stores(manifest, {entry.target: ImageNeed(frozenset(seen))}, monitor)
    _SCRATCH.append(tempfile.TemporaryDirectory(prefix="htbench-"))
    scratch = Path(_SCRATCH[-1].name)
    job = ImageJob(
        scratch=str(scratch),
        setup=setup_of(manifest, device, seed),
        network=network_of(manifest),
        images=ImageFormat(manifest.image_size, store_kind(manifest)),
    )
    run = start_run(job.setup, scratch)
    target = open_training(job, train_files(stores[entry.target], seen), seen)
    model = open_model(job.network, str(checkpoint.path)).to(run.device)
    return SourceModel(model, checkpoint.digest), on_device(target, run.device), run
