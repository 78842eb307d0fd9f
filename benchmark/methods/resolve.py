"""The methods of a command: those it names, the plugins, and the bases of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from benchmark.errors import MethodError
from benchmark.methods.describe import Describe, MethodDescription, describe_cached
from benchmark.methods.find import (
    MethodLocation,
    check_known_methods,
    entry_point_sources,
    file_source,
)
from benchmark.text import near


def resolve(
    names: Iterable[str],
    plugins: Iterable[str],
    ask: Describe,
    derived: Mapping[str, str] = MappingProxyType({}),
    *,
    keep: bool = True,
) -> list[MethodDescription]:
    """Describe the named methods, the plugins and every base that they start from.

    Args:
        names: names to look up; unknown ones are an error.
        plugins: arguments of ``--plugin``; these are always included.
        ask: asks a child to describe a method.
        derived: names of result rows that are derived from another method's predictions, with the
            name of that method: they cannot be run, and no method may have one of these names.
        keep: see :func:`benchmark.methods.describe.describe_cached`.

    Returns:
        Descriptions, bases before those that need them, otherwise in the order of the arguments.

    Raises:
        MethodError: unknown or derived name, clash, or circular bases.
    """
    sources = entry_point_sources()
    added = _plugins(plugins, sources, ask, keep=keep)
    known = [*sources, *added]
    requested = list(dict.fromkeys([*names, *added]))
    locations = sources | {name: description.source for name, description in added.items()}
    _check_derived(requested, locations, derived)
    check_known_methods(requested, known)
    descriptions: dict[str, MethodDescription] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            raise MethodError(f"circular base methods: {circle}")
        if name in descriptions:
            return
        description = added.get(name) or describe_cached(sources[name], ask, keep=keep)
        if description.base is not None:
            if description.base not in known:
                raise MethodError(
                    f"{description.source.origin}: {name} declares base={description.base!r}, "
                    f"which is not registered; {near(description.base, known)}"
                    "(`htbench list methods` shows all)"
                )
            visit(description.base, (*path, name))
            _check_base(description, descriptions[description.base])
        descriptions[name] = description

    for name in requested:
        visit(name, ())
    return list(descriptions.values())


def _plugins(
    arguments: Iterable[str], sources: Mapping[str, MethodLocation], ask: Describe, *, keep: bool
) -> dict[str, MethodDescription]:
    """The methods in plugin files by name.

    Raises:
        MethodError: two of them, or one and an installed method, have the same name.
    """
    added: dict[str, MethodDescription] = {}
    for file in dict.fromkeys(file_source(argument) for argument in arguments):  # each once
        description = describe_cached(file, ask, keep=keep)
        name = description.name
        clash = sources.get(name) or (added[name].source if name in added else None)
        if clash is not None and clash.file == file.file:
            raise MethodError(
                f"two plugins are the method {name!r} of {file.origin}; leave one out, or rename "
                "one if they are two classes"
            )
        if clash is not None:
            other = f"{clash.module} of {clash.origin}" if clash.module else clash.origin
            raise MethodError(
                f"two methods are named {name!r}: {other} and "
                f"{description.source.origin}; rename the plugin's"
            )
        added[name] = description
    return added


def _check_base(method: MethodDescription, base: MethodDescription) -> None:
    """Check that a method may start from another.

    Raises:
        MethodError: the base is an oracle and the method is not, or it cannot be started from.
    """
    start = f"{method.source.origin}: {method.name} starts from {base.name}"
    if base.track == "oracle" and method.track != "oracle":
        raise MethodError(
            f"{start}, an oracle that has seen the missing classes; start from another method"
        )
    if not base.is_base:
        raise MethodError(
            f"{start}, whose adapted model is not an htbench.Classifier and so cannot be started "
            "from; choose another base"
        )


def _check_derived(
    names: Iterable[str], locations: Mapping[str, MethodLocation], derived: Mapping[str, str]
) -> None:
    """Check that no method has the name of a derived result and that none is requested.

    Raises:
        MethodError: a method has such a name, or one is requested.
    """
    for name, base in derived.items():
        if name in locations:
            raise MethodError(
                f"{locations[name].origin}: the name {name} is reserved for results that are "
                f"derived from {base}'s predictions; give the method another name"
            )
        if name in names:
            raise MethodError(
                f"{name} cannot be run: it is derived from {base}'s predictions; "
                f"use --method {base}"
            )
