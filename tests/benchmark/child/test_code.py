"""A child imports a method's own modules from where the driver says, before all other finders."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.child.code import OwnModules
from benchmark.jobs import CodeModule


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Callable[..., OwnModules]:
    """Make modules importable for one test."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def install(*modules: CodeModule) -> OwnModules:
        finder = OwnModules(modules)
        sys.meta_path.insert(0, finder)
        return finder

    return install


def test_modules_packages_and_packages_without_a_file(
    own: Callable[..., OwnModules], tmp_path: Path
) -> None:
    (tmp_path / "package").mkdir()
    for name in ("single.py", "package/__init__.py", "package/inner.py", "other.py"):
        (tmp_path / name).write_text(f"where = {name!r}\n")
    (tmp_path / "package" / "hidden.py").write_text("")
    finder = own(
        CodeModule("own_single", str(tmp_path / "single.py"), ()),
        CodeModule("own_package", str(tmp_path / "package/__init__.py"), ("/nowhere",)),
        CodeModule("own_package.inner", str(tmp_path / "package/inner.py"), ()),
        CodeModule("own_space", None, ("/nowhere",)),
        CodeModule("own_space.other", str(tmp_path / "other.py"), ()),
    )
    names = ("own_single", "own_package", "own_package.inner", "own_space.other")
    assert [importlib.import_module(name).where for name in names] == [
        "single.py",
        "package/__init__.py",
        "package/inner.py",
        "other.py",
    ]
    with pytest.raises(ModuleNotFoundError, match=r"own_package\.hidden"):
        importlib.import_module("own_package.hidden")
    assert finder.folders() == {tmp_path, Path("/")}


def test_they_hide_a_module_of_the_same_name(
    own: Callable[..., OwnModules], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "own_twin.py").write_text("where = 'elsewhere'\n")
    (tmp_path / "own_twin.py").write_text("where = 'own'\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    own(CodeModule("own_twin", str(tmp_path / "own_twin.py"), ()))
    assert importlib.import_module("own_twin").where == "own"
