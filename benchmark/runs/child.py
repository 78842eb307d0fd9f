"""What a child does: describe a method, train a source model, or adapt and predict.

A job is one JSON message. The child opens what it may read before any method's code is imported,
answers in JSON, and writes arrays into descriptors that it is handed. It is forked from the fork
server (``runs/server.py``) and never returns there.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.abc
import importlib.util
import inspect
import math
import os
import platform
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from benchmark import numerics
from benchmark.checkpoint import Checkpoints
from benchmark.errors import NotApplicable
from benchmark.failpoints import reach
from benchmark.files import digest_file
from benchmark.folders import ROOT, harness_packages, own_packages
from benchmark.images.augment import Transforms
from benchmark.images.raw import Images, join, open_images
from benchmark.method import Method, Recipe, Run, SourceModel, TargetData
from benchmark.models import Classifier, all_finite, build, load_backbone, weights_of
from benchmark.records import DEVICE_MEMORY, NOT_APPLICABLE
from benchmark.registry import installed_folders
from benchmark.runs import wire
from benchmark.runs.sandbox import Sandbox
from benchmark.training import fit, predict

MAX_TEXT = 20_000
MAX_LOG_ROWS = 1000
MAX_NOTES = 10
PROGRESS_SECONDS = 0.2
MATES_CHECKED = 32
MATES_TOLERANCE = 1e-3


class ContractError(Exception):
    """What a method returned is not what the contract asks for."""


def main(channel: socket.socket, sandbox: Sandbox) -> None:
    """Do the one job that comes over the channel and answer it.

    Args:
        channel: to the driver.
        sandbox: what the process locks itself into before any code of a method is imported.
    """
    received = wire.receive(channel)
    if received is None:
        return
    job, _ = received
    reach("job-received")
    from benchmark.runs import foreign  # it needs this module

    jobs: dict[str, Callable[[_Job], dict[str, Any]]] = {
        "address": foreign.find_address,
        "configure": _configure,
        "describe": _describe,
        "features": _extract_features,
        "import": foreign.read_source,
        "initial": foreign.read_initial,
        "network": foreign.try_network,
        "source": _train_source,
        "run": _run,
    }
    try:
        answer = {"done": jobs[job["kind"]](_Job(channel, sandbox, job))}
    except NotApplicable as error:
        answer = {"failed": {"kind": NOT_APPLICABLE, "message": _words(error)[:MAX_TEXT]}}
    except Exception as error:
        kind = "contract" if isinstance(error, ContractError) else "exception"
        answer = {
            "failed": {
                "kind": kind,
                "message": _message(error)[:MAX_TEXT],
                "traceback": _cut(traceback.format_exc()),
            }
        }
    wire.send(channel, answer)


def _message(error: Exception) -> str:
    """Its type and words."""
    return f"{type(error).__name__}: {_words(error)}"


def _words(error: Exception) -> str:
    """A method's own exception may fail to give any."""
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def _cut(text: str) -> str:
    """The beginning and the end of a text: a traceback tells where first and what last."""
    half = MAX_TEXT // 2 - 10
    return text if len(text) <= MAX_TEXT else f"{text[:half]}\n[...]\n{text[-half:]}"


@dataclasses.dataclass(frozen=True)
class _Job:
    """A job with what is needed to do it."""

    channel: socket.socket
    sandbox: Sandbox
    settings: Mapping[str, Any]

    def tell(self, **message: Any) -> None:
        wire.send(self.channel, message)

    def lock(self) -> None:
        """Give up everything but the method's own code and the scratch folder, and say so.

        The word goes out before any of the method's code runs, so the driver can believe it. What
        comes later it cannot: a method that sends ``adapted`` by itself has the test images early.
        That gives it no more than ``forward`` does, and no label.
        """
        read, listed = _open_code(self.settings.get("method"))
        scratch = Path(self.settings["scratch"])
        os.environ["TMPDIR"] = os.environ["CUDA_CACHE_PATH"] = str(scratch)
        tempfile.tempdir = None
        _limit_files(self.settings["file_limit"])
        os.chdir(scratch)
        write = [scratch]
        if kept := self.settings.get("checkpoints"):  # of a source training: no method's code
            write.append(Path(kept["folder"]))
        facts = self.sandbox.lock(read=read, listed=listed, write=write)
        reach("process-locked")
        self.tell(locked=list(facts))


