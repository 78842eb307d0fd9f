"""Names of methods: where each one's code is, and what it says of itself. Nothing is imported.

A method is found by entry point (group ``holistic_transfer.methods``) or by file. What it is (its
fields, base and track) only its code can tell, and code of strangers is never imported here: a
child process describes it as JSON, and the answer is kept until a byte of that code changes.
"""

from __future__ import annotations

import difflib
import math
import re
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeGuard

from benchmark.errors import HTBenchError, MethodError
from benchmark.files import canonical_json, digest_file, digest_json, read_json, write_file
from benchmark.folders import PACKAGE, data_folder
from benchmark.records import GAMMA_STAR

GROUP = "holistic_transfer.methods"
REFERENCES = ("source", "finetune")  # what adapting starts from, and what it is by default
MAX_DESCRIPTION_BYTES = 1 << 20
MAX_CODE_BYTES = 64 << 20
MAX_CODE_FILES = 2000
MAX_NEEDS = 10
MAX_TEXT = 200  # characters of a summary or of a setting
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")

# The part of this package that computes predictions: a change of one of these changes every key.
COMPUTES = (
    "checkpoint.py",
    "images/augment.py",
    "images/build.py",
    "images/packed.py",
    "images/raw.py",
    "images/store.py",
    "method.py",
    "models.py",
    "numerics.py",
    "runs/child.py",
    "runs/execute.py",
    "source.py",
    "training.py",
)

Value = bool | int | float | str
_PYTHON_TYPES: dict[str, type[Value]] = {"bool": bool, "int": int, "float": float, "str": str}
_READERS: dict[str, Callable[[str], Value]] = {
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": int,
    "float": float,
    "str": str,
}
_WANTED = {
    "bool": "true or false",
    "int": "a whole number of at most 64 bits",
    "float": "a finite number",
    "str": f"at most {MAX_TEXT} printable characters",
}


def _is_plain(value: Value) -> bool:
    """Whether a setting is one that JSON, a digest and a terminal all take."""
    if isinstance(value, str):
        return len(value) <= MAX_TEXT and value.isprintable()
    if isinstance(value, float):
        return math.isfinite(value)
    return -(2**63) <= value < 2**63


@dataclass(frozen=True)
class MethodSource:
    """Where the code of a method is.

    Attributes:
        name: name of the entry point; None for a file until it is described.
        module: module to import, or None for a file.
        attribute: the class in it; None for a file with one method.
        file: path of a plugin file, or None.
        origin: for messages, such as ``holistic-transfer-bench 0.1.0`` or a path.
    """

    name: str | None
    module: str | None
    attribute: str | None
    file: Path | None
    origin: str

    def to_json(self) -> dict[str, str | None]:
        """What a child needs to load it."""
        return {
            "module": self.module,
            "attribute": self.attribute,
            "file": str(self.file) if self.file else None,
        }


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
        if value is None or not _is_plain(value):
            raise MethodError(
                f"{self.name}={text[:100]!r}: {method}.{self.name} must be "
                f"{_WANTED[self.type]} (default {self.default})"
            )
        return value


@dataclass(frozen=True)
class MethodDescription:
    """What a method says of itself, and the code it was read from.

    Attributes:
        code: what stands for the code in a run's key: SHA-256 of every file from outside
            installed distributions, and name, version and RECORD digest of the distributions.
        needs: what the network or the task must have, in words.
    """

    source: MethodSource
    name: str
    summary: str
    fields: tuple[Field, ...]
    base: str | None
    track: str
    uses_features: bool
    code: Mapping[str, Any]
    needs: tuple[str, ...] = ()

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


def entry_point_sources() -> dict[str, MethodSource]:
    """Every method that an installed distribution registers, by name.

    Raises:
        MethodError: two distributions register different things under one name.
    """
    found: dict[str, MethodSource] = {}
    for point in metadata.entry_points(group=GROUP):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        source = MethodSource(point.name, point.module, point.attr, None, origin)
        other = found.setdefault(point.name, source)
        if (other.module, other.attribute) != (source.module, source.attribute):
            raise MethodError(
                f"two methods are named {point.name!r}: {other.module}:{other.attribute} of "
                f"{other.origin} and {source.module}:{source.attribute} of {source.origin}; "
                "uninstall one of them"
            )
    return dict(sorted(found.items()))


def builtin_methods() -> tuple[str, ...]:
    """Names of the suite's own methods: the two that others are measured against, then the rest.

    Raises:
        MethodError: two distributions register different things under one name.
    """
    own = [name for name, source in entry_point_sources().items() if is_builtin(source)]
    return tuple(sorted(own, key=reference_first))


def reference_first(name: str) -> tuple[bool | str, ...]:
    """A key to sort names of methods by: those of ``REFERENCES``, then the others by name."""
    return (*(name != reference for reference in REFERENCES), name)


