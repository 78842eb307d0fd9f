"""Find methods by entry point or file. Imports no method."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmark.errors import MethodError
from benchmark.files import is_file
from benchmark.folders import expanded
from benchmark.patterns import METHOD_NAME
from benchmark.text import near

GROUP = "holistic_transfer.methods"
REFERENCES = ("source", "finetune")  # the unadapted model, and the default adaptation
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(frozen=True)
class MethodLocation:
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


def entry_point_sources() -> dict[str, MethodLocation]:
    """Every method that an installed distribution registers, by name.

    Raises:
        MethodError: two distributions register different things under one name, or an entry point
            names no class.
    """
    locations: dict[str, MethodLocation] = {}
    origins: dict[metadata.Distribution | None, str] = {None: "unknown"}
    for point in metadata.entry_points(group=GROUP):
        dist = point.dist
        if dist is not None and dist not in origins:  # each look-up parses the metadata
            origins[dist] = f"{dist.name} {dist.version}"
        origin = origins[dist]
        try:
            source = MethodLocation(point.name, point.module, point.attr, None, origin)
        except AttributeError:  # as Python has it where the value has another form
            raise MethodError(
                f"{origin}: its entry point {point.name} = {point.value} is not of the form "
                "package.module:Class; correct it and install the package again, or uninstall it"
            ) from None
        other = locations.setdefault(point.name, source)
        if (other.module, other.attribute) != (source.module, source.attribute):
            raise MethodError(
                f"two methods are named {point.name!r}: {other.module}:{other.attribute} of "
                f"{other.origin} and {source.module}:{source.attribute} of {source.origin}; "
                "uninstall one of them"
            )
    return dict(sorted(locations.items()))


def builtin_methods() -> tuple[str, ...]:
    """Names of the benchmark's own methods: those of ``REFERENCES``, then the others.

    Raises:
        MethodError: two distributions register different things under one name.
    """
    own = [name for name, source in entry_point_sources().items() if is_builtin(source)]
    return tuple(sorted(own, key=reference_first))


def reference_first(name: str) -> tuple[bool | str, ...]:
    """A key to sort names of methods by: those of ``REFERENCES``, then the others by name."""
    return (*(name != reference for reference in REFERENCES), name)


def file_source(argument: str, option: str = "--plugin") -> MethodLocation:
    """The method of ``path/to/file.py[:Class]``.

    Args:
        argument: as it was typed.
        option: the option that it was typed after; empty if it stood alone.

    Raises:
        MethodError: there is no such file, or the class is not an identifier.
    """
    start = f"{option} {argument}: " if option else ""
    path, colon, attribute = _parts(argument)
    if not _is_file(path):
        raise MethodError(f"{start}{_no_file(path or argument)}")
    file = expanded(path)
    if file.suffix != ".py":
        raise MethodError(f"{start}{file.name} is not a Python file (.py)")
    if colon and not _ATTRIBUTE.fullmatch(attribute):
        raise MethodError(f"{start}{attribute!r} is not the name of a class")
    return MethodLocation(None, None, attribute or None, file.resolve(), str(file.resolve()))


def is_method_file(argument: str) -> bool:
    """Whether the file of ``path/to/file.py[:Class]`` exists."""
    return _is_file(_parts(argument)[0])


def _parts(argument: str) -> tuple[str, str, str]:
    """The path of ``path/to/file.py[:Class]``, which may have a colon, the colon and the class."""
    return (argument, "", "") if _is_file(argument) else argument.rpartition(":")


def _no_file(path: str) -> str:
    """What is wrong with a path that is not that of a file, with what may be meant."""
    if _is_file(f"{path}.py"):
        return f"there is no file {path!r}; did you mean {path}.py?"
    if path in entry_point_sources():
        return f"there is no file {path!r}, but an installed method; use --method {path}"
    exists = os.path.exists(expanded(path))  # noqa: PTH110 - an error for a text that is too long
    return f"file {path!r} {'is not a regular file' if exists else 'does not exist'}"


def _is_file(path: str) -> bool:
    return is_file(expanded(path))


def check_known_methods(names: Iterable[str], known: Iterable[str]) -> None:
    """Check that every name is known.

    Raises:
        MethodError: one is not; the message suggests the nearest names.
    """
    known = sorted(known)
    for name in names:
        if name not in known:
            if name.partition(":")[0].endswith(".py"):
                raise MethodError(f"{name!r} is a file, not a method's name; use --plugin {name}")
            file = Path(f"{name.replace('-', '_')}.py")
            if METHOD_NAME.fullmatch(name.replace("_", "-")) and file.is_file():
                raise MethodError(
                    f"no method {name!r}; for the one in {file}, use --plugin {file}, or "
                    f"`htbench method try {file}`"
                )
            label, bracket, settings = name.partition("(")
            if bracket and label in known:
                fields = [s for s in settings.removesuffix(")").split(", ") if "=" in s]
                options = [f"--method {label}", *(f"--set {field}" for field in fields)]
                raise MethodError(
                    f"no method {name!r}, which is the label of a row; name the method, and its "
                    f"settings with --set: {' '.join(options)}"
                )
            hint = near(name, known).rstrip() or f"known: {', '.join(known)}"
            raise MethodError(
                f"no method {name!r}; {hint} (`htbench list methods` shows all; "
                "--plugin FILE adds your own)"
            )


def is_builtin(source: MethodLocation) -> bool:
    """Whether the method is one of the benchmark's own: a module of the package ``baselines``."""
    ours = source.origin.startswith("holistic-transfer-bench ")
    return ours and source.module is not None and source.module.partition(".")[0] == "baselines"