def _open_code(method: Mapping[str, Any] | None) -> tuple[list[Path], list[Path]]:
    """Where a method's code is: what must be readable, and which folders an import lists.

    Installed packages are open to every run, and so are this one and the suite's own methods, which
    a plugin may build on. A plugin file may import Python files beside it; a package of a checkout
    is found by its top-level name, which runs none of it.
    """
    ours = list(own_packages())
    if method is None:
        return ours, []
    if method["file"] is not None:
        beside = _Beside(Path(method["file"]))
        sys.meta_path.append(beside)
        return [*ours, *beside.files.values()], []
    spec = importlib.util.find_spec(method["module"].partition(".")[0])
    if spec is None or spec.origin is None:
        return ours, [ROOT]
    origin = Path(spec.origin).resolve()
    if any(origin.is_relative_to(folder) for folder in installed_folders()):
        return ours, [ROOT]
    code = origin.parent if origin.name == "__init__.py" else origin
    return [*ours, code], [ROOT, code.parent]


class _Beside(importlib.abc.MetaPathFinder):
    """Finds the Python files beside a plugin, last of all: they shadow nothing that is installed.

    Its folder need not be listed for that, which may be somebody's home.

    Attributes:
        files: name to file. A link counts if it leads to a Python file.
    """

    def __init__(self, plugin: Path) -> None:
        found = (path for path in sorted(plugin.parent.glob("*.py")) if path.is_file())
        self.files = {path.stem: path for path in found if path.resolve().suffix == ".py"}
        self.files[plugin.stem] = plugin

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a top-level module, if it is one of the files."""
        file = self.files.get(fullname) if path is None else None
        return None if file is None else importlib.util.spec_from_file_location(fullname, file)


def _limit_files(size: int) -> None:
    """No file may grow beyond this many bytes: writing more is an error, not a full disk."""
    import resource  # not on every system

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


# --- describe --------------------------------------------------------------------------------


def _describe(job: _Job) -> dict[str, Any]:
    job.lock()
    before = set(sys.modules)
    method = _load(job.settings["method"])
    files, distributions = _loaded_from(set(sys.modules) - before)
    _check_dataclass(method)
    if not hasattr(method, "name"):
        raise ContractError(f"{method.__name__} has no name; give it one: name = 'my-method'")
    return {
        "name": method.name,
        "summary": (inspect.getdoc(method) or "").partition("\n\n")[0].replace("\n", " "),
        "base": method.base,
        "track": method.track,
        "uses_features": method.uses_features,
        "needs": list(method.needs),
        "fields": [
            {
                "name": f.name,
                "type": f.type if isinstance(f.type, str) else getattr(f.type, "__name__", "?"),
                "default": _plain(f.default),
            }
            for f in dataclasses.fields(method)
        ],
        "files": files,
        "distributions": distributions,
    }


def _configure(job: _Job) -> dict[str, Any]:
    """Make the method with its settings: one that refuses them does so here."""
    job.lock()
    _load(job.settings["method"])(**job.settings["config"])
    return {}


def _plain(default: Any) -> bool | int | float | str | None:
    """A default as JSON can tell it; None for any other, which the registry then refuses."""
    if type(default) is float:
        return default if math.isfinite(default) else None
    return default if type(default) in (bool, int, str) else None


def _check_dataclass(method: type[Method]) -> None:
    """Annotated hyper-parameters without the decorator would silently not be fields."""
    own = [n for n, t in inspect.get_annotations(method).items() if "ClassVar" not in str(t)]
    if own and "__dataclass_fields__" not in vars(method):
        raise ContractError(
            f"{method.__name__} has hyper-parameters ({', '.join(own)}) but is not a dataclass; "
            "decorate it with @dataclass(frozen=True)"
        )


def _load(source: Mapping[str, Any]) -> type[Method]:
    """Import a method's class from its module or file."""
    if source["file"] is None:
        module = importlib.import_module(source["module"])
    else:
        module = _import_file(Path(source["file"]))
    if source["attribute"] is not None:
        found: Any = module
        for part in source["attribute"].split("."):
            found = getattr(found, part)
    else:
        found = _only_method(module)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ContractError(f"{source['attribute']} is not a subclass of benchmark.Method")
    if inspect.isabstract(found):
        raise ContractError(f"{found.__name__} does not define adapt(self, source, target, run)")
    return found


