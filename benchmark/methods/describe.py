"""What a method declares: asked of a child process, checked, and cached until its code changes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from benchmark.errors import HTBenchError, MethodError
from benchmark.files import digest_file, digest_json, discard, read_sealed, seal, write_file
from benchmark.folders import PACKAGE, data_folder
from benchmark.jobs import MethodCode, Value
from benchmark.keys import compute_digest
from benchmark.methods.code import OwnCode, collect_code
from benchmark.methods.find import MethodLocation, is_builtin
from benchmark.patterns import METHOD_NAME, TRACKS
from benchmark.text import one_line, printable

MAX_DESCRIPTION_BYTES = 1 << 20
MAX_NEEDS = 10
MAX_VALUES = 50  # of a field in a search space
MAX_TEXT = 200  # characters of a summary or of a setting
MAX_REFUSAL = 1000  # bytes

_PYTHON_TYPES: dict[str, type[Value]] = {"bool": bool, "int": int, "float": float, "str": str}
_READERS: dict[str, Callable[[str], Value]] = {
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": int,
    "float": float,
    "str": str,
}
_EXPECTED = {
    "bool": "true or false",
    "int": "a whole number of at most 64 bits",
    "float": "a finite number",
    "str": f"at most {MAX_TEXT} printable characters",
}


def setting_text(value: Value) -> str:
    """A setting as ``--set`` takes it; :meth:`Field.parse` reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_valid_setting(value: Value) -> bool:
    """Whether a setting can be stored as JSON and printed: finite, bounded, printable."""
    if isinstance(value, str):
        return len(value) <= MAX_TEXT and value == printable(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return -(2**63) <= value < 2**63


@dataclass(frozen=True)
class Field:
    """A hyper-parameter: name, type (bool, int, float or str) and default."""

    name: str
    type: str
    default: Value

    def parse(self, text: str, method: str) -> Value:
        """The value that ``--set name=text`` means.

        Raises:
            MethodError: the text is not of the field's type.
        """
        try:
            value = _READERS[self.type](text)
        except (KeyError, ValueError):
            value = None
        if value is None or not _is_valid_setting(value):
            raise MethodError(
                f"{self.name}={text[:100]!r}: {method}.{self.name} must be "
                f"{_EXPECTED[self.type]} (default {self.default})"
            )
        return value


@dataclass(frozen=True)
class MethodDescription:
    """What a method declares, and its code.

    Attributes:
        own: the method's own files, which a run of it may read.
        needs: what the network or the task must have, in words.
        is_base: False if its adapted model cannot be started from, as far as it says.
        search: the values to try of each field, for ``htbench tune``; None if it is not tuned.
        refusal: why it rejects its own defaults; None if it does not.
    """

    source: MethodLocation
    name: str
    summary: str
    fields: tuple[Field, ...]
    base: str | None
    track: str
    uses_features: bool
    own: OwnCode
    needs: tuple[str, ...] = ()
    is_base: bool = True
    search: Mapping[str, tuple[Value, ...]] | None = None
    refusal: str | None = None

    @property
    def code(self) -> dict[str, Any]:
        """Identifies the code in a run's key: digests of its files and of its distributions."""
        return self.own.facts

    def configure(self, settings: Mapping[str, str]) -> dict[str, Value]:
        """All settings of the method: its defaults with some replaced (given as text)."""
        config = {f.name: f.default for f in self.fields}
        for f in self.fields:
            if f.name in settings:
                config[f.name] = f.parse(settings[f.name], self.name)
        return config

    def label(self, config: Mapping[str, Value]) -> str:
        """The method's name with the settings that are not its defaults."""
        changed = [f"{f.name}={config[f.name]}" for f in self.fields if config[f.name] != f.default]
        return self.name + (f"({', '.join(changed)})" if changed else "")


Describe = Callable[[MethodLocation, MethodCode], Any]


def describe_cached(
    source: MethodLocation, ask: Describe, *, keep: bool = True
) -> MethodDescription:
    """The description of a method: from the cache, or from a child by ``ask``.

    Its own files are found and digested first: the child may read these, and the cached description
    is valid as long as they are the same.

    Args:
        source: where the method is.
        ask: gives the JSON answer of a child that imported it (see ``methods/ask.py``).
        keep: whether the answer goes to the cache. That of a process which may have imported the
            code before must not: it could be that of an earlier version.

    Raises:
        MethodError: the code cannot be imported or breaks the contract.
    """
    own = collect_code(source)
    cache = data_folder() / "methods" / f"{digest_json(_cache_key(source))}.json"
    if cache.is_file():
        try:
            entry = read_sealed(cache, MAX_DESCRIPTION_BYTES, MethodError)
            if entry["key"] == cache.stem and entry["code"] == own.facts:
                return parse_description(source, entry["answer"], own)
        except (HTBenchError, KeyError, TypeError):
            pass  # a damaged or stale entry is replaced
    answer = ask(source, own.message)
    if not isinstance(answer, dict):
        raise MethodError(f"{source.origin}: the method's description is not an object")
    description = parse_description(source, answer, own)
    if not keep:
        return description
    with contextlib.suppress(OSError):  # a data folder that cannot be written to costs only time
        if cache.is_dir():
            discard(cache)
        write_file(cache, seal({"key": cache.stem, "answer": answer, "code": own.facts}))
    return description


def _cache_key(source: MethodLocation) -> dict[str, Any]:
    where = [source.module, source.attribute, str(source.file)]
    contract = [compute_digest(), digest_file(PACKAGE / "child" / "plugin.py")]
    return {"source": where, "name": source.name, "contract": contract}


def _is_strings(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def parse_description(
    source: MethodLocation, answer: Mapping[str, Any], own: OwnCode
) -> MethodDescription:
    """Check a child's answer field by field; the child has run untrusted code."""
    name = answer.get("name")
    if not isinstance(name, str) or not METHOD_NAME.fullmatch(name):
        raise MethodError(
            f"{source.origin}: a method is named {name!r}; use lower case letters, digits, dashes"
        )
    if source.name is not None and name != source.name:
        raise MethodError(
            f"{source.origin}: entry point {source.name!r} resolves to a method named {name!r}"
        )
    base, track, summary = answer.get("base"), answer.get("track"), answer.get("summary")
    if not (base is None or (isinstance(base, str) and METHOD_NAME.fullmatch(base))):
        raise MethodError(f"{source.origin}: base of {name} is {base!r}, not a method's name")
    if track not in TRACKS:
        raise MethodError(
            f"{source.origin}: the track of {name} is {track!r}; it must be 'standard'"
        )
    if track == "oracle" and not is_builtin(source):
        raise MethodError(
            f"{source.origin}: {name} asks for the oracle track, which only the benchmark's own "
            "methods may have; leave track as 'standard'"
        )
    if not isinstance(summary, str):
        raise MethodError(f"{source.origin}: {name} has no summary")
    needs = answer.get("needs", [])
    if not _is_strings(needs):
        raise MethodError(
            f"{source.origin}: `needs` of {name} is {needs!r}, not a tuple of strings"
        )
    if source.file is not None:
        _check_files(source, name, answer.get("files"), own)
    fields, refusal = _parse_fields(answer.get("fields"), name, source), answer.get("refusal")
    if len({f.name for f in fields}) != len(fields):
        raise MethodError(f"{source.origin}: {name} has two fields with the same name")
    return MethodDescription(
        source=source,
        name=name,
        summary=_one_line(summary),
        fields=fields,
        base=base,
        track=track,
        uses_features=answer.get("uses_features") is True,
        own=own,
        needs=tuple(map(_one_line, needs[:MAX_NEEDS])),
        is_base=answer.get("is_base") is not False,
        search=_parse_search(answer.get("search"), name, fields, source),
        refusal=one_line(refusal, MAX_REFUSAL) if isinstance(refusal, str) else None,
    )


def _check_files(source: MethodLocation, method: str, files: object, own: OwnCode) -> None:
    """Check that the data files that a method declares are among those that its runs may read."""
    if not _is_strings(files):
        raise MethodError(f"{source.origin}: `files` of {method} is not a tuple of strings")
    for file in files:
        problem = own.declared.get(file, "is not a literal in the body of the class")
        if problem is not None:
            raise MethodError(
                f"{source.origin}: `files` of {method} names {file[:200]!r}, which {problem}; "
                "declare regular files in the plugin's folder as a literal tuple, such as "
                'files = ("prompts.json",)'
            )


def _one_line(text: str) -> str:
    """A method's description of itself, made safe to print on one line."""
    return printable(" ".join(text.replace("``", "").split()), limit=MAX_TEXT)


def _parse_fields(value: object, method: str, source: MethodLocation) -> tuple[Field, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise MethodError(f"{source.origin}: the description of {method} has no list of fields")
    return tuple(_parse_field(entry, method, source) for entry in value)


def _parse_search(
    value: object, method: str, fields: tuple[Field, ...], source: MethodLocation
) -> Mapping[str, tuple[Value, ...]] | None:
    """Check a search space: known fields, each with distinct values of its type."""
    if value is None:
        return None
    known = {field.name: field for field in fields}
    if not isinstance(value, dict):
        raise MethodError(f"{source.origin}: search of {method} is not a dictionary")
    search = {}
    for name, values in value.items():
        if name not in known:
            raise MethodError(
                f"{source.origin}: search of {method} names {name!r}, which is not one of its "
                f"fields: {', '.join(known) or '-'}"
            )
        if not isinstance(values, list) or not 0 < len(values) <= MAX_VALUES:
            raise MethodError(
                f"{source.origin}: search of {method} must list between 1 and {MAX_VALUES} values "
                f"of {name}"
            )
        search[name] = tuple(_search_value(known[name], v, method, source) for v in values)
        if len(set(search[name])) < len(values):
            raise MethodError(f"{source.origin}: search of {method} repeats a value of {name}")
    return search


def _search_value(field: Field, value: object, method: str, source: MethodLocation) -> Value:
    if isinstance(value, bool | int | float | str) and _is_valid_setting(value):
        typed = float(value) if field.type == "float" and type(value) is int else value
        if type(typed) is _PYTHON_TYPES[field.type]:
            return typed
    raise MethodError(
        f"{source.origin}: search of {method} has {value!r:.100} for {field.name}, which must be "
        f"{_EXPECTED[field.type]}"
    )


def _parse_field(entry: Mapping[str, Any], method: str, source: MethodLocation) -> Field:
    name, kind, default = entry.get("name"), entry.get("type"), entry.get("default")
    if not isinstance(name, str) or not name.isidentifier() or len(name) > MAX_TEXT:
        raise MethodError(f"{source.origin}: a field of {method} has no valid name")
    if not isinstance(kind, str) or kind not in _PYTHON_TYPES:
        raise MethodError(
            f"{source.origin}: field {name!r} of {method} has type {kind!r}; "
            f"a hyper-parameter is one of {', '.join(_PYTHON_TYPES)}"
        )
    if kind == "float" and type(default) is int and _is_valid_setting(default):
        default = float(default)
    if type(default) is not _PYTHON_TYPES[kind] or not _is_valid_setting(default):
        kind_of_default = "none" if default is None else f"a {type(default).__name__}"
        raise MethodError(
            f"{source.origin}: field {name!r} of {method} needs a default that is "
            f"{_EXPECTED[kind]}; it has {kind_of_default}"
        )
    return Field(name, kind, default)
