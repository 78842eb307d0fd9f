"""What a child does: describe a method, train a source model, or adapt and predict.

A job is one JSON message. The child opens what it may read before any method's code is imported,
answers in JSON, and writes arrays into descriptors that it is handed. It is forked from the fork
server (``runs/server.py``) and never returns there.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import os
import platform
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from benchmark import numerics
from benchmark.images.augment import Transforms
from benchmark.images.raw import map_images
from benchmark.method import Method, Recipe, Run, SourceModel, TargetData
from benchmark.models import Classifier, all_finite, build, weights_of
from benchmark.registry import installed_folders
from benchmark.runs import wire
from benchmark.training import fit, predict

MAX_TEXT = 20_000
PROGRESS_SECONDS = 0.2
MATES_CHECKED = 32
MATES_TOLERANCE = 1e-3


class ContractError(Exception):
    """What a method returned is not what the contract asks for."""


def main(channel: socket.socket) -> None:
    """Do the one job that comes over the channel and answer it."""
    received = wire.receive(channel)
    if received is None:
        return
    job, _ = received
    jobs: dict[str, Callable[[socket.socket, Mapping[str, Any]], dict[str, Any]]] = {
        "describe": _describe,
        "source": _train_source,
        "run": _run,
    }
    try:
        answer = {"done": jobs[job["kind"]](channel, job)}
    except Exception as error:
        kind = "contract" if isinstance(error, ContractError) else "exception"
        answer = {
            "failed": {
                "kind": kind,
                "message": f"{type(error).__name__}: {error}"[:MAX_TEXT],
                "traceback": traceback.format_exc()[-MAX_TEXT:],
            }
        }
    wire.send(channel, answer)


# --- describe --------------------------------------------------------------------------------


def _describe(channel: socket.socket, job: Mapping[str, Any]) -> dict[str, Any]:
    before = set(sys.modules)
    method = _load(job["method"])
    files, distributions = _loaded_from(set(sys.modules) - before)
    _check_dataclass(method)
    return {
        "name": getattr(method, "name", None),
        "summary": (inspect.getdoc(method) or "").partition("\n\n")[0].replace("\n", " "),
        "base": method.base,
        "track": method.track,
        "fields": [
            {
                "name": f.name,
                "type": f.type if isinstance(f.type, str) else getattr(f.type, "__name__", "?"),
                "default": None if f.default is dataclasses.MISSING else f.default,
            }
            for f in dataclasses.fields(method)
        ],
        "files": files,
        "distributions": distributions,
    }


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
    sys.path.append(str(path.parent))  # last: a helper may lie beside it, but shadows nothing
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
    if len(concrete) != 1:
        names = ", ".join(item.__name__ for item in concrete) or "none"
        raise ContractError(
            f"the file defines {len(concrete)} methods ({names}); say which: --plugin FILE.py:Class"
        )
    return concrete[0]


def _loaded_from(modules: set[str]) -> tuple[list[str], list[str]]:
    """Files outside installed distributions, and names of distributions, behind some modules."""
    from importlib.metadata import packages_distributions

    ours = Path(__file__).resolve().parent.parent
    installed = installed_folders()
    files, packages = set(), set()
    for name in modules:
        origin = getattr(sys.modules.get(name), "__file__", None)
        if not origin:
            continue
        path = Path(origin).resolve()
        if path.is_relative_to(ours):
            continue  # counted by registry.COMPUTES
        if any(path.is_relative_to(folder) for folder in installed):
            packages.add(name.partition(".")[0])
        else:
            files.add(str(path))
    known = packages_distributions() if packages else {}
    return sorted(files), sorted({d for p in packages for d in known.get(p, [])})


# --- train a source model ---------------------------------------------------------------------


def _train_source(channel: socket.socket, job: Mapping[str, Any]) -> dict[str, Any]:
    run = _start(channel, job)
    target = _open_training(job, run)
    wire.send(channel, {"started": True})
    torch.manual_seed(numerics.derive(job["seed"], "global"))
    model = build(job["model"], len(job["classes"])).to(run.device)
    fit(model, target, run)
    if not all_finite(model):
        raise ContractError("the trained source model holds values that are not finite")
    wire.send(channel, {"adapted": {"total_steps": run.total_steps}})
    answer = _receive_test(channel)
    _write(answer.weights, safetensors.torch.save(weights_of(model)))
    return _predict(model, answer, job, run)


# --- adapt and predict --------------------------------------------------------------------------


def _run(channel: socket.socket, job: Mapping[str, Any]) -> dict[str, Any]:
    run = _start(channel, job)
    target = _open_training(job, run)
    source = SourceModel(_open_model(job, job["source"], run), job["source"]["digest"])
    if job["base"] is not None:
        run.base = _open_model(job, job["base"], run)
    os.chdir(run.scratch)
    method = _load(job["method"])(**job["config"])
    numerics.seed_globals(job["seed"])
    wire.send(channel, {"started": True})
    model = method.adapt(source, target, run)
    if not isinstance(model, nn.Module):
        raise ContractError(f"adapt returned {type(model).__name__}, not a torch.nn.Module")
    wire.send(
        channel,
        {
            "adapted": {
                "total_steps": run.total_steps,
                "sequential_steps": run.sequential_steps,
                "log": run.history[:1000],
            }
        },
    )
    answer = _receive_test(channel)
    if isinstance(model, Classifier):
        _write(answer.weights, safetensors.torch.save(weights_of(model)))
    return _predict(model, answer, job, run)


def _start(channel: socket.socket, job: Mapping[str, Any]) -> Run:
    numerics.configure()
    streams = numerics.Streams(job["seed"])
    return Run(
        device=torch.device(job["device"]),
        recipe=Recipe.of(job["recipe"]),
        transforms=Transforms(job["transforms"]),
        stream=streams,
        scratch=Path(job["scratch"]),
        report=_reporter(channel),
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


def _open_training(job: Mapping[str, Any], run: Run) -> TargetData:
    """The training images: one file per class that the job may see."""
    images, labels = [], []
    for path, label, count in job["train"]:
        with open(path, "rb") as file:  # noqa: PTH123
            images.append(map_images(file.fileno(), count, job["image_size"]))
        labels.append(torch.full((count,), label, dtype=torch.int64))
    seen = torch.zeros(len(job["classes"]), dtype=torch.bool)
    seen[job["seen"]] = True
    return TargetData(
        torch.cat(images).to(run.device),
        torch.cat(labels).to(run.device),
        tuple(job["classes"]),
        seen.to(run.device),
    )


def _open_model(job: Mapping[str, Any], entry: Mapping[str, Any], run: Run) -> Classifier:
    model = build(job["model"], len(job["classes"]))
    model.load_state_dict(safetensors.torch.load_file(entry["path"]), strict=True)
    return model.to(run.device).eval()


@dataclasses.dataclass
class _Answer:
    """The test images, and the files that logits and weights go to."""

    images: Tensor
    logits: int
    weights: int


def _receive_test(channel: socket.socket) -> _Answer:
    received = wire.receive(channel)
    if received is None:
        raise RuntimeError("the driver is gone")
    message, fds = received
    *tests, logits, weights = fds
    images = [
        map_images(test, count, message["image_size"])
        for test, count in zip(tests, message["counts"], strict=True)
    ]
    return _Answer(images[0] if len(images) == 1 else torch.cat(images), logits, weights)


def _predict(model: nn.Module, answer: _Answer, job: Mapping[str, Any], run: Run) -> dict[str, Any]:
    logits = predict(model, answer.images, run)
    _check_logits(logits, len(answer.images), len(job["classes"]))
    _check_mates(model, answer.images, logits, run)
    _write(answer.logits, logits.cpu().numpy().tobytes())
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **numerics.driver_facts(run.device),
    }


def _check_logits(logits: Tensor, count: int, classes: int) -> None:
    if logits.shape != (count, classes):
        raise ContractError(
            f"the model gives logits of shape {tuple(logits.shape)} for {count} images; "
            f"it must be ({count}, {classes}), one column for each class"
        )
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).any(dim=1).sum())
        raise ContractError(f"the logits of {bad} of {count} images are NaN or infinite")


def _check_mates(model: nn.Module, images: Tensor, logits: Tensor, run: Run) -> None:
    """A prediction must not depend on the other images of its batch."""
    some = images[:MATES_CHECKED]
    again = torch.cat([predict(model, part, run) for part in some.flip(0).split(5)]).flip(0)
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
