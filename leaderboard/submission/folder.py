"""The folder of a submission: which files it may have, listed and read within bounds.

    submission.toml                      who submits which method, filled in by the author
    SHA256SUMS                           SHA-256 of every file but these two, as sha256sum writes it
    environment.txt                      the packages that were installed, for people
    code/                                the method's own files
    runs/<key>/run.json                  the record of a run, also of those that it starts from
    runs/<key>/predictions.parquet       the predictions of a run of the method

Scores are not among them: they are always computed from the predictions.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from benchmark.errors import MAX_ITEM, first
from benchmark.files import digest_json, open_inside
from benchmark.manifest.toml import to_toml
from benchmark.patterns import SHA256
from benchmark.records import PREDICTIONS_FILE, RECORD_FILE
from benchmark.text import one_line, printable

FORM_FILE = "submission.toml"
SUMS_FILE = "SHA256SUMS"
ENVIRONMENT_FILE = "environment.txt"
CODE_FOLDER = "code"
RUNS_FOLDER = "runs"

MAX_ENTRIES = 10_000  # files and folders
MAX_DEPTH = 8
# By the last part of a path outside code/.
MAX_BYTES = {
    FORM_FILE: 64 << 10,
    SUMS_FILE: 4 << 20,
    ENVIRONMENT_FILE: 1 << 20,
    RECORD_FILE: 4 << 20,
    PREDICTIONS_FILE: 256 << 20,  # the largest suite's have 75 MiB
}
# The same of all files in code/, and of all with such a name.
MAX_TOTAL = {CODE_FOLDER: 64 << 20, RECORD_FILE: 256 << 20, PREDICTIONS_FILE: 16 << 30}
MAX_TEXT = 300  # bytes of an entry of submission.toml
MAX_AUTHORS = 100
NONE = "none"  # the paper or code that does not exist

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
_RUN = re.compile(rf"{RUNS_FOLDER}/{SHA256.pattern}/({RECORD_FILE}|{re.escape(PREDICTIONS_FILE)})")
_ADDRESS = re.compile(r"https://[^\s/?#]+\S*")
_SUM = re.compile(rf"({SHA256.pattern})  (.+)")


class RefusedError(Exception):
    """What is wrong with a submission, for its author."""


@dataclass(frozen=True)
class Form:
    """The content of ``submission.toml``.

    Attributes:
        name: the method's.
        suite: the name of the suite.
        plugins: ``FILE.py:CLASS`` in ``code/``: the method, and those that it starts from.
        authors: their names.
        paper, code: addresses, or ``none``.
        licence: of the code, such as ``MIT``.
    """

    name: str
    suite: str
    plugins: tuple[str, ...]
    authors: tuple[str, ...]
    paper: str
    code: str
    licence: str


_LISTS = ("plugins", "authors")
_ADDRESSES = ("paper", "code")


def list_files(root: Path) -> dict[str, int]:
    """The files below a folder with their sizes in bytes, sorted by path.

    Stops at the first entry too many: a folder of a million files is not read to its end.

    Raises:
        RefusedError: there are too many entries, or one is a link, a device or the like, is nested
            too deeply, has a name that is not plain, or is too large.
    """
    files: dict[str, int] = {}
    count = 0
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                count += 1
                if count > MAX_ENTRIES:
                    raise RefusedError(f"it has more than {MAX_ENTRIES} files and folders")
                if not _NAME.fullmatch(entry.name) or entry.name.endswith("."):
                    raise RefusedError(
                        f"the name {one_line(repr(entry.name), MAX_ITEM)} is not plain; use "
                        "letters, digits, _, -, + and dots, and do not begin or end with a dot"
                    )
                path = folder + entry.name
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    if path.count("/") >= MAX_DEPTH:
                        raise RefusedError(f"{path} is nested more than {MAX_DEPTH} folders deep")
                    waiting.append(f"{path}/")
                elif stat.S_ISREG(status.st_mode):
                    files[path] = status.st_size
                else:
                    raise RefusedError(f"{path} is not a regular file (a link, FIFO or device)")
    _check_layout(files)
    return dict(sorted(files.items()))


def _check_layout(files: dict[str, int]) -> None:
    spellings: dict[str, str] = {}
    for path in sorted(files):
        if (other := spellings.setdefault(path.casefold(), path)) != path:
            raise RefusedError(f"{other} and {path} are the same file on some systems")
    top = (FORM_FILE, SUMS_FILE, ENVIRONMENT_FILE)
    if unexpected := [
        path
        for path in files
        if path not in top and not path.startswith(f"{CODE_FOLDER}/") and not _RUN.fullmatch(path)
    ]:
        raise RefusedError(f"these files do not belong to a submission: {first(unexpected)}")
    if missing := [name for name in top if name not in files]:
        raise RefusedError(f"{', '.join(missing)} is missing; pack the runs with `submit pack`")
    totals: dict[str, int] = {}
    for path, size in files.items():
        is_code = path.startswith(f"{CODE_FOLDER}/")
        name = CODE_FOLDER if is_code else path.rpartition("/")[2]
        totals[name] = totals.get(name, 0) + size
        if not is_code and size > MAX_BYTES[name]:
            raise RefusedError(f"{path} has {size} bytes; the limit is {MAX_BYTES[name]}")
    for name, limit in MAX_TOTAL.items():
        if (size := totals.get(name, 0)) > limit:
            raise RefusedError(
                f"the files of {name} have {size} bytes in total; the limit is {limit}"
            )


def digest_inside(root: Path, name: str) -> str:
    """SHA-256 (hex) of a file in the folder of a submission; follows no link."""
    with open_inside(root, name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_of(root: Path, files: Iterable[str]) -> bytes:
    """The content of ``SHA256SUMS`` for some files; `sha256sum --check` reads it, too."""
    lines = [f"{digest_inside(root, path)}  {path}\n" for path in sorted(files) if _is_summed(path)]
    return "".join(lines).encode()


def check_sums(root: Path, files: Iterable[str]) -> None:
    """Compare the files with ``SHA256SUMS``. Paths in it are compared, and never opened.

    Raises:
        RefusedError: it does not list exactly these files with these digests.
    """
    listed: dict[str, str] = {}
    for line in _read_text(root, SUMS_FILE).splitlines():
        match = _SUM.fullmatch(line)
        if match is None or match[2] in listed:
            raise RefusedError(f"{SUMS_FILE} has an invalid line: {one_line(line, MAX_ITEM)}")
        listed[match[2]] = match[1]
    present = {path for path in files if _is_summed(path)}
    if unknown := sorted(listed.keys() - present):
        raise RefusedError(f"{SUMS_FILE} lists files that are not here: {first(unknown)}")
    if unlisted := sorted(present - listed.keys()):
        raise RefusedError(f"{SUMS_FILE} does not list {first(unlisted)}")
    if changed := [p for p in sorted(present) if digest_inside(root, p) != listed[p]]:
        raise RefusedError(
            f"these files do not match {SUMS_FILE}: {first(changed)}; pack the runs again"
        )


def _is_summed(path: str) -> bool:
    return path not in (FORM_FILE, SUMS_FILE)


def digest_of(root: Path) -> str:
    """SHA-256 that identifies a submission: of its two files that cover everything."""
    return digest_json({name: digest_inside(root, name) for name in (FORM_FILE, SUMS_FILE)})


def read_form(root: Path) -> Form:
    """Read ``submission.toml``.

    Raises:
        RefusedError: it is not valid, or something is not filled in.
    """
    try:
        document = tomllib.loads(_read_text(root, FORM_FILE).removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{FORM_FILE} is not valid TOML: {one_line(error, MAX_ITEM)}") from None
    names = [field.name for field in fields(Form)]
    if unknown := sorted(document.keys() - set(names)):
        raise RefusedError(f"{FORM_FILE} has unknown entries: {first(unknown)}")
    if missing := [name for name in names if name not in document]:
        raise RefusedError(f"{FORM_FILE} has no {', '.join(missing)}")
    values = {name: check_entry(name, document[name]) for name in names}
    return Form(**values)  # type: ignore[arg-type]  # check_entry gives what each field needs


def check_entry(name: str, value: object) -> str | tuple[str, ...]:
    """The value of an entry of ``submission.toml``, as :class:`Form` has it.

    Raises:
        RefusedError: it has another type, is not filled in, or is not allowed.
    """
    texts = value if name in _LISTS else [value]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        kind = "a list of texts" if name in _LISTS else "a text"
        raise RefusedError(f"{name} in {FORM_FILE} must be {kind}")
    if not texts or not all(text.strip() for text in texts):
        raise RefusedError(f"{name} in {FORM_FILE} is not filled in")
    if len(texts) > MAX_AUTHORS:
        raise RefusedError(f"{name} in {FORM_FILE} has more than {MAX_AUTHORS} entries")
    for text in texts:
        if len(text.encode(errors="replace")) > MAX_TEXT or printable(text) != text:
            raise RefusedError(
                f"{name} in {FORM_FILE} must be printable and at most {MAX_TEXT} bytes long: "
                f"{one_line(repr(text), MAX_ITEM)}"
            )
        if name in _ADDRESSES and text != NONE and not _ADDRESS.fullmatch(text):
            raise RefusedError(
                f"{name} in {FORM_FILE} must be an address that begins with https://, or {NONE!r}: "
                f"{one_line(repr(text), MAX_ITEM)}"
            )
    return tuple(texts) if name in _LISTS else texts[0]


def _read_text(root: Path, name: str) -> str:
    with open_inside(root, name) as file:
        content = file.read(MAX_BYTES[name] + 1)
    if len(content) > MAX_BYTES[name]:
        raise RefusedError(f"{name} is larger than {MAX_BYTES[name]} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise RefusedError(f"{name} is not UTF-8") from None


def form_text(form: Form, label: str) -> str:
    """The content of ``submission.toml``, with what its author has to fill in."""
    return (
        f"# The submission of {printable(label)}. Fill in what is empty, then run\n"
        "# `htbench submit check` on this folder. This is the only file here that you may edit.\n"
        f'# paper and code are addresses that begin with https://, or "{NONE}"; licence is the\n'
        '# licence of the code, such as "MIT"; plugins are the files in code/ with the method and\n'
        "# those that it starts from, each with its class.\n"
        + to_toml({f.name: _plain(getattr(form, f.name)) for f in fields(Form)})
    )


def _plain(value: str | tuple[str, ...]) -> str | list[str]:
    return value if isinstance(value, str) else list(value)
