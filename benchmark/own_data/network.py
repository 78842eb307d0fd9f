"""Try the network of a new manifest before any image is read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from benchmark.manifest.manifest import Manifest
from benchmark.networks.names import parse_network
from benchmark.own_data.recipe import OWN_MODEL, network_settings
from benchmark.session import Session


def check_network(network: str) -> None:
    """Have a child process build a network and take a step, as runs of the manifest would.

    Args:
        network: as ``--model`` takes it.

    Raises:
        UsageError: it does not exist, or cannot be used here.
    """
    settings = network_settings(parse_network(network, OWN_MODEL), 1, 1)
    document = {"name": "new", "version": "0", "classes": ["a", "b"], **settings}
    stub = Manifest(Path(), document | {"model": OWN_MODEL}, pa.table({}))
    with Session() as session:
        session.with_network(stub, network)
