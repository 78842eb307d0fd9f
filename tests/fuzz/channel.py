"""What a child says to its parent."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.target import Read, Target


def _wire(folder: Path) -> Read:
    from benchmark.isolation import wire

    def read(data: bytes) -> object:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            sent = theirs.send(data[:100_000]) if data else 0
            theirs.shutdown(socket.SHUT_WR)
            ours.settimeout(5)
            messages = []
            while (received := wire.receive(ours, limit=1 << 20)) is not None:
                messages.append(received)
            return sent, messages

    return read


def _frame(message: object) -> bytes:
    body = json.dumps(message).encode()
    return len(body).to_bytes(4, "big") + body


def _wire_seeds() -> list[bytes]:
    return [_frame({"locked": ["a"]}) + _frame({"progress": [1, 2]}), _frame({})]


def _conversation(folder: Path) -> Read:
    """What a child says after it was locked, from its first word to its last."""
    from benchmark.isolation.answers import HandOut
    from benchmark.isolation.conversation import no_progress, run_job
    from benchmark.jobs import ImageFormat, ImportJob, Network, Setup
    from tests.benchmark.isolation.scripted import FakeServer, Script

    class Images:
        size = 1

        def __len__(self) -> int:
            return 4

        def read(self, index: int) -> bytes:
            return b"image"

    job = ImportJob(
        str(folder), Setup("cpu", 0, {}, {}), Network({}, (), 1), ImageFormat(1, "raw"), "f"
    )
    hand_out = HandOut(Images(), [[3, 0], [1, 2], [0, 1]], 3)

    def read(data: bytes) -> object:
        def say(script: Script) -> None:
            script.channel.sendall(data)
            script.channel.shutdown(socket.SHUT_WR)
            script.channel.settimeout(0.05)
            while script.channel.recv(1 << 16):
                pass

        server: Any = FakeServer(say)
        outcome = run_job(server, job, hand_out, folder, no_progress, weights_limit=1 << 20)
        return json.dumps([outcome.error, outcome.notes, outcome.cost, outcome.environment])

    return read


def _conversation_seeds() -> list[bytes]:
    rows = np.zeros((2, 3), np.float32).tobytes()
    begin = _frame({"locked": ["seccomp"], "environment": {"torch": "2.6", "device": "cpu"}})
    notes = {
        "log": [{"step": 1, "loss": 0.5}],
        "notes": ["a"],
        "counted_steps": 4,
        "total_steps": 4,
    }
    adapted = _frame({"progress": [1, 4]}) + _frame({"adapted": notes, "weights": 5}) + b"12345"
    answers = 3 * (_frame({"rows": len(rows)}) + rows)
    done = _frame({"done": {"device_peak_memory": 5, "total_steps": 4}})
    failed = _frame({"failed": {"kind": "died", "message": "x", "traceback": "y"}})
    return [begin + adapted + answers + done, begin + failed]


TARGETS: Mapping[str, Target] = {
    "wire": Target(_wire, _wire_seeds),
    "conversation": Target(_conversation, _conversation_seeds),
}
