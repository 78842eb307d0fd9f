"""The entry of a child: read one job, do it, send the answer.

A job is one JSON message (see ``benchmark/jobs.py``). The child opens what it may read before any
method's code is imported, and answers in JSON; arrays follow the messages that announce them.
The fork server forks it and calls :func:`main`.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Creating the first optimizer imports it, which takes a second: do it once, before a fork.
import torch._dynamo  # noqa: F401

from benchmark.child import data, plugin, run, source, weights
from benchmark.child.job import ContractError, Worker, failure
from benchmark.failpoints import reach
from benchmark.isolation import wire
from benchmark.isolation.sandbox import Sandbox
from benchmark.jobs import read_job
from benchmark.networks.names import library_module

# Each takes a Worker and its own kind of job, and returns facts for the driver.
_WORK: Mapping[str, Callable[[Worker, Any], dict[str, Any]]] = {
    "address": weights.find_address,
    "configure": plugin.configure,
    "describe": plugin.describe,
    "features": source.extract_features,
    "import": weights.import_source,
    "initial": weights.convert_pretrained,
    "network": weights.try_network,
    "run": run.adapt_and_predict,
    "source": source.train_source,
}


def prepare(network: Mapping[str, Any]) -> None:
    """In the fork server: import a network's library, and build the network if children load it.

    The first takes a second, the second 20 ms for MobileNetV2.

    Args:
        network: ``model``, the manifest's table; ``classes``, their number; ``size`` of the
            input in pixels; ``is_built``, whether children load weights into it.
    """
    if library := library_module(network["model"]):
        importlib.import_module(library)
    if network["is_built"]:
        data.prepare_model(network["model"], network["classes"], network["size"])


def main(channel: socket.socket, sandbox: Sandbox) -> None:
    """Do the one job that arrives over the channel and answer it.

    Args:
        channel: to the driver.
        sandbox: what the process enters before any code of a method is imported.
    """
    received = wire.receive(channel)
    if received is None:
        return
    reach("job-received")
    answer: dict[str, Any]
    try:
        job, file_limit = read_job(received[0])
        worker = Worker(channel, sandbox, Path(job.scratch), file_limit)
        answer = {"done": _WORK[job.kind](worker, job)}
    except SystemExit as error:
        answer = {"failed": failure(_exited(error))}
    except Exception as error:
        answer = {"failed": failure(error)}
    wire.send(channel, answer)


def _exited(error: SystemExit) -> ContractError:
    """What a call of ``sys.exit`` in a method's code means."""
    code = repr(error.code) if isinstance(error.code, int | str) else ""
    return ContractError(
        f"sys.exit({code}) was called; raise an exception instead, or htbench.NotApplicable "
        "if the method does not apply"
    )
