"""Messages between the driver, the fork server and the children: framed JSON, descriptors, data.

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


def send(
    channel: socket.socket,
    message: Mapping[str, Any],
    fds: Sequence[int] = (),
    *,
    data: bytes = b"",
) -> None:
    """Send one message, with open descriptors and followed by data if any.

    The message must tell the receiver how many bytes of data follow.
    """
    body = json.dumps(message, allow_nan=False).encode()
    socket.send_fds(channel, [_HEADER.pack(len(body))], list(fds))
    channel.sendall(body)
    channel.sendall(data)


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
        header += receive_data(channel, _HEADER.size - len(header))
        (length,) = _HEADER.unpack(header)
        if length > limit:
            raise RunError(f"a message has {length} bytes; the limit is {limit}")
        message = json.loads(receive_data(channel, length), parse_constant=_refuse)
        if not isinstance(message, dict):
            raise RunError("a message is not a JSON object")
    except BaseException as error:
        for fd in fds:
            os.close(fd)
        if not isinstance(error, RunError | ValueError | RecursionError):
            raise
        raise RunError(f"unreadable message: {error}") from None
    return message, fds


def receive_data(channel: socket.socket, size: int) -> bytearray:
    """Receive the data after a message.

    Raises:
        RunError: the stream ends before ``size`` bytes.
    """
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = channel.recv_into(view)
        if not count:
            raise RunError("the message is truncated")
        view = view[count:]
    return data


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")
