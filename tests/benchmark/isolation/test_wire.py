"""Messages between processes: framed JSON and descriptors, whatever the other end sends."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.errors import RunError
from benchmark.isolation.wire import MAX_DESCRIPTORS, MAX_MESSAGE_BYTES, receive, send

PROPERTY = settings(deadline=None, database=None, max_examples=50)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    left.settimeout(10)
    right.settimeout(10)
    with left, right:
        yield left, right


def raw(
    channel: socket.socket, body: bytes, length: int | None = None, fds: Sequence[int] = ()
) -> None:
    """Send bytes as a message, whatever they are."""
    header = struct.pack("!I", len(body) if length is None else length)
    socket.send_fds(channel, [header], list(fds))
    channel.sendall(body)


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


class TestRoundTrip:
    @PROPERTY
    @given(messages=st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=3))
    def test_messages(self, messages: list[dict[str, object]]) -> None:
        left, right = socket.socketpair()
        with left, right:
            for message in messages:
                send(left, message)
            assert [receive(right) for _ in messages] == [(m, []) for m in messages]

    def test_descriptors_are_open_files(self, pair: Pair, tmp_path: Path) -> None:
        left, right = pair
        paths = [tmp_path / name for name in "abc"]
        for path in paths:
            path.write_text(path.name)
        files = [path.open() for path in paths]
        send(left, {"n": 3}, [file.fileno() for file in files])
        for file in files:
            file.close()
        received = receive(right)
        assert received is not None
        message, fds = received
        assert message == {"n": 3}
        assert [os.read(fd, 10) for fd in fds] == [b"a", b"b", b"c"]
        for fd in fds:
            os.close(fd)

    def test_a_message_larger_than_the_socket_buffer(self, pair: Pair) -> None:
        left, right = pair
        message = {"text": "x" * 1_000_000}
        sender = threading.Thread(target=send, args=(left, message))
        sender.start()
        assert receive(right) == (message, [])
        sender.join()

    def test_the_end_of_the_stream(self, pair: Pair) -> None:
        left, right = pair
        left.close()
        assert receive(right) is None

    def test_nothing_in_time(self, pair: Pair) -> None:
        pair[1].settimeout(0.01)
        with pytest.raises(TimeoutError):
            receive(pair[1])

    def test_nan_is_not_sent(self, pair: Pair) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            send(pair[0], {"loss": float("nan")})


class TestRefused:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"", "unreadable message"),
            (b"{", "unreadable message"),
            (b"\x80\x04K\x07.", "unreadable message"),  # a pickle
            (b"[1]", "a message is not a JSON object"),
            (b"7", "a message is not a JSON object"),
            (b'{"a": ' + b"[" * 100_000, "unreadable message"),
            (b'{"a": ' + b"1" * 5000 + b"}", "unreadable message"),
            (b"\xff\xff", "unreadable message"),
        ],
        ids=["empty", "half", "pickle", "list", "number", "deep", "long number", "not text"],
    )
    def test_body(self, pair: Pair, body: bytes, message: str) -> None:
        raw(pair[0], body)
        with pytest.raises(RunError, match=message):
            receive(pair[1])

    def test_too_long_is_refused_before_it_is_read(self, pair: Pair) -> None:
        raw(pair[0], b"", length=MAX_MESSAGE_BYTES + 1)
        with pytest.raises(RunError, match="the limit is 16777216"):
            receive(pair[1])

    def test_a_limit_of_ones_own(self, pair: Pair) -> None:
        send(pair[0], {"a": 1})
        with pytest.raises(RunError, match="a message has 8 bytes; the limit is 7"):
            receive(pair[1], limit=7)

    @pytest.mark.parametrize("sent", [b"\x00", b"\x00\x00\x00", b"\x00\x00\x00\x08{"])
    def test_cut_off(self, pair: Pair, sent: bytes) -> None:
        pair[0].sendall(sent)
        pair[0].close()
        with pytest.raises(RunError, match="the message is truncated"):
            receive(pair[1])

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
    @pytest.mark.parametrize(
        ("body", "length"), [(b"[1]", None), (b"{", None), (b"", MAX_MESSAGE_BYTES + 1)]
    )
    def test_descriptors_of_a_refused_message_are_closed(
        self, pair: Pair, tmp_path: Path, body: bytes, length: int | None
    ) -> None:
        with (tmp_path / "x").open("w") as file:
            raw(pair[0], body, length, [file.fileno()])
        before = open_files()
        with pytest.raises(RunError):
            receive(pair[1])
        assert open_files() == before

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
    def test_more_descriptors_than_allowed_are_closed_by_the_kernel(
        self, pair: Pair, tmp_path: Path
    ) -> None:
        before = open_files()
        with (tmp_path / "x").open("w") as file:
            raw(pair[0], b"{}", fds=[file.fileno()] * (MAX_DESCRIPTORS + 10))
        received = receive(pair[1])
        assert received is not None
        for fd in received[1]:
            os.close(fd)
        assert len(received[1]) <= MAX_DESCRIPTORS + 1  # the kernel pads the buffer to a word
        assert open_files() == before
