"""A server on 127.0.0.1 that behaves as badly as one is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """A file, and how it is served.

    Attributes:
        data: its bytes; ``tag``: its ETag.
        ranges: whether parts are served. ``cut``: bytes after which each answer is cut off, once
            for each entry. ``statuses``: errors to answer first. ``length``: what Content-Length
            says, if not the truth. ``leads_to``: a redirect.
    """

    data: bytes = b""
    tag: str = '"one"'
    kind: str = "application/zip"
    ranges: bool = True
    cut: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    length: int | None = None
    leads_to: str | None = None
    requests: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Site:
    """Files by path, and the address of the server."""

    address: str
    files: dict[str, Served]


@contextmanager
def serve(**files: Served) -> Iterator[Site]:
    """Serve files under their names until the block ends."""
    contents = dict(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served = contents.get(self.path.strip("/").partition("?")[0])
            if served is None:
                self.send_error(404)
                return
            served.requests.append(dict(self.headers))
            if served.statuses:
                self.send_error(served.statuses.pop(0))
                return
            if served.leads_to is not None:
                self.send_response(302)
                self.send_header("Location", served.leads_to)
                self.end_headers()
                return
            self._send(served)

        def _send(self, served: Served) -> None:
            start, asked = 0, self.headers.get("Range")
            if served.ranges and asked and self.headers.get("If-Range") == served.tag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start > len(served.data):
                self.send_error(416)
                return
            body = served.data[start:]
            self.send_response(206 if start else 200)
            if start:
                last = len(served.data) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(served.data)}")
            self.send_header("ETag", served.tag)
            self.send_header("Content-Type", served.kind)
            length = len(body) if served.length is None else served.length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body[: served.cut.pop(0)] if served.cut else body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Site(f"http://127.0.0.1:{server.server_port}", contents)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
