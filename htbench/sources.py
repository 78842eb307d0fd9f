"""``htbench source`` from Python: train, import and export the source models of a manifest."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import driver
from benchmark.errors import UsageError
from benchmark.executors.local import slots
from benchmark.manifest.manifest import Manifest
from benchmark.progress import Monitor
from benchmark.runs.plan import resolve_device
from benchmark.runs.workspace import Workspace
from benchmark.session import Session
from benchmark.sources import export, train
from benchmark.sources.get_pretrained import import_pretrained
from benchmark.sources.spec import SourceCheckpoint, SourceSpec
from benchmark.temporary import temporary_folder


@dataclass(frozen=True)
class Origin:
    """Where the tasks come from whose source models are meant.

    Attributes:
        suite: a suite, by name or .toml file; None if a manifest is named.
        manifest: a reference or a folder; None if a suite is named.
        network: another network, as ``--model`` takes it; None for the manifest's own.
        device: ``auto``, ``cpu`` or ``cuda``. Each device has its own source models.
    """

    suite: str | None = None
    manifest: str | None = None
    network: str | None = None
    device: str = "auto"


def train_sources(
    origin: Origin,
    *,
    names: Sequence[str] = (),
    seeds: Sequence[int] = (),
    weights: Path | None = None,
    jobs: int | None = None,
    again: bool = False,
    monitor: Monitor,
) -> list[SourceCheckpoint]:
    """Train missing source models, each in a child process.

    Those that the manifest fixes are not trained; they are downloaded if needed.

    Args:
        origin: the tasks.
        names: only these source models, such as ``outline+solid``; all if empty.
        seeds: only the source models of these numbers; all if empty.
        weights: a file with the manifest's pretrained weights; None downloads them if needed.
        jobs: source models to train side by side; None for one per core on CPU, one on a GPU.
        again: also train those that the manifest fixes. Runs do not use the result: it shows what
            training gives on this machine.
        monitor: shows the progress.

    Returns:
        The chosen source models, those trained earlier included. With ``again``, each one that the
        manifest fixes is followed by the one trained here.

    Raises:
        UsageError: the suite, the manifest, the network or a name does not exist.
        DataError: images or weights are missing or damaged.
    """
    with _open(origin) as (session, manifest, of_tasks, device):
        specs = export.choose_specs(manifest, of_tasks, names, device, seeds)
        if again:
            trained = [dataclasses.replace(s, is_trained=True) if s.pin else s for s in specs]
            specs = list(
                dict.fromkeys(s for pair in zip(specs, trained, strict=True) for s in pair)
            )
        if weights is not None:
            import_pretrained(session.server, manifest, weights, monitor.log)
        with temporary_folder() as folder, Workspace(folder) as workspace:
            width = jobs or slots(device)
            checkpoints = driver.ready_sources(session, specs, workspace, width, monitor)
    return [checkpoints[spec] for spec in specs]


def import_source(
    origin: Origin,
    file: Path,
    *,
    name: str | None,
    seed: int | None = None,
    note: str,
    monitor: Monitor,
) -> SourceCheckpoint:
    """Import a source model that was trained elsewhere, and test it on its own domains.

    Args:
        origin: the tasks.
        file: safetensors, or a torch state dict; a child process reads it.
        name: the source domains, such as ``outline+solid``; None if there is only one choice.
        seed: number of the source model; None if there is only one choice.
        note: recorded with the model.
        monitor: shows the progress.

    Raises:
        UsageError: there are several source models and no name, the name does not exist, or the
            file is not a regular one.
        DataError: the file does not fit the network, or images are missing.
    """
    if not file.is_file():  # the child would wait for a FIFO, and read a device until memory ends
        raise UsageError(f"{file} is not a regular file; give the path of one")
    with _open(origin) as (session, manifest, of_tasks, device):
        spec = _only(manifest, of_tasks, name, seed, device)
        stores = driver.open_stores(manifest, driver.source_needs([spec]), monitor)
        with temporary_folder() as folder:
            return train.import_source(session.server, spec, stores, file, note, folder)


def export_source(origin: Origin, out: Path, *, name: str | None, seed: int | None = None) -> None:
    """Copy a source model into a new folder, with a card that describes it.

    Args:
        origin: the tasks.
        out: a folder that does not exist yet.
        name: the source domains, such as ``outline+solid``; None if there is only one choice.
        seed: number of the source model; None if there is only one choice.

    Raises:
        UsageError: the folder exists, the source model is not trained, or there are several.
    """
    with _open(origin) as (_, manifest, of_tasks, device):
        export.export_source(_only(manifest, of_tasks, name, seed, device), out)


@contextlib.contextmanager
def _open(origin: Origin) -> Iterator[tuple[Session, Manifest, list[tuple[str, ...]], str]]:
    """The session, the manifest with its network, the source domains by task, and the device."""
    device = resolve_device(origin.device)
    manifest, of_tasks = export.manifest_and_sources(origin.suite, origin.manifest)
    with Session(never=[manifest.root], cuda=device == "cuda") as session:
        yield session, session.with_network(manifest, origin.network), of_tasks, device


def _only(
    manifest: Manifest,
    of_tasks: list[tuple[str, ...]],
    name: str | None,
    seed: int | None,
    device: str,
) -> SourceSpec:
    names, seeds = [] if name is None else [name], [] if seed is None else [seed]
    return export.only_spec(export.choose_specs(manifest, of_tasks, names, device, seeds))
