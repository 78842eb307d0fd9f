"""Run a method in the current process, without the lock: for notebooks, debugging and checks.

Methods that are imported here can do all that this process can. Their predictions are not recorded.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from benchmark import numerics
from benchmark.child.code import OwnModules
from benchmark.child.data import on_device, open_model, open_training
from benchmark.child.job import ContractError, build_network, start_run
from benchmark.child.plugin import declarations, load_method
from benchmark.driver import check_images, open_stores, ready_sources
from benchmark.errors import MethodError
from benchmark.files import digest_file
from benchmark.images.store.store import ImageNeed, store_kind
from benchmark.jobs import (
    CodeModule,
    ImageFormat,
    ImageJob,
    MethodCode,
    network_of,
    setup_of,
    train_files,
)
from benchmark.manifest.manifest import Manifest, Task
from benchmark.method import Method, Run, SourceModel, TargetData
from benchmark.methods.describe import MethodDescription
from benchmark.methods.find import MethodLocation
from benchmark.methods.resolve import resolve
from benchmark.networks.build import Classifier
from benchmark.progress import Monitor
from benchmark.runs.plan import check_fields
from benchmark.runs.workspace import Workspace
from benchmark.session import Session
from benchmark.sources.spec import SourceSpec, find_source
from benchmark.training import predict

NewRun = Callable[[], Run]


def open_arguments(
    manifest: Manifest,
    task: Task,
    *,
    seed: int,
    device: str,
    monitor: Monitor,
    scratch: Path,
    missing: bool = False,
    untrained: bool = False,
) -> tuple[SourceModel, TargetData, Run]:
    """The arguments of ``Method.adapt`` for a task; a missing source model is trained first.

    The process is switched to the numerics of a run.

    Args:
        manifest: of the task.
        task: the task.
        seed: seed of the run.
        device: ``cpu`` or ``cuda``.
        monitor: shows the progress.
        scratch: the folder of the run.
        missing: whether the training images of missing classes are opened, too, as for an oracle.
        untrained: whether an untrained network takes the place of a source model that would have
            to be trained or downloaded first.

    Raises:
        DataError: images are missing or damaged.
    """
    spec = SourceSpec.of(manifest, task.sources, device, seed)
    mask = manifest.seen_mask(task)
    seen = mask.nonzero()[0].tolist()
    others = (~mask).nonzero()[0].tolist() if missing else []
    checkpoint = find_source(spec)
    if checkpoint is None and not untrained:
        with (
            tempfile.TemporaryDirectory() as folder,
            Session(never=[manifest.root], cuda=device == "cuda") as session,
            Workspace(Path(folder)) as workspace,
        ):
            checkpoint = ready_sources(session, [spec], workspace, 1, monitor)[spec]
    needs = {task.target: ImageNeed(frozenset(seen + others), test=False)}
    check_images(manifest, needs)
    stores = open_stores(manifest, needs, monitor)
    job = ImageJob(
        scratch=str(scratch),
        setup=setup_of(manifest, device, seed),
        network=network_of(manifest),
        images=ImageFormat(manifest.image_size, store_kind(manifest)),
    )
    run = start_run(job.setup, scratch)
    files = [train_files(stores[task.target], classes) for classes in (seen, others)]
    target = open_training(job, files[0], seen, missing=files[1])
    if checkpoint is None:
        monitor.log(
            f"the source model of {spec.name} is not here; an untrained network replaces it"
        )
        numerics.seed_globals(seed)
        model, digest = build_network(job.network), "0" * 64
    else:
        model, digest = open_model(job.network, str(checkpoint.path)), checkpoint.digest
    return SourceModel(model.to(run.device), digest), on_device(target, run.device), run


@dataclass(frozen=True)
class Loaded:
    """A method that was imported into this process, with its settings.

    Attributes:
        description: what it declares.
        method: its class, created with the settings.
    """

    description: MethodDescription
    method: Method


def load(
    names: Sequence[str],
    plugins: Sequence[str],
    settings: Mapping[str, str] = MappingProxyType({}),
    derived: Mapping[str, str] = MappingProxyType({}),
) -> list[Loaded]:
    """Import methods and those that they start from into this process; bases come first.

    Args:
        names: names of installed methods.
        plugins: files, as ``--plugin`` takes them.
        settings: hyper-parameters as text; each goes to every method that has the field.
        derived: see :func:`benchmark.methods.resolve.resolve`.

    Raises:
        MethodError: a method or a setting is not valid. What the author's own file raises while
            it is imported is raised as it is.
    """

    def ask(location: MethodLocation, code: MethodCode) -> Any:
        return declarations(_imported(location, code))

    descriptions = resolve(names, plugins, ask, derived, keep=False)
    check_fields(descriptions, settings)
    return [_created(description, settings) for description in descriptions]


def _imported(location: MethodLocation, code: MethodCode) -> type[Method]:
    """The class of a method, imported as a run imports it."""
    _forget_changed(code.modules)
    sys.meta_path.insert(0, OwnModules(code.modules))
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        return load_method(code)
    except ContractError as error:
        raise MethodError(f"cannot load {location.origin}: {error}") from None
    finally:
        sys.dont_write_bytecode = writes_bytecode  # nothing is left beside the user's file


# File and SHA-256 of the methods' own modules when this process imported them, by name.
_origins: dict[str, tuple[str, str]] = {}


def _forget_changed(modules: Sequence[CodeModule]) -> None:
    """Have a method's modules imported again if one has changed, as between cells of a notebook.

    Otherwise the class would be that of the earlier file, and its settings those of the new one.
    """
    for module in modules:
        if getattr(sys.modules.get(module.name), "__file__", module.file) != module.file:
            del sys.modules[module.name]  # another file of the same name
    now = {m.name: (m.file, digest_file(Path(m.file))) for m in modules if m.file is not None}
    if any(name in sys.modules and _origins.get(name, now[name]) != now[name] for name in now):
        for name in now:
            sys.modules.pop(name, None)
    _origins.update(now)


def _created(description: MethodDescription, settings: Mapping[str, str]) -> Loaded:
    config = description.configure(settings)
    method = _imported(description.source, description.own.message)
    try:
        return Loaded(description, method(**config))
    except ValueError as error:
        raise MethodError(f"{description.label(config)}: {error}") from None


def adapt(
    chain: Sequence[Method], source: SourceModel, target: TargetData, new_run: NewRun, seed: int
) -> tuple[nn.Module, Run]:
    """Adapt with a method, after those that it starts from, as a run does.

    Args:
        chain: the method, last, after its bases.
        source: the source model.
        target: the training data; ``missing`` goes only to oracles, and ``features`` are computed
            for the methods that use them.
        new_run: creates the run of each method.
        seed: of the global random streams.

    Returns:
        The adapted model and the run of the last method.

    Raises:
        ContractError: a method returns something else than a module, or its base something else
            than a ``Classifier``. Other exceptions are the method's own.
    """
    base: Classifier | None = None
    for method in chain:
        run = new_run()
        run.base = base
        data = target if method.track == "oracle" else replace(target, missing=None)
        if method.uses_features:
            data = replace(data, features=predict(source.backbone, data.images, run).clone())
        numerics.seed_globals(seed)
        model: Any = method.adapt(source, data, run)
        if not isinstance(model, nn.Module):
            raise ContractError(
                f"adapt() returned {type(model).__name__}; it must return a torch.nn.Module"
            )
        if method is not chain[-1]:
            if not isinstance(model, Classifier):
                raise ContractError(
                    f"{method.name} returned a {type(model).__name__}; only an htbench.Classifier "
                    "can be started from"
                )
            base = copy.deepcopy(model).requires_grad_(True).eval()
    return model, run
