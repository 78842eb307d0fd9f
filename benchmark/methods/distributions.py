"""Installed distributions: which one a module belongs to, and what identifies its code.

Loads no torch.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from benchmark.files import digest_json

_BENCHMARK = "holistic-transfer-bench"


def find_spec(name: str) -> ModuleSpec | None:
    """The spec of a top-level module as a run finds it; imports nothing.

    A run does not find what is in the working directory or beside the script that started the
    command, unless ``PYTHONPATH`` or an installation names that folder.
    """
    for finder in sys.meta_path:
        if getattr(finder, "is_of_one_method", False):  # which this process has imported
            continue
        with contextlib.suppress(Exception):  # finders come from other distributions
            path = _search_path() if finder is PathFinder else None
            if (spec := finder.find_spec(name, path)) is not None:
                return spec
    return None


def _search_path() -> list[str]:
    """``sys.path`` without the entry that Python adds for the program itself."""
    folders = ("", str(Path.cwd()), str(Path(sys.argv[0]).resolve().parent))
    is_added = not sys.flags.safe_path and sys.path[0] in folders
    return sys.path[1:] if is_added else sys.path


def names_of(module: str) -> tuple[str, ...]:
    """The distributions that a top-level module belongs to."""
    with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
        metadata.distribution(module)
        return (module,)  # the usual case, for which not every distribution must be read
    return tuple(dict.fromkeys(_by_module().get(module, ())))


@cache
def _by_module() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def described(names: Iterable[str]) -> tuple[tuple[str, str, str], ...]:
    """Name, version and RECORD digest of distributions and of all that they require.

    The benchmark's own requirements are left out: they are the same for every method.
    """
    return tuple(sorted(map(_described, _with_requirements(names) - {_BENCHMARK})))


def needs_benchmark(names: Iterable[str]) -> bool:
    """Whether one of the distributions, or one that it requires, requires the benchmark."""
    return _BENCHMARK in _with_requirements(names)


def _with_requirements(names: Iterable[str]) -> set[str]:
    reached: set[str] = set()
    pending = [_canonical(name) for name in names]
    while pending:
        name = pending.pop()
        if name not in reached and name not in _requirements(_BENCHMARK) and _is_installed(name):
            reached.add(name)
            pending += [] if name == _BENCHMARK else _requirements(name)
    return reached


@cache
def _requirements(name: str) -> frozenset[str]:
    """Names that a distribution requires, without those of its extras."""
    texts = metadata.distribution(name).requires or []
    matches = [re.match(r"[\w.-]+", text) for text in texts if "extra ==" not in text]
    return frozenset(_canonical(match[0]) for match in matches if match)


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        return False
    return True


def _described(name: str) -> tuple[str, str, str]:
    distribution = metadata.distribution(name)
    return name, distribution.version, digest_json(distribution.read_text("RECORD") or "")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