def _import_file(path: Path) -> Any:
    name = f"htbench_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _only_method(module: Any) -> type[Method]:
    own = [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Method)
        and item.__module__ == module.__name__
    ]
    concrete = [item for item in own if not inspect.isabstract(item)]
    if not own:
        raise ContractError("the file defines no method, that is, no subclass of benchmark.Method")
    if len(concrete) > 1:
        names = ", ".join(item.__name__ for item in concrete)
        raise ContractError(
            f"the file defines {len(concrete)} methods ({names}); say which: --plugin FILE.py:Class"
        )
    return (concrete or own)[0]


def _loaded_from(modules: set[str]) -> tuple[list[str], list[str]]:
    """Files outside installed distributions, and names of distributions, behind some modules."""
    from importlib.metadata import packages_distributions

    files, packages = _origins(modules)
    known = packages_distributions() if packages else {}
    return sorted(map(str, files)), sorted({d for p in packages for d in known.get(p, [])})


def _origins(modules: set[str]) -> tuple[set[Path], set[str]]:
    """Files outside installed distributions, and installed packages, behind some modules."""
    installed = installed_folders()
    files, packages = set(), set()
    for name in modules:
        origin = getattr(sys.modules.get(name), "__file__", None)
        if not origin:
            continue
        path = Path(origin).resolve()
        if any(path.is_relative_to(folder) for folder in harness_packages()):
            continue  # counted by registry.COMPUTES
        if any(path.is_relative_to(folder) for folder in installed):
            packages.add(name.partition(".")[0])
        else:
            files.add(path)
    return files, packages


def _check_code(modules: set[str], settings: Mapping[str, Any]) -> None:
    """Imported files must be those in the run's key.

    One that is imported only while the method runs was not seen when the method was described, and
    one that has been edited since then is another.
    """
    scratch = Path(settings["scratch"])
    for path in sorted(_origins(modules)[0]):
        if path.is_relative_to(scratch) or not path.is_file():  # what a method makes is its own
            continue
        if [path.name, digest_file(path)] not in settings["code"]:
            raise ContractError(
                f"{path.name} is not part of the run's key: it was edited after the command began "
                "(start it again), or it is imported by a function (import it at the top of the "
                "method's file)"
            )


# --- train a source model, and its features ----------------------------------------------------


def _train_source(job: _Job) -> dict[str, Any]:
    run = _start(job)
    target = _open_training(job.settings)
    initial = safetensors.torch.load_file(path) if (path := job.settings["initial"]) else {}
    torch.manual_seed(numerics.derive(job.settings["seed"], "global"))
    model = _build(job.settings)
    if initial:
        load_backbone(model, initial, job.settings["model"], job.settings["input_size"])
    kept = job.settings["checkpoints"]
    checkpoints = Checkpoints(Path(kept["folder"]), kept["key"], model, run, kept["seconds"])
    job.lock()
    job.tell(started=True)
    model = model.to(run.device)
    fit(model, _to(target, run.device), run, checkpoints=checkpoints)
    if not all_finite(model):
        raise ContractError("the trained source model holds values that are not finite")
    job.tell(adapted={"total_steps": run.total_steps})
    answer = _receive_test(job.channel)
    _write(answer.weights, safetensors.torch.save(weights_of(model)))
    return _predict(model, answer, job.settings, run)


