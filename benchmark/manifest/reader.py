"""Typed access to the entries of a TOML document, with errors that say where a value is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from benchmark.errors import ManifestError, first
from benchmark.patterns import SHA256

MAX_TOML_DEPTH = 16
# Names and versions become names of files and folders, which have at most 255 bytes.
MAX_NAME = 100
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{MAX_NAME - 1}}}")
VERSION = re.compile(rf"(?!.{{{MAX_NAME + 1}}})[0-9]+(\.[0-9]+)*(\+[A-Za-z0-9.]+)?")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Patterns that leave the root or have two spellings on some operating system.
NOT_CANONICAL_PATH = r"[\\:]|^/|/$|//|(^|/)\.\.?(/|$)"
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # text may have tabs and line breaks


class Reader:
    """Typed access to a TOML document; its errors say where a value is wrong."""

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        self.document, self.where = document, where

    def fail(self, problem: str) -> ManifestError:
        """The error that names the file and the problem; the caller raises it."""
        return ManifestError(f"{self.where}: {problem}")

    def get(self, key: str, kind: type, what: str) -> Any:
        """The value of a key, which must have a type; ``what`` describes it in the error."""
        value = self.document.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            state = "is missing" if value is None else f"is {value!r}"
            raise self.fail(f"{key} {state}; it must be {what}")
        return value

    def sha256(self, key: str) -> str:
        """A SHA-256 in hex."""
        value = self.text(key)
        if not SHA256.fullmatch(value):
            raise self.fail(f"{key} must be 64 lower-case hexadecimal digits")
        return value

    def optional(self, key: str, kind: type, what: str) -> Any:
        """As :meth:`get`, but None if there is no such key."""
        return self.get(key, kind, what) if key in self.document else None

    def text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        """The value of a key, which must be a non-empty string that matches the pattern."""
        value: str = self.get(key, str, "a string")
        if not value.strip() or (pattern and not pattern.fullmatch(value)):
            raise self.fail(
                f"{key} is {value!r}; it must be a name or version of at most {MAX_NAME} "
                "characters, such as 'icons' or '1.0'"
            )
        return value

    def names(self, key: str) -> list[str]:
        """The value of a key, which must be a list of distinct names."""
        values = self.get(key, list, "a list of names")
        bad = [v for v in values if not isinstance(v, str) or not v or CONTROL.search(v)]
        if not values or bad:
            problem = f"but it contains {first(bad)}" if bad else "but it is empty"
            raise self.fail(f"{key} must be a non-empty list of names, {problem}")
        if twice := repeated(values):
            raise self.fail(f"{key} contains {first(twice)} more than once")
        return list(values)


def repeated(values: Iterable[str]) -> list[str]:
    """The values that occur more than once, each once."""
    once: set[str] = set()
    twice: dict[str, None] = {}
    for value in values:
        if value in once:
            twice[value] = None
        once.add(value)
    return list(twice)


def check_canonical(value: object, where: str, depth: int = 0) -> None:
    """Allow only values with one canonical JSON form that are safe to print on a terminal."""
    if depth > MAX_TOML_DEPTH:
        raise ManifestError(f"{where}: tables must not be nested more than {MAX_TOML_DEPTH} deep")
    if isinstance(value, Mapping):
        check_canonical(list(value), where, depth)
        check_canonical(list(value.values()), where, depth)
    elif isinstance(value, list):
        for item in value:
            check_canonical(item, where, depth + 1)
    elif isinstance(value, str):
        if _NOT_TEXT.search(value):
            raise ManifestError(f"{where}: control characters in {value[:100]!r}")
    elif isinstance(value, int):
        if abs(value) >= 1 << 63:
            raise ManifestError(f"{where}: {value!r:.40} does not fit in a 64-bit integer")
    elif not isinstance(value, float) or not np.isfinite(value):  # a date, NaN, an infinity
        raise ManifestError(
            f"{where}: the value {value!r} is not allowed; use a string or a number"
        )
