"""The process on a node that carries out runs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from io import StringIO
from types import SimpleNamespace

import pytest

from benchmark.errors import RunError
from benchmark.remote.worker import Worker


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (RunError("no server"), "no server"),
        (KeyError("key"), "'key'"),
        (RuntimeError("can't start new thread"), "RuntimeError: can't start new thread"),
        (MemoryError(), "MemoryError: "),
    ],
)
def test_every_request_is_answered(error: Exception, answer: str, alive: bool) -> None:
    """A node waits for the answer as long as the worker lives; without a server it is of no use."""

    class Failing(Worker):
        def __init__(self, out: int) -> None:
            server = SimpleNamespace(close=lambda: None, alive=alive)
            self._plan = SimpleNamespace(session=SimpleNamespace(server=server))  # type: ignore[assignment]
            self._out, self._lock = out, threading.Lock()

        def _run(self, keys: Sequence[str]) -> Mapping[str, str]:
            raise error

    read, write = os.pipe()
    with os.fdopen(read) as answers:
        Failing(write).serve(StringIO('{"id": 7, "keys": []}\n'), 1)
        os.close(write)
        kind = "error" if alive else "ended"
        assert [json.loads(line) for line in answers] == [{"id": 7, kind: answer}]