def _extract_features(job: _Job) -> dict[str, Any]:
    """The source model's features of every training image of a domain, in the order of the job."""
    run = _start(job)
    target = _open_training(job.settings)
    model = _open_model(job.settings, job.settings["source"])
    job.lock()
    job.tell(started=True)
    job.tell(adapted={})
    answer = _receive_test(job.channel)
    features = predict(model.to(run.device).backbone, target.images, run)
    if not torch.isfinite(features).all():
        raise ContractError("the source model gives features that are not finite")
    _write(answer.array, features.cpu().numpy().tobytes())
    return {"width": features.shape[1]}


# --- adapt and predict --------------------------------------------------------------------------


def _run(job: _Job) -> dict[str, Any]:
    settings = job.settings
    run = _start(job)
    target = _open_training(settings)
    source = _open_model(settings, settings["source"])
    base = _open_model(settings, settings["base"]) if settings["base"] else None
    job.lock()
    # A CUDA context starts threads, and only the thread that locks is locked: devices come after.
    target = _to(target, run.device)
    run.base = base.to(run.device).eval() if base else None
    before = set(sys.modules)
    method = _load(settings["method"])(**settings["config"])
    _check_code(set(sys.modules) - before, settings)
    loaded = set(sys.modules)
    numerics.seed_globals(settings["seed"])
    job.tell(started=True)
    model = method.adapt(
        SourceModel(source.to(run.device), settings["source"]["digest"]), target, run
    )
    if not isinstance(model, nn.Module):
        raise ContractError(f"adapt returned {type(model).__name__}, not a torch.nn.Module")
    _check_code(set(sys.modules) - loaded, settings)
    reach("model-adapted")
    job.tell(
        adapted={
            "total_steps": run.total_steps,
            "sequential_steps": run.sequential_steps,
            "log": run.history[:MAX_LOG_ROWS],
            "notes": run.notes[:MAX_NOTES],
        }
    )
    answer = _receive_test(job.channel)
    if settings["keep_weights"] and isinstance(model, Classifier):
        _write(answer.weights, safetensors.torch.save(weights_of(model)))
    facts = _predict(model, answer, settings, run)
    _check_code(set(sys.modules) - loaded, settings)
    return facts


def _start(job: _Job) -> Run:
    numerics.configure()
    return Run(
        device=torch.device(job.settings["device"]),
        recipe=Recipe.of(job.settings["recipe"]),
        transforms=Transforms(job.settings["transforms"]),
        stream=numerics.Streams(job.settings["seed"]),
        scratch=Path(job.settings["scratch"]),
        report=_reporter(job.channel),
    )


def _reporter(channel: socket.socket) -> Callable[[int, int], None]:
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS:
            last = now
            wire.send(channel, {"progress": [int(done), int(total)]})

    return report


def _open_training(settings: Mapping[str, Any]) -> TargetData:
    """The training images that the job may see: one file for each of its classes."""
    seen = torch.zeros(len(settings["classes"]), dtype=torch.bool)
    seen[settings["seen"]] = True
    classes = tuple(settings["classes"])
    missing = None
    if settings["missing"]:
        missing = TargetData(*_open_classes(settings["missing"], settings), classes, seen)
    features = None
    if settings["features"]:
        features = _open_features(settings["features"])
    images, labels = _open_classes(settings["train"], settings)
    return TargetData(images, labels, classes, seen, features, missing)


def _open_classes(
    entries: list[tuple[str, int, int]], settings: Mapping[str, Any]
) -> tuple[Tensor | Images, Tensor]:
    parts, labels, size = [], [], settings["image_size"]
    for path, label, count in entries:
        with open(path, "rb") as file:  # noqa: PTH123
            parts.append(open_images(file.fileno(), count, size, settings["store"]))
        labels.append(torch.full((count,), label, dtype=torch.int64))
    return join(parts, size), torch.cat(labels)


