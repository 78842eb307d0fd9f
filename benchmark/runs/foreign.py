"""Weights from outside, read in a locked child: initial weights and imported source models.

A state dict of torch is a pickle. It is loaded with ``weights_only=True``, and only here, in a
process that has locked itself in first: the driver never opens one.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn

from benchmark.errors import ManifestError
from benchmark.models import all_finite, build, difference, own_names, torchvision_network
from benchmark.models import weights_of as state_of

if TYPE_CHECKING:
    from benchmark.runs.child import _Job

COUNTER = "num_batches_tracked"  # of BatchNorm; files older than torch 0.4.1 lack it


def find_address(job: _Job) -> dict[str, Any]:
    """Where torchvision has the initial weights that the manifest's ``[model]`` names."""
    from torchvision import models

    model = job.settings["model"]
    torchvision_network(model["name"])
    job.lock()
    known = {str(weights): weights for weights in models.get_model_weights(model["name"])}
    if model["weights"] not in known:
        raise ManifestError(
            f"[model] {model['name']} has no weights {model['weights']!r}; known: "
            f"{', '.join(known)}"
        )
    return {"address": known[model["weights"]].url}


def read_initial(job: _Job) -> dict[str, Any]:
    """Read initial weights in either format; answer them as safetensors, a canonical form."""
    from benchmark.runs import child

    data = Path(job.settings["file"]).read_bytes()
    network = torchvision_network(job.settings["model"]["name"])
    job.lock()
    job.tell(started=True)
    _put(_read(data), network)
    job.tell(adapted={})
    answer = child._receive_test(job.channel)
    child._write(answer.weights, safetensors.torch.save(state_of(network)))
    return {}


def read_source(job: _Job) -> dict[str, Any]:
    """Read a source model in either format; answer it as safetensors, and its test logits."""
    from benchmark.runs import child

    settings = job.settings
    data = Path(settings["file"]).read_bytes()
    run = child._start(job)
    model = build(settings["model"], len(settings["classes"]))
    job.lock()
    job.tell(started=True)
    _put(own_names(_read(data), settings["model"]), model)
    if not all_finite(model):
        raise child.ContractError("it holds values that are not finite")
    job.tell(adapted={})
    answer = child._receive_test(job.channel)
    child._write(answer.weights, safetensors.torch.save(state_of(model)))
    return child._predict(model.to(run.device), answer, settings, run)


def _read(data: bytes) -> dict[str, Tensor]:
    """Named tensors of a safetensors file, or of a state dict that torch has saved."""
    from benchmark.runs.child import ContractError

    try:
        if is_safetensors(data[:9]):
            return safetensors.torch.load(data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        words = str(error).partition("\n")[0]
        raise ContractError(
            f"it is neither safetensors nor a state dict that torch loads with weights_only=True "
            f"({type(error).__name__}: {words})"
        ) from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ContractError("it is no state dict of names and tensors; save model.state_dict()")
    return state


def is_safetensors(beginning: bytes) -> bool:
    """Whether a file with these first nine bytes is safetensors: a length, then JSON."""
    return beginning[8:9] == b"{"


def _put(state: dict[str, Tensor], model: nn.Module) -> None:
    from benchmark.runs.child import ContractError

    expected = model.state_dict()
    for name in expected:
        if name.endswith(COUNTER) and name not in state:
            state[name] = torch.zeros_like(expected[name])
    if problem := difference(expected, state):
        raise ContractError(f"it is not of this network: {problem}")
    model.load_state_dict(state)
