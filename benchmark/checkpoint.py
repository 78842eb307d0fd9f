"""Checkpoints of a training run: a resumed run gives the same bytes as an uninterrupted one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import DataError
from benchmark.failpoints import reach
from benchmark.files import atomic_path, digest_file, read_sealed, seal

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from benchmark.method import Run

RECORD_FILE = "checkpoint.json"
MAX_RECORD_BYTES = 4 << 20
SECONDS = 60.0  # between two checkpoints


def checkpoint_step(folder: Path, key: str) -> int:
    """Return the step at which a training can resume, 0 without a checkpoint. Imports no torch."""
    record = _record(folder, key)
    return record["step"] if record is not None else 0


class Checkpoints:
    """Saves the latest checkpoint of a training run to a folder and restores it.

    A checkpoint holds the weights and buffers, the optimizer's momentum, the step, the training
    log and the states of the random generators. It does not hold the order of the images, which
    follows from the run's seed and the step.

    Args:
        folder: an existing folder for the checkpoint.
        key: identifies the training; a checkpoint with another key is ignored.
        model: the model that is trained.
        run: provides the random streams and the training log.
        seconds: time between two checkpoints; it does not change the result.
    """

    def __init__(
        self, folder: Path, key: str, model: nn.Module, run: Run, seconds: float = SECONDS
    ) -> None:
        self._folder, self._key, self._model, self._run = folder, key, model, run
        self._seconds, self._last = seconds, time.monotonic()
        # Read now: a sandboxed process may not be able to read files later.
        self._saved = self._read()

    def restore(self, optimizer: torch.optim.Optimizer) -> int:
        """Restore the checkpoint, if there is one; return the number of completed steps."""
        if self._saved is None:
            return 0
        import torch

        record, state = self._saved
        weights = {
            name.removeprefix("model."): value
            for name, value in state.items()
            if name.startswith("model.")
        }
        self._model.load_state_dict(weights)
        for index, parameter in enumerate(_parameters(optimizer)):
            if (momentum := state.get(f"momentum.{index}")) is not None:
                buffer = momentum.to(parameter.device).clone(memory_format=torch.preserve_format)
                optimizer.state[parameter]["momentum_buffer"] = buffer
        torch.set_rng_state(state["random.global"])
        if self._run.device.type == "cuda":
            torch.cuda.set_rng_state(state["random.cuda"], self._run.device)
        self._run.stream("augmentation").set_state(state["random.augmentation"])
        self._run.history[:] = record["history"]
        return int(record["step"])

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Save a checkpoint if the last one is old enough."""
        if time.monotonic() - self._last < self._seconds:
            return
        import safetensors.torch
        import torch

        state = {f"model.{name}": value for name, value in self._model.state_dict().items()}
        for index, parameter in enumerate(_parameters(optimizer)):
            if (momentum := optimizer.state[parameter].get("momentum_buffer")) is not None:
                state[f"momentum.{index}"] = momentum
        state["random.global"] = torch.get_rng_state()
        if self._run.device.type == "cuda":  # dropout draws there
            state["random.cuda"] = torch.cuda.get_rng_state(self._run.device)
        state["random.augmentation"] = self._run.stream("augmentation").get_state()
        data = safetensors.torch.save(
            {name: value.detach().cpu().contiguous() for name, value in state.items()}
        )
        path = self._folder / f"step-{step}.safetensors"
        _write(path, data)
        record = {
            "key": self._key,
            "step": step,
            "file": path.name,
            "digest": digest_file(path),
            "history": self._run.history,
        }
        _write(self._folder / RECORD_FILE, seal(record))
        for old in self._folder.glob("step-*.safetensors"):
            if old != path:
                old.unlink()
        self._last = time.monotonic()

    def _read(self) -> tuple[Mapping[str, Any], dict[str, Tensor]] | None:
        record = _record(self._folder, self._key)
        if record is None:
            return None
        import safetensors.torch

        return record, safetensors.torch.load_file(self._folder / Path(record["file"]).name)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _record(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the record of a complete checkpoint of that training, or None."""
    try:
        record = read_sealed(folder / RECORD_FILE, MAX_RECORD_BYTES, DataError)
        path = folder / Path(record["file"]).name
        valid = record["key"] == key and digest_file(path) == record["digest"]
        return record if valid and type(record["step"]) is int else None
    except (DataError, OSError, KeyError, TypeError):
        return None


def _write(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
        reach("checkpoint-written")
