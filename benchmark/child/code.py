"""Import a method's own modules, and nothing else of the folders that they are in."""

from __future__ import annotations

import importlib.abc
import importlib.util
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from benchmark.jobs import CodeModule


class OwnModules(importlib.abc.MetaPathFinder):
    """Finds a method's own modules, first of all finders: the driver has decided where each is.

    No folder has to be listed for that, such as the home folder that a plugin may be in.

    Attributes:
        modules: by dotted name.
        is_of_one_method: tells the search for another method's modules to pass over this finder.
    """

    is_of_one_method = True

    def __init__(self, modules: Iterable[CodeModule]) -> None:
        self.modules = {module.name: module for module in modules}

    def folders(self) -> set[Path]:
        """The folders that its top-level modules are in."""
        top = [module for name, module in self.modules.items() if "." not in name]
        packages = {Path(folder).parent for module in top for folder in module.folders}
        return packages | {Path(m.file).parent for m in top if m.file and not m.folders}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module, if it is one of them."""
        module = self.modules.get(fullname)
        if module is None:
            return None
        if module.file is None:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = list(module.folders)
            return spec
        return importlib.util.spec_from_file_location(
            fullname, module.file, submodule_search_locations=list(module.folders) or None
        )
