"""Messages between the driver, the fork server and the children: framed JSON and descriptors.

Nothing here unpickles: a child has run untrusted code, so its messages are bounded, plain JSON.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.errors import RunError

MAX_MESSAGE_BYTES = 16 << 20
MAX_DESCRIPTORS = 64
_HEADER = struct.Struct("!I")


def send(channel: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message, with open descriptors if any."""
    body = json.dumps(message, allow_nan=False).encode()
    socket.send_fds(channel, [_HEADER.pack(len(body))], list(fds))
    channel.sendall(body)


def receive(
    channel: socket.socket, limit: int = MAX_MESSAGE_BYTES
) -> tuple[dict[str, Any], list[int]] | None:
    """Receive one message and its descriptors, or None at the end of the stream.

    Raises:
        RunError: the message is too long, truncated, or not a JSON object.
        TimeoutError: the channel has a timeout and nothing arrived within it.
    """
    header, fds, _, _ = socket.recv_fds(channel, _HEADER.size, MAX_DESCRIPTORS)
    if not header:
        return None
    try:
        header += _exactly(channel, _HEADER.size - len(header))
        (length,) = _HEADER.unpack(header)
        if length > limit:
            raise RunError(f"a message has {length} bytes; the limit is {limit}")
        message = json.loads(_exactly(channel, length), parse_constant=_refuse)
        if not isinstance(message, dict):
            raise RunError("a message is not a JSON object")
    except BaseException as error:
        for fd in fds:
            os.close(fd)
        if not isinstance(error, RunError | ValueError | RecursionError):
            raise
        raise RunError(f"unreadable message: {error}") from None
    return message, fds


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


def _exactly(channel: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = channel.recv(min(count, 1 << 20))
        if not part:
            raise RunError("the message is truncated")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
