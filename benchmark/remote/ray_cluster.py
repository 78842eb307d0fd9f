"""Nodes of a Ray cluster. Ray only carries the calls: it is the extra ``ray``.

An actor on each node, or on each of its GPUs, has a :class:`Node`, which starts a worker process.
The Ray worker itself is neither forked nor locked.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

from benchmark.errors import HTBenchError, RunError, UsageError
from benchmark.remote.executor import NodeLostError
from benchmark.remote.node import Node

AUTH_MODE = "RAY_AUTH_MODE"
LOOK_SECONDS = 0.5  # between two looks of a call at whether the connection closes
CLOSE_SECONDS = 10.0  # that calls have to end


class Connection:
    """The calls of a process to a cluster, which end before the connection does.

    Ray ends a process, or waits for ever, if a thread uses a connection that another one closes.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0
        self.is_closing = False

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Count a call while it lasts; it asks :meth:`check` now and then.

        Raises:
            NodeLostError: the connection closes.
        """
        with self._changed:
            self.check()
            self._calls += 1
        try:
            yield
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    def check(self) -> None:
        """End a call that waits.

        Raises:
            NodeLostError: the connection closes.
        """
        if self.is_closing:
            raise NodeLostError("the connection to the cluster is closed")

    def close(self) -> None:
        """Let no more calls begin, and wait for those that have."""
        with self._changed:
            self.is_closing = True
            self._changed.wait_for(lambda: self._calls == 0, CLOSE_SECONDS)


class RayNode:
    """A node of a Ray cluster.

    Attributes:
        name: its host, and the beginning of its Ray id.
        slots: how many chains it carries out at a time.
    """

    def __init__(
        self,
        node: dict[str, Any],
        slots: int,
        resources: dict[str, float],
        connection: Connection,
    ) -> None:
        """Start an actor on a node.

        Args:
            node: as ``ray.nodes()`` describes it.
            slots: how many chains it carries out at a time.
            resources: what the actor reserves.
            connection: to the cluster.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.name = f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})"
        self.slots = slots
        self._connection = connection
        affinity = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = {"scheduling_strategy": affinity, "max_concurrency": 4 * slots + 8, **resources}
        self._actor = ray.remote(Node).options(**options).remote()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the node, see :class:`benchmark.remote.executor.RemoteNode`."""
        import ray
        from ray.exceptions import RayActorError, RayError, RayTaskError

        try:
            with self._connection.call():
                result = getattr(self._actor, method).remote(*arguments)
                while not ray.wait([result], timeout=LOOK_SECONDS)[0]:
                    self._connection.check()
                return ray.get(result)
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

    def __init__(self, connection: Connection, device: str, jobs: int | None) -> None:
        """Use every node, and those that join later.

        Args:
            connection: to the cluster.
            device: ``cpu`` or ``cuda``; nodes without a GPU are not used for the latter.
            jobs: chains at a time on each node, or on each GPU; None for one per core, or one.
        """
        self._connection, self._device, self._jobs = connection, device, jobs
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
                    of_gpu = {"num_gpus": 1.0, "num_cpus": 0.0}
                    yield RayNode(node, self._jobs or 1, of_gpu, self._connection)
            elif cores := int(resources.get("CPU", 0)):
                yield RayNode(node, self._jobs or cores, {"num_cpus": cores}, self._connection)


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
def connected(address: str) -> Iterator[Connection]:
    """Connect this process to a cluster, and close the connection after the last call.

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
    connection = Connection()
    try:
        yield connection
    finally:
        try:
            connection.close()
        finally:
            ray.shutdown()
