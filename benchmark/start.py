"""Resolve the benchmark's own packages in one place, whatever else is on ``sys.path``.

A user's ``benchmark.py`` or ``baselines/`` may come earlier on ``sys.path`` than the benchmark: in
the working directory, beside the script that runs, or on ``PYTHONPATH``. :func:`install` puts a
finder first that resolves the benchmark's packages to the folders beside this one.

This file imports the standard library only. ``htbench`` loads it by its path, before anything of
the benchmark is imported. A child process of the benchmark runs it by its path::

    python -P .../benchmark/start.py MODULE ARGUMENT...
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("htbench", "benchmark", "baselines", "leaderboard", "data_manifests")


class OwnPackages:
    """A finder of the benchmark's packages; for any other name it finds nothing."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of one of the benchmark's packages."""
        if name not in PACKAGES:
            return None
        folder = ROOT / name
        return importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def install() -> None:
    """Put the finder first, and forget modules of other origin that have our packages' names.

    A script that imported such a module keeps its own reference to it.
    """
    if any(type(finder).__name__ == OwnPackages.__name__ for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, OwnPackages())
    for name in PACKAGES:
        module = sys.modules.get(name)
        if module is not None and not _is_own(module, ROOT / name):
            for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[loaded]


def _is_own(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().parent == folder


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs one of the benchmark's modules in a new interpreter."""
    return [sys.executable, "-P", __file__, module, *arguments]


if __name__ == "__main__":
    install()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
