"""Try a network before any time is spent on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import UsageError
from benchmark.isolation.conversation import reason_of, request
from benchmark.jobs import NetworkJob, network_of, new_scratch, setup_of
from benchmark.networks.names import network_label

if TYPE_CHECKING:
    from benchmark.isolation.client import ForkServer
    from benchmark.manifest.manifest import Manifest


# What torch says of an operation under torch.use_deterministic_algorithms.
_NO_KERNEL = re.compile(r"(\w+) does not have a deterministic implementation")


@dataclass(frozen=True)
class NetworkTimes:
    """Seconds of one step of training with the recipe's batch, and of predicting one image."""

    step: float
    image: float


def time_network(
    server: ForkServer, manifest: Manifest, device: str, folder: Path
) -> NetworkTimes | None:
    """Have a child time the network of a manifest on random images; None if that fails."""
    setup = setup_of(manifest, device)
    job = NetworkJob(new_scratch(folder), setup, network_of(manifest), timed=True)
    done = request(server, job, folder).get("done")
    if not isinstance(done, dict):
        return None
    return NetworkTimes(done["step_seconds"], done["image_seconds"])


def try_network(server: ForkServer, manifest: Manifest, device: str, folder: Path) -> None:
    """Have a child build the network of a manifest and train it on images of its size.

    Raises:
        UsageError: it is unknown, has no linear head, or cannot be trained on such images; on a
            GPU, also if it would not give the same bytes twice.
    """
    setup = setup_of(manifest, device)
    job = NetworkJob(new_scratch(folder), setup, network_of(manifest))
    reply = request(server, job, folder)
    if "failed" in reply:
        label = network_label(manifest.model)
        where = f"network {label}" if manifest.other_model is None else f"--model {label}"
        message = reason_of(reply["failed"]).removeprefix("[model] ")
        if kernel := _NO_KERNEL.search(message):
            message = (
                f"{kernel[1]} has no deterministic CUDA kernel, so a run of this network could not "
                "be repeated; choose another network, or use --device cpu"
            )
        raise UsageError(f"{where}: {message}")
