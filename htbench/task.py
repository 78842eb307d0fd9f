"""Open a task in the current process, for notebooks and debugging."""

from __future__ import annotations

import atexit
from pathlib import Path

from benchmark.in_process import open_arguments
from benchmark.manifest.suite import Suite, checked_seed, load_suite, manifest_of
from benchmark.method import Run, SourceModel, TargetData
from benchmark.progress import Silent
from benchmark.runs.plan import resolve_device
from benchmark.temporary import locked_folder
from benchmark.trees import remove_tree
from htbench.progress import Terminal


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
    deterministic algorithms and one CPU thread, as a run does. A missing source model is downloaded
    if the manifest fixes it, and otherwise trained in a child process.

    Args:
        suite: a suite's name, its .toml file, or a loaded suite.
        task: id of one of its manifest's tasks.
        seed: seed of the run's random streams, and of its source model where there are several.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: whether to show the progress of decoding and training on standard error.

    Returns:
        ``(source, target, run)``, the arguments of ``Method.adapt``. ``target.features`` and
        ``run.base`` are None; ``run.scratch`` is a folder that is deleted when the process exits,
        or when another task is opened on this host if the process is killed.

    Raises:
        ManifestError: the suite or the task does not exist.
        UsageError: the seed is not a whole number from 0 to 2**32 - 1, or there is no such device.
        DataError: images are missing or damaged.

    Example:
        >>> source, target, run = open_task("icons", "outline-solid", seed=0)
        >>> model = fit(source.copy(), target, run)
        >>> logits = predict(model, target.images, run)  # float32 (N, C)
    """
    seed = checked_seed(seed)
    loaded = load_suite(suite)
    manifest = manifest_of(loaded)
    scratch, _ = locked_folder("task")  # locked until the process ends, even if it is killed
    atexit.register(remove_tree, scratch)
    return open_arguments(
        manifest,
        manifest.task(task),
        seed=seed,
        device=resolve_device(device),
        monitor=Terminal() if progress else Silent(),
        scratch=scratch,
    )
