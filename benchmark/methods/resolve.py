"""The methods of a command: those it names, the plugins, and the bases of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from benchmark.errors import MethodError
from benchmark.methods.describe import Describe, MethodDescription, described
from benchmark.methods.find import MethodLocation, choose, entry_point_sources, file_source


def resolve(
    names: Iterable[str],
    plugins: Iterable[str],
    ask: Describe,
    derived: Mapping[str, str] = MappingProxyType({}),
) -> list[MethodDescription]:
    """Describe the named methods, the plugins and every base that they start from.

    Args:
        names: names to look up; unknown ones are an error.
        plugins: arguments of ``--plugin``; these are always included.
        ask: asks a child to describe a method.
        derived: names of result rows that are derived from another method's predictions, with the
            name of that method: they cannot be run, and no method may have one of these names.

    Returns:
        Descriptions, bases before those that need them, otherwise in the order given.

    Raises:
        MethodError: unknown or derived name, clash, or circle of bases.
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
    taken = sources | {name: description.source for name, description in added.items()}
    _refuse_derived(wanted, taken, derived)
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


def _refuse_derived(
    names: Iterable[str], taken: Mapping[str, MethodLocation], derived: Mapping[str, str]
) -> None:
    """Check that no method has the name of a derived result, and that none is to be run.

    Raises:
        MethodError: one has, or is.
    """
    for name, base in derived.items():
        if name in taken:
            raise MethodError(
                f"{taken[name].origin}: the name {name} is reserved for results that are derived "
                f"from {base}'s predictions; give the method another name"
            )
        if name in names:
            raise MethodError(
                f"{name} cannot be run: it is derived from {base}'s predictions; "
                f"use --method {base}"
            )
