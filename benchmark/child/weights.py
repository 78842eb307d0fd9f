"""Convert weights from outside: pretrained weights, and source models that were trained elsewhere.

A state dict of torch is a pickle. It is loaded with ``weights_only=True``, and only here, in a
process that has entered its sandbox: the driver never opens one.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from benchmark.child.job import ContractError, Worker, build_network
from benchmark.child.predict import predict_tests
from benchmark.errors import ManifestError
from benchmark.files import is_safetensors
from benchmark.jobs import AddressJob, ImportJob, NetworkJob, PretrainedJob
from benchmark.method import Run
from benchmark.networks.build import (
    all_finite,
    difference,
    is_timm,
    last_layer,
    library_network,
    own_names,
    weights_of,
)
from benchmark.networks.names import TIMM

FEW_IMAGES = 4  # timed first
LONG_STEP = 0.5  # seconds of a step with the whole batch, from which on a few images are enough
COUNTER = "num_batches_tracked"  # of BatchNorm; absent in files older than torch 0.4.1


def try_network(worker: Worker, job: NetworkJob) -> dict[str, Any]:
    """Build a network and take one step of training on two black images, as a run would.

    Returns:
        If the job is timed, ``step_seconds`` of a step with the recipe's batch of random images,
        and ``image_seconds`` of predicting one image; otherwise nothing.

    Raises:
        ContractError: it cannot be trained on images of this size.
    """
    network, run = job.network, worker.start_run(job.setup)
    size, table = network.input_size, network.model
    model = build_network(network)
    if table.get("weights") is not None:
        _address_of(table)
        last_layer(library_network(table, size), table)
    worker.enter_sandbox(device=run.device)
    model = model.to(run.device).train()
    images = torch.zeros(2, 3, size, size, device=run.device)
    try:
        logits = model(images)
        logits.sum().backward()
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ContractError(
            f"this network cannot be trained on images of {size} x {size} pixels ({reason}); "
            "choose another network"
        ) from None
    if logits.shape != (2, len(network.classes)):
        raise ContractError(
            f"this network returns logits of shape {tuple(logits.shape)} for 2 images instead of "
            f"(2, {len(network.classes)}); choose another network"
        )
    return _time(model, run, size) if job.timed else {}


def _time(model: nn.Module, run: Run, size: int) -> dict[str, Any]:
    """Time a batch; on a CPU, only a few images of it where these take long already."""

    def synchronised() -> float:
        if run.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    batch, is_cuda = run.recipe.batch_size, run.device.type == "cuda"
    # On a GPU, the first batch of a size takes many times as long as those after it.
    for count in (batch if is_cuda else min(FEW_IMAGES, batch), batch):
        images = torch.rand(count, 3, size, size, device=run.device)
        start = synchronised()
        model(images).logsumexp(1).mean().backward()
        trained = synchronised()
        if not is_cuda and (trained - start) * batch / count > LONG_STEP:
            break
    with torch.inference_mode():
        model.eval()(images)
    return {
        "step_seconds": (trained - start) * batch / count,
        "image_seconds": (synchronised() - trained) / count,
    }


def find_address(worker: Worker, job: AddressJob) -> dict[str, Any]:
    """The address at which a library offers the weights that the manifest's ``[model]`` names."""
    address = _address_of(job.model)
    worker.enter_sandbox()
    return {"address": address}


def _address_of(model: Mapping[str, Any]) -> str:
    if is_timm(model["name"]):
        return _address_of_timm(model)
    from torchvision import models

    known = {str(weights): weights for weights in models.get_model_weights(model["name"])}
    if model["weights"] not in known:
        raise _unknown_weights(model, known)
    return str(known[model["weights"]].url)


def _address_of_timm(model: Mapping[str, Any]) -> str:
    """The hub's file of safetensors: timm's own addresses lead to pickles, or nowhere."""
    import timm
    from huggingface_hub import hf_hub_url

    known = timm.list_pretrained(f"{model['name'].removeprefix(TIMM)}.*")
    if model["weights"] not in known:
        raise _unknown_weights(model, known)
    config: Any = timm.models.get_pretrained_cfg(model["weights"])
    return hf_hub_url(config.hf_hub_id, "model.safetensors")


def _unknown_weights(model: Mapping[str, Any], known: Iterable[str]) -> ManifestError:
    return ManifestError(
        f"[model] {model['name']} has no pretrained weights {model['weights']!r}; known: "
        f"{', '.join(known) or 'none'}"
    )


def convert_pretrained(worker: Worker, job: PretrainedJob) -> dict[str, Any]:
    """Read pretrained weights in either format; write them as safetensors, a canonical form.

    Raises:
        ContractError: the file cannot be read, or does not fit the network.
    """
    data = Path(job.file).read_bytes()
    network = library_network(job.network.model, job.network.input_size)
    worker.enter_sandbox()
    _load(_read(data), network)
    worker.adapted({}, safetensors.torch.save(weights_of(network)))
    return {}


def import_source(worker: Worker, job: ImportJob) -> dict[str, Any]:
    """Read a source model in either format; write it as safetensors, and its test logits.

    Raises:
        ContractError: the file cannot be read, or does not fit the network.
    """
    data = Path(job.file).read_bytes()
    run = worker.start_run(job.setup)
    network = job.network
    model = build_network(network)
    worker.enter_sandbox(device=run.device)
    _load(own_names(_read(data), network.model, network.input_size), model)
    if not all_finite(model):
        raise ContractError("its weights contain NaN or infinite values")
    worker.adapted({}, safetensors.torch.save(weights_of(model)))
    return predict_tests(worker, model.to(run.device), job.images, len(network.classes), run)


def _read(data: bytes) -> dict[str, Tensor]:
    """Named tensors of a safetensors file, or of a state dict that torch has saved."""
    try:
        if is_safetensors(data[:9]):
            return safetensors.torch.load(data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ContractError(
            "it is neither safetensors nor a state dict that torch loads with weights_only=True "
            f"({type(error).__name__}: {reason})"
        ) from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ContractError(
            "it does not contain a state dict; save it with torch.save(model.state_dict(), FILE)"
        )
    return state


def _load(state: dict[str, Tensor], model: nn.Module) -> None:
    expected = model.state_dict()
    for name in expected:
        if name.endswith(COUNTER) and name not in state:
            state[name] = torch.zeros_like(expected[name])
    if problem := difference(expected, state):
        raise ContractError(f"it does not fit this network: {problem}")
    model.load_state_dict(state)
