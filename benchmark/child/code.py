"""Where a method's code is: what a child may read to import it."""

from __future__ import annotations

import importlib.abc
import importlib.util
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from benchmark.folders import ROOT, own_packages
from benchmark.keys import installed_folders


def open_code(
    module: str | None, file: str | None
) -> tuple[list[Path], list[Path], FilesBeside | None]:
    """The paths that importing a method reads. Imports nothing.

    Installed packages and our own are open to every run. A plugin file may import Python files
    beside it; a package of a checkout is found by its top-level name.

    Args:
        module: dotted name, or None.
        file: path of a plugin file, or None; without either, only our own packages are open.

    Returns:
        Paths to read; folders whose file names may be listed; and for a file the finder of what is
        beside it, to be added to ``sys.meta_path``.
    """
    own = list(own_packages())
    if file is not None:
        beside = FilesBeside(Path(file))
        return [*own, *beside.files.values()], [], beside
    if module is None:
        return own, [], None
    spec = importlib.util.find_spec(module.partition(".")[0])
    if spec is None or spec.origin is None:
        return own, [ROOT], None
    origin = Path(spec.origin).resolve()
    if any(origin.is_relative_to(folder) for folder in installed_folders()):
        return own, [ROOT], None
    code = origin.parent if origin.name == "__init__.py" else origin
    return [*own, code], [ROOT, code.parent], None


class FilesBeside(importlib.abc.MetaPathFinder):
    """Finds the Python files beside a plugin, last of all: they shadow no installed module.

    The plugin's folder, which may be a home folder, does not have to be listed for that.

    Attributes:
        files: name to file. A link counts if it leads to a Python file.
    """

    def __init__(self, plugin: Path) -> None:
        paths = (path for path in sorted(plugin.parent.glob("*.py")) if path.is_file())
        self.files = {path.stem: path for path in paths if path.resolve().suffix == ".py"}
        self.files[plugin.stem] = plugin

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a top-level module, if it is one of the files."""
        file = self.files.get(fullname) if path is None else None
        return None if file is None else importlib.util.spec_from_file_location(fullname, file)
