"""Nodes of a Ray cluster. Ray only carries the calls: it is the extra ``ray``.

An actor on each node, or on each of its GPUs, has a :class:`Node`, which starts a worker process.
The Ray worker itself is neither forked nor locked.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from typing import Any

from benchmark.errors import HTBenchError, RunError, UsageError
from benchmark.remote.executor import NodeLostError
from benchmark.remote.node import Node

AUTH_MODE = "RAY_AUTH_MODE"


class RayNode:
    """A node of a Ray cluster.

    Attributes:
        name: its host, and the beginning of its Ray id.
        slots: how many chains it carries out at a time.
    """

    def __init__(self, node: dict[str, Any], slots: int, resources: dict[str, float]) -> None:
        """Start an actor on a node.

        Args:
            node: as ``ray.nodes()`` describes it.
            slots: how many chains it carries out at a time.
            resources: what the actor reserves.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.name = f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})"
        self.slots = slots
        affinity = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = {"scheduling_strategy": affinity, "max_concurrency": 4 * slots + 8, **resources}
        self._actor = ray.remote(Node).options(**options).remote()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the node, see :class:`benchmark.remote.executor.RemoteNode`."""
        import ray
        from ray.exceptions import RayActorError, RayError, RayTaskError

        try:
            return ray.get(getattr(self._actor, method).remote(*arguments))
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, HTBenchError | OSError):
                raise RunError(str(cause)) from None
            raise
        except RayActorError as error:
            raise NodeLostError(str(error).partition("\n")[0]) from None
        except RayError as error:
            raise NodeLostError(str(error).partition("\n")[0]) from None


class RayCluster:
    """The nodes of a cluster that this process is connected to."""

    def __init__(self, device: str, jobs: int | None) -> None:
        """Use every node, and those that join later.

        Args:
            device: ``cpu`` or ``cuda``; nodes without a GPU are not used for the latter.
            jobs: chains at a time on each node, or on each GPU; None for one per core, or one.
        """
        self._device, self._jobs = device, jobs
        self._known: set[str] = set()

    def joined(self) -> Iterator[RayNode]:
        """The nodes that have joined since the last call; several for one with several GPUs."""
        import ray

        for node in ray.nodes():
            if not node["Alive"] or node["NodeID"] in self._known:
                continue
            self._known.add(node["NodeID"])
            resources = node["Resources"]
            if self._device == "cuda":
                for _ in range(int(resources.get("GPU", 0))):
                    yield RayNode(node, self._jobs or 1, {"num_gpus": 1, "num_cpus": 0})
            elif cores := int(resources.get("CPU", 0)):
                yield RayNode(node, self._jobs or cores, {"num_cpus": cores})


def require_ray() -> None:
    """Check what a connection needs, before images are read and source models are trained.

    Raises:
        UsageError: Ray is not installed, or its authentication is turned off.
    """
    # Otherwise anybody who reaches the port of a cluster can run programs on its machines.
    mode = os.environ.setdefault(AUTH_MODE, "token")
    if mode != "token":
        raise UsageError(
            f"{AUTH_MODE}={mode[:100]} turns off the authentication of Ray, so anybody who reaches "
            f"the cluster can run programs on it; set {AUTH_MODE}=token here and on every machine"
        )
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "Ray is not installed; install it with: pip install 'holistic-transfer-bench[ray]'"
        )


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect this process to a cluster.

    Args:
        address: ``HOST:PORT`` of its head node, or ``auto`` on one of its machines.

    Raises:
        UsageError: see :func:`require_ray`; or the cluster does not answer or does not know the
            token.
    """
    require_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Otherwise a thread that calls a node after the end starts a cluster on this machine.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of Ray, of gRPC and of the system
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"cannot connect to the Ray cluster at {address}: {reason}; check the address, and "
            f"that all machines have {AUTH_MODE}=token and the same token (ray get-auth-token)"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
