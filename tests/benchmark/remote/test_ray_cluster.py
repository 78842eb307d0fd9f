"""The connection to a Ray cluster; tests/end_to_end/test_ray.py has the calls themselves."""

from __future__ import annotations

import threading
import time

import pytest

from benchmark.remote import ray_cluster
from benchmark.remote.executor import NodeLostError
from benchmark.remote.ray_cluster import Connection


def test_a_connection_closes_after_the_calls_that_have_begun() -> None:
    connection, begun, events = Connection(), threading.Event(), []

    def call() -> None:
        with connection.call():
            begun.set()
            while not connection.is_closing:
                time.sleep(0.001)
            time.sleep(0.05)
            events.append("the call has ended")

    thread = threading.Thread(target=call)
    thread.start()
    begun.wait()
    connection.close()
    events.append("the connection is closed")
    thread.join()
    assert events == ["the call has ended", "the connection is closed"]
    with pytest.raises(NodeLostError, match="connection to the cluster is closed"):
        connection.call().__enter__()


def test_a_call_that_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "CLOSE_SECONDS", 0.05)
    connection = Connection()
    with connection.call():
        connection.close()
    assert connection.is_closing