def file_source(argument: str) -> MethodSource:
    """The method of ``--plugin path/to/file.py[:Class]``.

    Raises:
        MethodError: there is no such file, or the class is no identifier.
    """
    path, colon, attribute = argument, "", ""
    if not _is_file(argument):
        path, colon, attribute = argument.rpartition(":")
    if not _is_file(path):
        raise MethodError(f"--plugin {argument}: there is no file {path or argument!r}")
    file = Path(path).expanduser()
    if file.suffix != ".py":
        raise MethodError(f"--plugin {argument}: {file.name} is not a Python file (.py)")
    if colon and not _ATTRIBUTE.fullmatch(attribute):
        raise MethodError(f"--plugin {argument}: {attribute!r} is not the name of a class")
    return MethodSource(None, None, attribute or None, file.resolve(), str(file.resolve()))


def _is_file(path: str) -> bool:
    try:
        return Path(path).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, no such user
        return False


def choose(names: Iterable[str], known: Iterable[str]) -> None:
    """Check that every name is known.

    Raises:
        MethodError: one is not; the message suggests the nearest names.
    """
    known = sorted(known)
    for name in names:
        if name == GAMMA_STAR:
            raise MethodError(
                f"{name} is no method to run: the scorer makes it of every run of finetune, so "
                "--method finetune gives it"
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise MethodError(
                f"no method {name!r}; {hint} (`htbench list methods` shows all; "
                "--plugin FILE adds your own)"
            )


def compute_digest() -> str:
    """Digest of the files in ``COMPUTES``."""
    return digest_json({name: digest_file(PACKAGE / name) for name in COMPUTES})


# --- descriptions ----------------------------------------------------------------------------

Describe = Callable[[MethodSource], Any]


def described(source: MethodSource, ask: Describe) -> MethodDescription:
    """The description of a method: from the cache, or from a child by ``ask``.

    Args:
        source: where the method is.
        ask: gives the JSON answer of a child that imported it (see ``runs/child.py``).

    Raises:
        MethodError: the code cannot be imported or does not keep to the contract.
    """
    cache = data_folder() / "methods" / f"{digest_json(_cache_key(source))}.json"
    if cache.is_file():
        try:
            answer = read_json(cache, MAX_DESCRIPTION_BYTES, MethodError)
            if answer["code"] == _code(source, answer["answer"]):
                return _checked(source, answer["answer"], answer["code"])
        except (HTBenchError, KeyError, TypeError):
            pass  # a damaged or stale entry is written anew
    answer = ask(source)
    if not isinstance(answer, dict):
        raise MethodError(f"{source.origin}: the method's description is not an object")
    code = _code(source, answer)
    description = _checked(source, answer, code)
    write_file(cache, canonical_json({"answer": answer, "code": code}))
    return description


def _cache_key(source: MethodSource) -> dict[str, Any]:
    return {"source": source.to_json(), "name": source.name, "contract": compute_digest()}


def _code(source: MethodSource, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Digests of the files and distributions that a description says it was loaded from.

    A plugin's own file counts whatever it says.
    """
    files, names = answer.get("files"), answer.get("distributions")
    if not _is_strings(files) or not _is_strings(names):
        raise MethodError(f"{source.origin}: the description lists no files and distributions")
    own = [str(source.file)] if source.file else []
    total = 0
    sums: list[list[str]] = []
    for name in sorted({*files, *own}):
        try:
            total += Path(name).stat().st_size
            if total > MAX_CODE_BYTES or len(sums) >= MAX_CODE_FILES:
                raise MethodError(
                    f"{source.origin}: the method loads more code than {MAX_CODE_FILES} files "
                    f"of {MAX_CODE_BYTES} bytes in all"
                )
            sums.append([Path(name).name, digest_file(Path(name))])
        except (OSError, ValueError) as error:
            raise MethodError(f"{source.origin}: cannot read its file {name[:200]!r}: {error}"
                              ) from None  # fmt: skip
    return {"files": sorted(sums), "distributions": sorted(map(_distribution, names))}


def _distribution(name: str) -> list[str]:
    try:
        found = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        raise MethodError(f"the distribution {name[:100]!r} of a method is not installed") from None
    record = found.read_text("RECORD") or ""
    return [name, found.version, digest_json(record)]


def _is_strings(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _checked(
    source: MethodSource, answer: Mapping[str, Any], code: Mapping[str, Any]
) -> MethodDescription:
    """A child's answer, checked field by field: its process has run strangers' code."""
    name = answer.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise MethodError(
            f"{source.origin}: a method is named {name!r}; use lower case letters, digits, dashes"
        )
    if source.name is not None and name != source.name:
        raise MethodError(f"{source.origin}: entry point {source.name!r} leads to method {name!r}")
    if name == GAMMA_STAR:
        raise MethodError(f"{source.origin}: {name} is what the scorer makes of finetune's "
                          "predictions; give the method another name")  # fmt: skip
    base, track, summary = answer.get("base"), answer.get("track"), answer.get("summary")
    if not (base is None or (isinstance(base, str) and _NAME.fullmatch(base))):
        raise MethodError(f"{source.origin}: base of {name} is {base!r}, not a method's name")
    if track not in ("standard", "oracle"):
        raise MethodError(f"{source.origin}: track of {name} is {track!r}")
    if track == "oracle" and not is_builtin(source):
        raise MethodError(
            f"{source.origin}: {name} asks for the oracle track, which only the suite's own "
            "methods may have; leave track as 'standard'"
        )
    if not isinstance(summary, str):
        raise MethodError(f"{source.origin}: {name} has no summary")
    needs = answer.get("needs", [])
    if not _is_strings(needs):
        raise MethodError(f"{source.origin}: needs of {name} is {needs!r}, not a tuple of strings")
    fields = tuple(_field(entry, name, source) for entry in _entries(answer.get("fields")))
    if len({f.name for f in fields}) != len(fields):
        raise MethodError(f"{source.origin}: {name} has two fields of one name")
    return MethodDescription(
        source=source,
        name=name,
        summary=_shown(summary),
        fields=fields,
        base=base,
        track=track,
        uses_features=answer.get("uses_features") is True,
        code=code,
        needs=tuple(map(_shown, needs[:MAX_NEEDS])),
    )


def _shown(text: str) -> str:
    """A method's own words, without what a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text.replace("``", ""))[:MAX_TEXT]


def _entries(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise MethodError("a method's description has no list of fields")
    return value


def _field(entry: Mapping[str, Any], method: str, source: MethodSource) -> Field:
    name, kind, default = entry.get("name"), entry.get("type"), entry.get("default")
    if not isinstance(name, str) or not name.isidentifier() or len(name) > MAX_TEXT:
        raise MethodError(f"{source.origin}: a field of {method} has no valid name")
    if not isinstance(kind, str) or kind not in _PYTHON_TYPES:
        raise MethodError(
            f"{source.origin}: field {name!r} of {method} has type {kind!r}; "
            f"a hyper-parameter is one of {', '.join(_PYTHON_TYPES)}"
        )
    if kind == "float" and type(default) is int and _is_plain(default):
        default = float(default)
    if type(default) is not _PYTHON_TYPES[kind] or not _is_plain(default):
        given = "none" if default is None else f"a {type(default).__name__}"
        raise MethodError(
            f"{source.origin}: field {name!r} of {method} needs a default that is "
            f"{_WANTED[kind]}; it has {given}"
        )
    return Field(name, kind, default)


def is_builtin(source: MethodSource) -> bool:
    """Whether the method is one of the suite's own: a module of the package ``baselines``."""
    ours = source.origin.startswith("holistic-transfer-bench ")
    return ours and source.module is not None and source.module.partition(".")[0] == "baselines"


def resolve(names: Iterable[str], plugins: Iterable[str], ask: Describe) -> list[MethodDescription]:
    """Describe the named methods, the plugins and every base that they start from.

    Args:
        names: names to look up; unknown ones are an error.
        plugins: arguments of ``--plugin``; these are always included.
        ask: asks a child to describe a method.

    Returns:
        Descriptions, bases before those that need them, otherwise in the order given.

    Raises:
        MethodError: unknown name, clash, or circle of bases.
    """
    from_files = [described(file_source(argument), ask) for argument in plugins]
    sources = entry_point_sources()
    added: dict[str, MethodDescription] = {}
    for description in from_files:
        clash = sources.get(description.name) or (
            added[description.name].source if description.name in added else None
        )
        if clash is not None:
            other = f"{clash.module} of {clash.origin}" if clash.module else clash.origin
            raise MethodError(
                f"two methods are named {description.name!r}: {other} and "
                f"{description.source.origin}; rename the plugin's"
            )
        added[description.name] = description
    wanted = list(dict.fromkeys([*names, *added]))
    choose(wanted, [*sources, *added])
    done: dict[str, MethodDescription] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            raise MethodError(f"methods start from each other in a circle: {circle}")
        if name in done:
            return
        choose([name], [*sources, *added])
        description = added.get(name) or described(sources[name], ask)
        if description.base is not None:
            if description.base not in (*sources, *added):
                raise MethodError(
                    f"{description.source.origin}: {name} is to start from {description.base!r}, "
                    "which is no method here (`htbench list methods` shows all)"
                )
            visit(description.base, (*path, name))
            if done[description.base].track == "oracle" and description.track != "oracle":
                raise MethodError(
                    f"{description.source.origin}: {name} starts from {description.base}, an upper "
                    "bound that has seen the missing classes; start from another method"
                )
        done[name] = description

    for name in wanted:
        visit(name, ())
    return list(done.values())


def installed_folders() -> tuple[Path, ...]:
    """Folders of installed distributions and of the standard library."""
    paths = sysconfig.get_paths()
    names = ("purelib", "platlib", "stdlib", "platstdlib")
    return tuple({Path(paths[name]).resolve() for name in names})
