"""Checkpoints of a long training, so that one that is killed goes on to the very same bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import DataError
from benchmark.failpoints import reach
from benchmark.files import digest_file, read_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from benchmark.method import Run

RECORD_FILE = "checkpoint.json"
MAX_RECORD_BYTES = 4 << 20
SECONDS = 60.0  # between two checkpoints


def checkpoint_step(folder: Path, key: str) -> int:
    """The step that a training can go on from; 0 if there is no checkpoint of it. No torch."""
    record = _record(folder, key)
    return record["step"] if record is not None else 0


class Checkpoints:
    """Keeps the last checkpoint of one training in a folder, and brings it back.

    What is kept: weights and buffers, the optimizer's momentum, the step, the training log, and
    the state of the random generators. The order of the images is not: it is drawn anew, up to
    the step, from the run's seed.

    Args:
        folder: of the checkpoint; it exists.
        key: of what is trained: a checkpoint of anything else is not used.
        model: what is trained.
        run: its streams and its log.
        seconds: between two checkpoints; they change no byte of the result.
    """

    def __init__(
        self, folder: Path, key: str, model: nn.Module, run: Run, seconds: float = SECONDS
    ) -> None:
        self._folder, self._key, self._model, self._run = folder, key, model, run
        self._seconds, self._last = seconds, time.monotonic()
        # Read at once: whoever trains may not be able to read files later.
        self._found = self._read()

    def restore(self, optimizer: torch.optim.Optimizer) -> int:
        """Bring back the checkpoint, if there is one; return the number of steps done."""
        if self._found is None:
            return 0
        import torch

        record, state = self._found
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
        self._run.stream("augmentation").set_state(state["random.augmentation"])
        self._run.history[:] = record["history"]
        return int(record["step"])

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Keep a checkpoint if the last one is old enough."""
        if time.monotonic() - self._last < self._seconds:
            return
        import safetensors.torch
        import torch

        state = {f"model.{name}": value for name, value in self._model.state_dict().items()}
        for index, parameter in enumerate(_parameters(optimizer)):
            if (momentum := optimizer.state[parameter].get("momentum_buffer")) is not None:
                state[f"momentum.{index}"] = momentum
        state["random.global"] = torch.get_rng_state()
        state["random.augmentation"] = self._run.stream("augmentation").get_state()
        data = safetensors.torch.save(
            {name: value.detach().cpu().contiguous() for name, value in state.items()}
        )
        path = self._folder / f"step-{step}.safetensors"
        _write(path, data)
        record = {"key": self._key, "step": step, "file": path.name,
                  "sha256": digest_file(path), "history": self._run.history}  # fmt: skip
        _write(self._folder / RECORD_FILE, json.dumps(record).encode())
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


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, by calls that a locked child is left with (it may not change modes)."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    reach("checkpoint-written")
    temporary.replace(path)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _record(folder: Path, key: str) -> dict[str, Any] | None:
    """The record of a whole checkpoint of that training, or None."""
    try:
        record = read_json(folder / RECORD_FILE, MAX_RECORD_BYTES, DataError)
        path = folder / Path(record["file"]).name
        whole = record["key"] == key and digest_file(path) == record["sha256"]
        return record if whole and type(record["step"]) is int else None
    except (DataError, OSError, KeyError, TypeError):
        return None
