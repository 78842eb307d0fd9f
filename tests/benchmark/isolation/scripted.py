"""A child that is a script: what the driver makes of anything that a child may send."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import RunError
from benchmark.isolation import wire
from benchmark.isolation.client import Child, Exit, Limits
from benchmark.isolation.facts import FULL_ISOLATION
from benchmark.jobs import Job

SHAPE = (4, 3)  # of the rows for four images, which come in batches of two
FACTS = list(FULL_ISOLATION)
HUGE = 10**400


class Script:
    """What a hostile child does at its end of the channel, from a thread."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel

    def say(self, data: bytes = b"", **message: Any) -> None:
        self.raw(json.dumps(message).encode())
        with contextlib.suppress(OSError):
            self.channel.sendall(data)

    def raw(self, body: bytes, length: int | None = None, fds: tuple[int, ...] = ()) -> None:
        header = struct.pack("!I", len(body) if length is None else length)
        with contextlib.suppress(OSError):
            socket.send_fds(self.channel, [header], fds)
            self.channel.sendall(body)

    def begin(self) -> None:
        """As the harness's own code does."""
        self.say(locked=FACTS)

    def adapt(self, *, weights: bytes = b"", **notes: Any) -> None:
        """Say that it has adapted."""
        self.say(weights, adapted=notes, weights=len(weights))

    def batch(self) -> bytes:
        """The images of the next batch; empty after the last."""
        received = wire.receive(self.channel)
        if received is None:
            raise RunError("the driver has ended the conversation")
        message, descriptors = received
        assert descriptors == []
        assert message.keys() == {"images"}
        return bytes(wire.receive_data(self.channel, sum(message["images"])))

    def early_byte(self) -> bytes | None:
        """What the driver sends before it is asked to; None if it waits."""
        self.channel.settimeout(0.3)
        try:
            return self.channel.recv(1)
        except TimeoutError:
            return None

    def rows(self, data: bytes) -> None:
        """Answer a batch."""
        self.say(data, rows=len(data))

    def answer(self, data: bytes | None = None, **facts: Any) -> None:
        """The whole of an answer."""
        self.begin()
        self.adapt()
        while self.batch():
            self.rows(np.zeros((2, SHAPE[1]), np.float32).tobytes() if data is None else data)
        self.say(done=facts)


class FakeServer:
    """A fork server whose one child is a script. It dies when its channel is closed."""

    def __init__(self, script: Callable[[Script], object], *, required: tuple[str, ...] = ()):
        self.script, self.required = script, frozenset(required)
        self.alive, self.limits = True, Limits()
        self.exits: dict[int, Future[Exit]] = {1: Future()}
        self.pids: dict[int, int] = {}
        self.killed = 0

    @contextlib.contextmanager
    def start(self, job: Job, output: int) -> Iterator[Child]:
        ours, theirs = socket.socketpair()

        def play() -> None:
            with theirs:
                theirs.settimeout(10)
                with contextlib.suppress(OSError, RunError):
                    self.script(Script(theirs))
            self.end(Exit(0, None, 1))

        thread = threading.Thread(target=play)
        thread.start()
        with Child(self, 1, ours, Path(job.scratch), output, self.limits) as child:  # type: ignore[arg-type]
            yield child
        thread.join()

    def end(self, how: Exit) -> None:
        with contextlib.suppress(Exception):
            self.exits[1].set_result(how)

    def kill(self, job: int) -> None:
        self.killed += 1
        self.end(Exit(None, signal.SIGKILL, 1))

    def forget(self, job: int) -> None:
        pass
