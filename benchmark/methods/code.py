"""The closed set of a method's own files, found before any of its code runs.

A run may read these files and no other of the same folders, and its key covers each of them:

    the plugin's file
    Python files and packages beside it that are imported, also inside functions
    data files that the class declares in ``files``
    the whole of each library that is imported from ``PYTHONPATH`` or an editable installation
    the modules of ``baselines`` that are imported

Installed packages can be read by every run. The key has name, version and RECORD digest of those
that are imported and of their requirements, except the benchmark's own. Loads no torch.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import MethodError
from benchmark.folders import ROOT, installed_folders
from benchmark.jobs import CodeModule, MethodCode
from benchmark.methods.distributions import described, find_spec, names_of, needs_benchmark
from benchmark.methods.files import MAX_CODE_BYTES, OwnFile, read_own_file
from benchmark.methods.imports import (
    MAX_SOURCE_BYTES,
    declared_files,
    has_relative_imports,
    imports_of,
)
from benchmark.start import PACKAGES

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from benchmark.methods.find import MethodLocation

MAX_CODE_FILES = 2000
MAX_DEPTH = 32  # of packages in packages
PREFIX = "htbench_plugin_"  # of the module of a plugin that is not in a package
_BASELINES = "baselines"


@dataclass(frozen=True)
class OwnCode:
    """All of a method's own code.

    Attributes:
        message: what a child needs to import it.
        files: its own files, by name.
        distributions: name, version and RECORD digest of the installed ones that it imports.
        declared: names of the declared data files, as the class has them, each with what is wrong
            with it, or None.
    """

    message: MethodCode
    files: tuple[OwnFile, ...]
    distributions: tuple[tuple[str, str, str], ...]
    declared: Mapping[str, str | None]

    @property
    def facts(self) -> dict[str, Any]:
        """The part of a run's key that identifies the code."""
        return {
            "files": [[file.name, file.sha256] for file in self.files],
            "distributions": [list(entry) for entry in self.distributions],
        }


def collect_code(location: MethodLocation) -> OwnCode:
    """Find a method's own files and digest them.

    Raises:
        MethodError: a file is missing, too large or not a regular file, or there are too many.
    """
    return _Collector(location).collect(location)


@dataclass(frozen=True)
class _Place:
    """Where a module is: its file, and the folders of its submodules if it is a package."""

    file: Path | None
    folders: tuple[Path, ...] = ()

    def is_same(self, other: _Place) -> bool:
        mine, theirs = (
            [p.resolve() for p in filter(None, [x.file, *x.folders])] for x in (self, other)
        )
        return mine == theirs


def _find_in(folders: Iterable[Path], name: str) -> _Place | None:
    """The module of a name in one of the folders, as Python would find it."""
    namespace: list[Path] = []
    for folder in folders:
        inner = folder / name
        if _is_python(package := inner / "__init__.py"):
            return _Place(package, (inner,))
        for suffix in (*EXTENSION_SUFFIXES, ".py"):
            if _is_python(file := folder / f"{name}{suffix}"):
                return _Place(file)
        if inner.is_dir():
            namespace.append(inner)
    return _Place(None, tuple(namespace)) if namespace else None


def _is_python(path: Path) -> bool:
    """Whether a path is a regular file, or a link to one, with the suffix of a module."""
    return path.is_file() and path.resolve().name.endswith((".py", *EXTENSION_SUFFIXES))


