"""Files over HTTP: resumed where they were cut off, checked, and there under their name or not."""

from __future__ import annotations

import hashlib
import html
import http.client
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from benchmark.errors import DataError

TIMEOUT = 60  # seconds without a byte
RETRIES = 4  # in a row that bring nothing
PAUSE = 1.0  # seconds before the first retry, then doubled
PIECE = 1 << 20
MAX_BYTES = 64 << 30  # of a file whose size nobody has published
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)

Progress = Callable[[int, int], None]
Tell = Callable[[str], None]


class _SameOrSafer(urllib.request.HTTPRedirectHandler):
    """Follows redirects as urllib does (ten at most), but never from https to http or elsewhere."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise DataError(f"{req.full_url} leads to {newurl}, which is less safe; not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    address: str,
    destination: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> Path:
    """Download a file; what an earlier call got of it is gone on with.

    The bytes go to ``<name>.part`` beside the destination, which is renamed when they are whole
    and right. They are only gone on with where the server says that the file is still the same.

    Args:
        address: http or https.
        destination: where the file appears.
        size: its length in bytes, if published.
        sha256: its SHA-256 (hex), if published.
        progress: called with bytes done and their total (0 where nobody knows).
        tell: is told of retries.

    Returns:
        ``destination``.

    Raises:
        DataError: it cannot be had: the message says why. A file of the wrong size or sum is not
            kept; one that was cut off is.
    """
    if urlsplit(address).scheme not in ("http", "https"):
        raise DataError(f"{address} is no http or https address")
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f"{destination.name}.part")
    tries = 0
    while True:
        before = _length(part)
        try:
            _get(address, part, size, progress or (lambda done, total: None))
            break
        except urllib.error.HTTPError as error:
            problem = f"the server answers {error.code} {error.reason}"
            if error.code not in (408, 425, 429) and error.code < 500:
                raise DataError(f"cannot download {address}: {problem}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            problem = str(reason) or type(error).__name__
            if isinstance(reason, (socket.gaierror, ConnectionRefusedError)):  # nobody is there
                raise DataError(f"cannot download {address}: {problem}") from None
        tries = 1 if _length(part) > before else tries + 1
        if tries > RETRIES:
            raise DataError(
                f"cannot download {address}: {problem}; the same command goes on where it stopped"
            )
        if tell is not None:
            tell(f"{address}: {problem}; trying again")
        time.sleep(PAUSE * 2 ** (tries - 1))
    _check(address, part, size, sha256)
    part.replace(destination)
    _note_of(part).unlink(missing_ok=True)
    return destination


def _get(address: str, part: Path, size: int | None, progress: Progress) -> None:
    """One request: append what is left of the file to its part.

    Raises:
        OSError: the connection failed or was cut off; what came is kept.
        DataError: a web page, too many bytes, or too small a disk.
    """
    request = urllib.request.Request(address)
    request.add_header(
        "User-Agent", f"holistic-transfer-bench/{version('holistic-transfer-bench')}"
    )
    request.add_header("Accept-Encoding", "identity")
    start, mark = _length(part), _read_note(part)
    if start and mark:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", mark)
    opener = urllib.request.build_opener(_SameOrSafer)
    try:
        answer = opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:
            raise
        _forget(part)  # it has more bytes than the file: begin again
        raise ConnectionError("what was there is not a part of the file") from None
    with answer:
        if answer.status != 206 or not _goes_on(answer.headers, start):
            _forget(part)
            start = 0
        total = size or _total(answer.headers, start)
        _check_room(part, (total or 0) - start)
        _note_of(part).write_text(_mark(answer.headers))
        with part.open("ab") as file:
            _copy(answer, file, address, start, total, size, progress)


def _copy(
    answer: IO[bytes],
    file: IO[bytes],
    address: str,
    start: int,
    total: int | None,
    size: int | None,
    progress: Progress,
) -> None:
    done, limit = start, size or MAX_BYTES
    while piece := answer.read(PIECE):
        if done == 0:
            _check_page(address, piece)
        done += len(piece)
        if done > limit:
            file.close()
            _forget(Path(file.name))
            raise DataError(f"{address} sends more than the {limit} bytes that it should")
        file.write(piece)
        progress(done, total or 0)
    if total is not None and done < total:
        raise ConnectionError(f"cut off after {done} of {total} bytes")


def _check(address: str, part: Path, size: int | None, sha256: str | None) -> None:
    found = _length(part)
    if size is not None and found != size:
        _forget(part)
        raise DataError(f"{address} has {found} bytes, not the {size} that are published")
    if sha256 is None:
        return
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        _forget(part)
        raise DataError(
            f"{address} has SHA-256 {digest[:16]}..., and published is {sha256[:16]}...: it has "
            "been changed or was damaged on the way; it was not kept"
        )


def _check_page(address: str, head: bytes) -> None:
    """A web page in the place of a file says what is wrong in its title, if anywhere."""
    if not head.lstrip()[:64].lower().startswith((b"<!doctype html", b"<html")):
        return
    title = _TITLE.search(head)
    words = html.unescape(title[1].decode("utf-8", "replace")).strip() if title else ""
    shown = "".join(c for c in words if c.isprintable())[:100]
    raise DataError(
        f"{address} answers with a web page{f' ({shown})' if shown else ''}, not a file"
    )


def _check_room(part: Path, more: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if more > free:
        raise DataError(
            f"{part.parent} has {free / 2**30:.2f} GiB free, and {more / 2**30:.2f} GiB are to "
            "come: make room, or set HTBENCH_DATA to a folder on a larger disk"
        )


def _goes_on(headers: Message, start: int) -> bool:
    return (headers.get("Content-Range") or "").startswith(f"bytes {start}-")


def _total(headers: Message, start: int) -> int | None:
    length = headers.get("Content-Length") or ""
    return start + int(length) if length.isdecimal() else None


def _mark(headers: Message) -> str:
    """What tells this version of the file from another: a strong ETag, or else the date."""
    tag = headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified") or ""


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.mark")


def _read_note(part: Path) -> str:
    try:
        with _note_of(part).open() as file:
            return file.read(1000).strip()
    except (OSError, ValueError):
        return ""


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
