"""Weights from outside, read in a locked child: initial weights and imported source models.

A state dict of torch is a pickle. It is loaded with ``weights_only=True``, and only here, in a
process that has locked itself in first: the driver never opens one.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn

from benchmark.errors import ManifestError
from benchmark.models import (
    all_finite,
    difference,
    is_timm,
    last_layer,
    library_network,
    own_names,
)
from benchmark.models import weights_of as state_of
from benchmark.networks import TIMM

if TYPE_CHECKING:
    from benchmark.runs.child import _Job

COUNTER = "num_batches_tracked"  # of BatchNorm; files older than torch 0.4.1 lack it


def try_network(job: _Job) -> dict[str, Any]:
    """Build a network and take one step of training on two black images, as a run would.

    What it cannot take is an error here, and not after minutes of work.
    """
    from benchmark.runs import child

    settings, run = job.settings, child._start(job)
    size, model, table = settings["input_size"], child._build(settings), settings["model"]
    if table.get("weights") is not None:
        _address_of(table)
        last_layer(library_network(table, size), table)
    job.lock()
    model = model.to(run.device).train()
    images = torch.zeros(2, 3, size, size, device=run.device)
    try:
        logits = model(images)
        logits.sum().backward()
    except Exception as error:
        words = str(error).partition("\n")[0]
        raise child.ContractError(
            f"it does not train on images of {size} x {size} pixels; choose another ({words})"
        ) from None
    if logits.shape != (2, len(settings["classes"])):
        raise child.ContractError(f"it gives logits of shape {tuple(logits.shape)} for two images")
    return {}


def find_address(job: _Job) -> dict[str, Any]:
    """Where a library has the initial weights that the manifest's ``[model]`` names."""
    address = _address_of(job.settings["model"])
    job.lock()
    return {"address": address}


def _address_of(model: Mapping[str, Any]) -> str:
    if is_timm(model["name"]):
        return _address_of_timm(model)
    from torchvision import models

    known = {str(weights): weights for weights in models.get_model_weights(model["name"])}
    if model["weights"] not in known:
        raise _no_weights(model, known)
    return str(known[model["weights"]].url)


def _address_of_timm(model: Mapping[str, Any]) -> str:
    """The hub's file of safetensors: timm's own addresses lead to pickles, or nowhere."""
    import timm
    from huggingface_hub import hf_hub_url

    known = timm.list_pretrained(f"{model['name'].removeprefix(TIMM)}.*")
    if model["weights"] not in known:
        raise _no_weights(model, known)
    config: Any = timm.models.get_pretrained_cfg(model["weights"])
    return hf_hub_url(config.hf_hub_id, "model.safetensors")


def _no_weights(model: Mapping[str, Any], known: Iterable[str]) -> ManifestError:
    return ManifestError(
        f"[model] {model['name']} has no weights {model['weights']!r}; known: "
        f"{', '.join(known) or 'none'}"
    )


def read_initial(job: _Job) -> dict[str, Any]:
    """Read initial weights in either format; answer them as safetensors, a canonical form."""
    from benchmark.runs import child

    data = Path(job.settings["file"]).read_bytes()
    network = library_network(job.settings["model"], job.settings["input_size"])
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
    model = child._build(settings)
    job.lock()
    job.tell(started=True)
    _put(own_names(_read(data), settings["model"], settings["input_size"]), model)
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