class _Collector:
    """Follows import statements from a method's module to all files of the method."""

    def __init__(self, location: MethodLocation) -> None:
        self.origin = location.origin
        self.files: dict[Path, OwnFile] = {}
        self.size = 0
        self.modules: dict[str, CodeModule | None] = {}  # by dotted name; None: not its own
        self.names: dict[str, str] = {}  # module's name to the beginning of its files' names
        self.followed: set[str] = set()
        self.pending: list[tuple[str, bytes, str]] = []  # name, source, package
        self.installed: set[str] = set()  # distributions
        self.libraries: set[str] = set()
        self.declared: dict[str, str | None] = {}
        self.checked: set[str] = set()  # of the declared names
        self.beside: list[Path] = []
        self.package: tuple[str, _Place] | None = None  # the plugin's, if it needs one
        self.real_names: dict[str, str] = {}  # of top-level modules that have another name here

    def collect(self, location: MethodLocation) -> OwnCode:
        """The method's own code."""
        if location.file is not None:
            module = self.add_plugin(location.file)
        else:
            assert location.module is not None
            module = location.module
            self.require(module)
        self.follow_imports()
        if location.file is not None:
            while new := self.declared.keys() - self.checked:
                self.add_data(location.file.parent, module, sorted(new))
                self.follow_imports()  # a declared Python file may import, and declare, others
        is_installed = location.file is None and self.modules[module.partition(".")[0]] is None
        baselines = _find_in([ROOT], _BASELINES)
        if baselines and (is_installed or needs_benchmark(self.installed)):
            self.add_library(_BASELINES, baselines)  # installed code is not followed
        files = tuple(sorted(self.files.values(), key=lambda file: (file.name, file.sha256)))
        modules = [self.modules[name] for name in sorted(self.modules)]
        paths = tuple(str(file.path) for file in files)
        message = MethodCode(module, location.attribute, tuple(filter(None, modules)), paths)
        return OwnCode(message, files, described(self.installed), self.declared)

    # --- the plugin's own folder ---

    def add_plugin(self, file: Path) -> str:
        """Add the plugin's file; return the name that its module is imported under."""
        source = self.read(file)
        self.beside = [file.parent]
        stem = re.sub(r"\W", "_", file.stem)
        folder, above = file.parent, [file.parent.name]
        while (folder / "__init__.py").is_file() and (folder.parent / "__init__.py").is_file():
            folder = folder.parent
            above.insert(0, folder.name)
        if not has_relative_imports(source) and not self._names_package(source, folder):
            module = PREFIX + stem
            self.modules[module] = CodeModule(module, str(file), ())
        else:
            self.beside.append(folder.parent)
            place = _find_in([folder.parent], folder.name)
            assert place is not None
            top = above[0]
            if not top.isidentifier() or not self._is_free(top, place):
                top = PREFIX + re.sub(r"\W", "_", top)
                self.real_names[top] = above[0]
            self.package = (top, place)
            module = ".".join([top, *above[1:], stem])
            self.require(".".join([top, *above[1:]]))
            self.modules[module] = CodeModule(module, str(file), ())
        self.add_file(self.file_name(module, file), file, source)
        self.followed.add(module)
        self.follow(module, file, source, module.rpartition(".")[0])
        return module

    def _names_package(self, source: bytes, folder: Path) -> bool:
        """Whether the plugin imports its own package by name, which is nowhere else."""
        name = folder.name
        return (
            (folder / "__init__.py").is_file()
            and any(one.module.partition(".")[0] == name for one in imports_of(source, ""))
            and _find_in(self.beside, name) is None
            and name not in sys.stdlib_module_names
            and find_spec(name) is None
        )

    def _is_free(self, name: str, place: _Place) -> bool:
        """Whether no other module has the name of the plugin's package."""
        if name in sys.stdlib_module_names or name in PACKAGES:
            return False
        spec = find_spec(name)
        return spec is None or _place_of(spec).is_same(place)

    def add_data(self, folder: Path, module: str, names: Iterable[str]) -> None:
        """Add data files that classes declare; a Python file among them may be imported."""
        package = module.split(".")[:-1]
        above = [self.real_names.get(part, part) for part in package]
        for name in names:
            self.checked.add(name)
            path, parts = folder / name, Path(name).parts
            self.declared[name] = problem = _name_problem(name) or _link_problem(path, folder)
            if problem is not None:
                continue
            self.add_file("/".join([*above, *parts]), path)
            if name.endswith(".py"):
                inner = [*parts[:-1], path.stem]
                for dotted in {".".join(inner), ".".join([*package, *inner])}:
                    self.require(dotted)

    # --- modules ---

    def follow_imports(self) -> None:
        """Add all that the added modules import, and what those import."""
        while self.pending:
            name, source, package = self.pending.pop()
            if name.partition(".")[0] not in self.libraries:
                self.declared.update(dict.fromkeys(declared_files(source)))
            for statement in imports_of(source, package):
                module = self.require(statement.module)
                if module is None or not module.folders:
                    continue
                for imported in statement.names:
                    inside = _modules_in(module) if imported == "*" else [imported]
                    for leaf in inside:
                        self.require(f"{module.name}.{leaf}")

    def require(self, name: str) -> CodeModule | None:
        """Add a module if it is one of the method's own; its imports are followed later."""
        if name.count(".") > MAX_DEPTH:
            return None
        parent = name.rpartition(".")[0]
        above = self.require(parent) if parent else None
        if name not in self.modules:
            self.modules[name] = None
            place = self.inside(name, above) if above else None if parent else self.top_level(name)
            if place is not None and self.modules[name] is None:
                self.add_module(name, place)
        module = self.modules[name]
        if module is not None and module.file is not None and name not in self.followed:
            self.followed.add(name)
            if module.file.endswith(".py"):
                file, package = Path(module.file), name if module.folders else parent
                self.follow(name, file, self.read(file), package)
        return module

    def follow(self, name: str, file: Path, source: bytes, package: str) -> None:
        """Follow the imports of a module later.

        Raises:
            MethodError: its file is too large to be read as Python.
        """
        is_library = any(name == top or name.startswith(f"{top}.") for top in self.libraries)
        if len(source) > MAX_SOURCE_BYTES and not is_library:
            raise MethodError(
                f"{self.origin}: the Python file {file} is larger than {MAX_SOURCE_BYTES >> 20} "
                "MiB; put its data into a file that the class declares in `files`"
            )
        self.pending.append((name, source, package))

    def add_module(self, name: str, place: _Place) -> None:
        """Add a module and its file."""
        file = None if place.file is None else str(place.file)
        self.modules[name] = CodeModule(name, file, tuple(map(str, place.folders)))
        if place.file is not None:
            self.add_file(self.file_name(name, place.file), place.file)

    def file_name(self, module: str, file: Path) -> str:
        """The name of a module's file, relative to the folder of its top-level package."""
        parts = module.split(".")
        parts[0] = self.real_names.get(parts[0], parts[0])
        above = parts if file.name == "__init__.py" else parts[:-1]
        return "/".join([*above, file.name])

    def inside(self, name: str, package: CodeModule) -> _Place | None:
        """Where a submodule of one of the method's own packages is."""
        place = _find_in(map(Path, package.folders), name.rpartition(".")[2])
        if place is not None and package.file is None and package.name in self.libraries:
            return self.add_library(name, place)
        return place

    def top_level(self, name: str) -> _Place | None:
        """Where a top-level module is, if it is one of the method's own.

        What is installed or on ``PYTHONPATH`` comes before what is beside the plugin.
        """
        if self.package is not None and name == self.package[0]:
            return self.package[1]
        if name in PACKAGES:
            self.libraries.add(name)
            return _find_in([ROOT], name) if name == _BASELINES else None
        if name in sys.stdlib_module_names:
            return None
        beside = _find_in(self.beside, name)
        spec = find_spec(name)
        place = None if spec is None else _place_of(spec)
        if place is None or (beside is not None and beside.is_same(place)):
            return beside
        if place.file is None and beside is not None and beside.file is not None:
            return beside  # a folder that merely has the name counts last
        if place.file is None and not place.folders:
            return None  # built in
        anchor = (place.file or place.folders[0]).resolve()
        is_installed = any(map(anchor.is_relative_to, installed_folders()))
        if is_installed and (distributions := names_of(name)):
            self.installed.update(distributions)
            return None
        return self.add_library(name, place)

    def add_library(self, name: str, place: _Place) -> _Place:
        """Add all files of a package that is not installed, so that it may import as it likes."""
        self.libraries.add(name)
        if place.file is None:
            return place  # such a folder may hold anything: only packages in it are taken whole
        for folder in place.folders:
            for path in self.walk(folder):
                self.add_file("/".join([*name.split("."), *path.relative_to(folder).parts]), path)
                self.add_library_module(name, folder, path)
        return place

    def add_library_module(self, name: str, folder: Path, path: Path) -> None:
        """Make a file of a library importable, with the packages around it."""
        suffix = next((s for s in (*EXTENSION_SUFFIXES, ".py") if path.name.endswith(s)), None)
        if suffix is None:
            return
        parts = [*path.relative_to(folder).parts[:-1], path.name.removesuffix(suffix)]
        for depth in range(len(parts)):
            package = ".".join([name, *parts[:depth]])
            if self.modules.get(package) is None:
                inner = folder.joinpath(*parts[:depth])
                start = inner / "__init__.py"
                file = str(start) if start.is_file() else None
                self.modules[package] = CodeModule(package, file, (str(inner),))
        if parts[-1] != "__init__":
            module = ".".join([name, *parts])
            if self.modules.get(module) is None:
                self.modules[module] = CodeModule(module, str(path), ())

    def walk(self, folder: Path) -> Iterable[Path]:
        """The regular files of a package; links that lead out of it do not count."""
        root = folder.resolve()
        for here, folders, names in os.walk(folder):
            folders[:] = sorted(f for f in folders if f != "__pycache__" and not f.startswith("."))
            for path in (Path(here, name) for name in sorted(names)):
                if path.is_file() and path.resolve().is_relative_to(root):
                    yield path

    # --- files ---

    def read(self, path: Path) -> bytes:
        """The bytes of a file.

        Raises:
            MethodError: it cannot be read.
        """
        try:
            return read_own_file(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            message = f"{self.origin}: cannot read the method's file {path}: {reason}"
            raise MethodError(message) from None

    def add_file(self, name: str, path: Path, data: bytes | None = None) -> None:
        """Add a file to the set.

        Raises:
            MethodError: the set becomes too large.
        """
        if path in self.files:
            return
        data = self.read(path) if data is None else data
        self.size += len(data)
        if self.size > MAX_CODE_BYTES or len(self.files) >= MAX_CODE_FILES:
            raise MethodError(
                f"{self.origin}: the method's own files exceed {MAX_CODE_FILES} files or "
                f"{MAX_CODE_BYTES >> 20} MiB at {path}; install large libraries with pip, and "
                "declare only the data files that the method reads"
            )
        self.files[path] = OwnFile(name, path, sha256(data).hexdigest())


def _place_of(spec: ModuleSpec) -> _Place:
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    return _Place(file, tuple(map(Path, spec.submodule_search_locations or ())))


def _modules_in(package: CodeModule) -> list[str]:
    """Names of the modules directly in a package."""
    folders = map(Path, package.folders)
    return sorted(path.stem for folder in folders for path in folder.glob("*.py"))


def _name_problem(name: str) -> str | None:
    if not name or "\0" in name or len(name) > 1000:
        return "is not a file's name"
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return "is outside the plugin's folder"
    return None


def _link_problem(path: Path, folder: Path) -> str | None:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or 'a loop of links'})"
    if not real.is_relative_to(folder.resolve()):
        return "is a link that leads outside the plugin's folder"
    return None if real.is_file() else "is not a regular file"
