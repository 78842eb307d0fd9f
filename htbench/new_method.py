"""Write the project of a new method from the templates in ``method_template``."""

from __future__ import annotations

import keyword
import re
import sys
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.files import check_output, new_folder
from benchmark.methods.find import entry_point_sources
from benchmark.patterns import METHOD_NAME
from benchmark.start import PACKAGES
from leaderboard.gamma_star import DERIVED

_NAME = re.compile(r"[a-z](-?[a-z0-9])*")
# Template -> the file that it becomes.
_FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "method.py.txt": "@MODULE@.py",
    "checks.py.txt": "test_@MODULE@.py",
    "README.md.txt": "README.md",
    "workflow.yml.txt": ".github/workflows/test.yml",
}


def write_project(name: str, folder: Path) -> tuple[Path, Path]:
    """Write the project of a method.

    Args:
        name: the method's name.
        folder: the folder to create.

    Returns:
        The folder, and the file of the method.

    Raises:
        UsageError: the name cannot be used, or the folder exists.
    """
    module = _module_name(name)
    check_output(folder, folder=True)
    if folder.exists():
        raise UsageError(f"{folder} exists; choose another folder with --out")
    values = {"@NAME@": name, "@MODULE@": module, "@CLASS@": _class_name(name)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as building:
        for template, file in _FILES.items():
            text = resources.files("htbench").joinpath("method_template", template).read_text()
            path = building / _filled(file, values)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_filled(text, values), encoding="utf-8")
    return folder, folder / f"{module}.py"


def _filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _module_name(name: str) -> str:
    """The module of a method's name.

    Raises:
        UsageError: the name or the module cannot be used.
    """
    if not (_NAME.fullmatch(name) and METHOD_NAME.fullmatch(name)):
        near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")[:64].strip("-")
        hint = f", such as {near}" if near else ""
        raise UsageError(
            f"{name[:100]!r} cannot be a method's name; use up to 64 lower-case letters, digits "
            f"and single dashes, beginning with a letter{hint}"
        )
    if name in DERIVED or name in entry_point_sources():
        raise UsageError(f"there is a method {name!r} already; choose another name")
    if keyword.iskeyword(_class_name(name)):  # none, true and false
        raise UsageError(
            f"a class cannot be called {_class_name(name)}; choose another name, such as "
            f"{name}-method"
        )
    module = name.replace("-", "_")
    taken = {*sys.stdlib_module_names, *PACKAGES, *keyword.kwlist, *keyword.softkwlist}
    if module in taken or find_spec(module) is not None:
        raise UsageError(
            f"a module {module!r} exists already; choose another name, such as {name}-method"
        )
    if _is_distribution(name):  # whose place the project would take when it is installed
        raise UsageError(
            f"a package {name!r} is installed; choose another name, such as {name}-method"
        )
    return module


def _is_distribution(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
