"""The fork server of a session."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from benchmark import session as module
from benchmark.session import Session


def test_threads_that_need_the_server_at_once_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the slots of a node do: a second server would take memory, and nobody would end it."""
    closed = []

    class Slow:
        def __init__(self, **_: Any) -> None:
            time.sleep(0.1)

        def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr(module, "ForkServer", Slow)
    with Session() as session, ThreadPoolExecutor(4) as pool:
        servers = set(pool.map(lambda _: session.server, range(4)))
    assert set(closed) == servers
    assert len(servers) == 1