def _open_features(entry: Mapping[str, Any]) -> Tensor:
    """Rows of a features file, class by class as the images are; no other row is read."""
    parts = []
    with open(entry["path"], "rb") as file:  # noqa: PTH123
        for start, count in entry["ranges"]:
            file.seek(start * entry["width"] * 4)
            rows = bytearray(file.read(count * entry["width"] * 4))
            parts.append(torch.frombuffer(rows, dtype=torch.float32).view(count, entry["width"]))
    return torch.cat(parts)


def _to(target: TargetData, device: torch.device) -> TargetData:
    """The data on a device."""
    return TargetData(
        target.images.to(device),
        target.labels.to(device),
        target.classes,
        target.seen.to(device),
        None if target.features is None else target.features.to(device),
        None if target.missing is None else _to(target.missing, device),
    )


def _build(settings: Mapping[str, Any]) -> Classifier:
    return build(settings["model"], len(settings["classes"]), settings["input_size"])


def _open_model(settings: Mapping[str, Any], entry: Mapping[str, Any]) -> Classifier:
    model = _build(settings)
    model.load_state_dict(safetensors.torch.load_file(entry["path"]), strict=True)
    return model.eval()


@dataclasses.dataclass
class _Answer:
    """The test images, and the files that the answer's array and weights go to."""

    images: Tensor | Images | None
    array: int
    weights: int


def _receive_test(channel: socket.socket) -> _Answer:
    received = wire.receive(channel)
    if received is None:
        raise RuntimeError("the driver is gone")
    message, fds = received
    *tests, array, weights = fds
    size = message["image_size"]
    images = [
        open_images(test, count, size, message["store"])
        for test, count in zip(tests, message["counts"], strict=True)
    ]
    return _Answer(join(images, size) if images else None, array, weights)


def _predict(
    model: nn.Module, answer: _Answer, settings: Mapping[str, Any], run: Run
) -> dict[str, Any]:
    assert answer.images is not None
    logits = predict(model, answer.images, run)
    _check_logits(logits, len(answer.images), len(settings["classes"]))
    _check_mates(model, answer.images, logits, run)
    _write(answer.array, logits.cpu().numpy().tobytes())
    reach("answer-written")
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **numerics.driver_facts(run.device),
        **_device_memory(run.device),
    }


def _device_memory(device: torch.device) -> dict[str, int]:
    """On CUDA, the most bytes that tensors of this process have held: the kernel cannot tell."""
    if device.type != "cuda":
        return {}
    return {DEVICE_MEMORY: torch.cuda.max_memory_allocated(device)}


def _check_logits(logits: Tensor, count: int, classes: int) -> None:
    if logits.shape != (count, classes):
        raise ContractError(
            f"the model gives logits of shape {tuple(logits.shape)} for {count} images; "
            f"it must be ({count}, {classes}), one column for each class"
        )
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).any(dim=1).sum())
        raise ContractError(f"the logits of {bad} of {count} images are NaN or infinite")


def _check_mates(model: nn.Module, images: Tensor | Images, logits: Tensor, run: Run) -> None:
    """A prediction must not depend on the other images of its batch."""
    some = images[:MATES_CHECKED]
    chunks = [some.flip(0)[start : start + 5] for start in range(0, len(some), 5)]
    again = torch.cat([predict(model, part, run) for part in chunks]).flip(0)
    gap = float((again - logits[: len(some)]).abs().max())
    scale = max(1.0, float(logits.abs().max()))
    if gap > MATES_TOLERANCE * scale:
        raise ContractError(
            f"a prediction depends on its batch mates: logits move by {gap:.3g} in another batch; "
            "use evaluation mode and running statistics"
        )


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
