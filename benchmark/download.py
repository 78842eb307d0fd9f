"""Download files over HTTP: resumable, verified, and atomic."""

from __future__ import annotations

import contextlib
import hashlib
import html
import http.client
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import version
from io import FileIO
from pathlib import Path
from string import punctuation
from typing import IO, Any
from urllib.parse import quote, urlsplit

from benchmark.errors import DataError, StorageError
from benchmark.files import matches_digest
from benchmark.folders import check_space, write_whole
from benchmark.progress import Logger, Progress
from benchmark.text import printable

TIMEOUT = 60  # seconds without a byte
RETRIES = 4  # in a row without a new byte
PAUSE = 1.0  # seconds before the first retry, then doubled
PIECE = 1 << 20
OVERLAP = 64 << 10  # bytes at the end of a partial file that are received again and compared
MAX_BYTES = 64 << 30  # of a file whose size is not published
OTHER_FILE = "the partial download does not match the server's file"
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


class _SameOrSafer(urllib.request.HTTPRedirectHandler):
    """Follows at most ten redirects, like urllib, but never from https to a less safe scheme."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise DataError(f"{req.full_url}: refusing to follow a redirect to {printable(newurl)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    address: str,
    destination: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
    log: Logger | None = None,
) -> Path:
    """Download a file, or the rest of it if an earlier call was interrupted.

    Nothing is downloaded if the destination has the published SHA-256 already.

    The bytes go to ``<name>.part`` next to the destination, which is renamed once it is complete
    and verified. A partial file is resumed only if the server confirms that the file has not
    changed since, and if its last ``OVERLAP`` bytes are those that the server sends.

    Args:
        address: an http or https URL.
        destination: the path of the downloaded file.
        size: its length in bytes, if published.
        sha256: its SHA-256 (hex), if published.
        progress: called with the number of bytes received and their total (0 if unknown).
        log: called before each retry.

    Returns:
        ``destination``.

    Raises:
        DataError: the download failed. A file with the wrong size or SHA-256 is deleted, an
            incomplete one is kept.
        StorageError: it cannot be written, such as onto a full disk.
    """
    _check_address(address)
    if sha256 is not None and matches_digest(destination, sha256):
        return destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f"{destination.name}.part")
    tries = 0
    while True:
        before = _length(part)
        try:
            _get(address, part, size, progress or (lambda received, total: None))
            break
        except urllib.error.HTTPError as error:
            problem = f"the server responded with {error.code} {printable(str(error.reason))}"
            if error.code not in (408, 425, 429) and error.code < 500:
                raise DataError(f"cannot download {address}: {problem}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            problem = printable(str(reason)) or type(error).__name__
            if isinstance(reason, (socket.gaierror, ConnectionRefusedError)):  # no server
                raise DataError(f"cannot download {address}: {problem}") from None
        tries = 1 if _length(part) > before else tries + 1
        if tries > RETRIES:
            raise DataError(
                f"cannot download {address}: {problem}; run the same command again to resume"
            )
        if log is not None:
            log(f"{address}: {problem}; retrying")
        time.sleep(PAUSE * 2 ** (tries - 1))
    check_file(address, part, size, sha256)
    part.replace(destination)
    _note_of(part).unlink(missing_ok=True)
    return destination


def _check_address(address: str) -> None:
    """Check that a request can be sent to an address.

    Raises:
        DataError: it cannot.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise DataError(f"{address} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise DataError(f"{address} is not an http or https URL")
    path, query = (quote(text, safe=punctuation) for text in (parts.path, parts.query))
    if (path, query) != (parts.path, parts.query):
        encoded = parts._replace(path=path, query=query).geturl()
        raise DataError(
            f"{address} has blanks or characters outside ASCII; give it percent-encoded: {encoded}"
        )


def _get(address: str, part: Path, size: int | None, progress: Progress) -> None:
    """Send one request and append the rest of the file to its part.

    Raises:
        OSError: the connection failed or was closed early; the received bytes are kept.
        DataError: the response is a web page or too long.
        StorageError: the disk is too small, or the part cannot be written.
    """
    request = urllib.request.Request(address)
    request.add_header(
        "User-Agent", f"holistic-transfer-bench/{version('holistic-transfer-bench')}"
    )
    request.add_header("Accept-Encoding", "identity")
    start, mark = max(0, _length(part) - OVERLAP), _read_note(part)
    if start and mark:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", mark)
    opener = urllib.request.build_opener(_SameOrSafer)
    try:
        response = opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:
            raise
        _delete(part)  # it is longer than the file: start over
        raise ConnectionError(OTHER_FILE) from None
    with response:
        if response.status != 206 or not _resumes(response.headers, start):
            _delete(part)
            start = 0
        total = size or _total(response.headers, start)
        if start:
            start = _skip_overlap(response, part, start, total)
        check_space(part.parent, (total or 0) - start, "the download needs")
        with _writing(part):
            _note_of(part).write_text(_mark(response.headers))
            file = part.open("ab", buffering=0)
        with file:
            _copy(response, file, address, start, total, size, progress)


@contextlib.contextmanager
def _writing(part: Path) -> Iterator[None]:
    """Tell an error of the disk from one of the connection, which is worth another try.

    Raises:
        StorageError: the block raised an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(part, error) from None


def cannot_write(file: Path, error: OSError) -> StorageError:
    """What to say where a download cannot be written."""
    return StorageError(
        f"cannot write {file}: {error.strerror or error}; fix this, or set HTBENCH_DATA to "
        "another folder, then run the same command again to resume"
    )


def _skip_overlap(response: IO[bytes], part: Path, start: int, total: int | None) -> int:
    """Compare the end of a partial file with what the server sends; return its length.

    Raises:
        OSError: they differ, and the partial file is deleted; or the connection was closed.
    """
    with part.open("rb") as file:
        file.seek(start)
        end = file.read()
    again = response.read(len(end))
    length = start + len(end)
    if again != end and end.startswith(again) and (total or 0) >= length:
        raise ConnectionError(f"connection closed after {start + len(again)} of {total} bytes")
    if again != end:
        _delete(part)
        raise ConnectionError(OTHER_FILE)
    return length


def _copy(
    response: IO[bytes],
    file: FileIO,
    address: str,
    start: int,
    total: int | None,
    size: int | None,
    progress: Progress,
) -> None:
    part, received, limit = Path(str(file.name)), start, size or MAX_BYTES
    while piece := response.read(PIECE):
        if received == 0:
            _check_page(address, piece)
        received += len(piece)
        if received > limit:
            file.close()
            _delete(part)
            raise DataError(
                f"{address} sent more than the expected {limit} bytes; the download was deleted"
            )
        with _writing(part):
            write_whole(file, piece)
        progress(received, total or 0)
    if total is not None and received < total:
        raise ConnectionError(f"connection closed after {received} of {total} bytes")


def check_file(address: str, part: Path, size: int | None, sha256: str | None) -> None:
    """Compare a downloaded file with its published length and SHA-256.

    Raises:
        DataError: they differ; the file has been deleted.
    """
    length = _length(part)
    if size is not None and length != size:
        _delete(part)
        raise DataError(
            f"the file from {address} has {length} bytes, but {size} are expected; it was deleted"
        )
    if sha256 is None:
        return
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        _delete(part)
        raise DataError(
            f"the file from {address} has SHA-256 {digest[:16]}..., but {sha256[:16]}... is "
            "expected; it was changed or corrupted, and the download was deleted"
        )


def _check_page(address: str, head: bytes) -> None:
    """Refuse a web page sent in place of a file; its title often gives the reason."""
    if not head.lstrip()[:64].lower().startswith((b"<!doctype html", b"<html")):
        return
    title = _TITLE.search(head)
    text = html.unescape(title[1].decode("utf-8", "replace")).strip() if title else ""
    shown = f" ({printable(text, limit=100)})" if text else ""
    raise DataError(f"{address} returned a web page{shown}, not a file")


def _resumes(headers: Message, start: int) -> bool:
    return (headers.get("Content-Range") or "").startswith(f"bytes {start}-")


def _total(headers: Message, start: int) -> int | None:
    length = headers.get("Content-Length") or ""
    return start + int(length) if length.isdecimal() else None


def _mark(headers: Message) -> str:
    """Identify this version of the file: a strong ETag, or else the modification date."""
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


def _delete(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
