"""The files that a run of a method may read, and that its key covers, are found by imports."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from benchmark.errors import MethodError
from benchmark.folders import ROOT
from benchmark.methods import code as code_module
from benchmark.methods.code import OwnCode, collect_code
from benchmark.methods.find import MethodLocation, entry_point_sources, file_source
from benchmark.methods.imports import MAX_SOURCE_BYTES

Collect = Callable[[str], OwnCode]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Write files of a folder: ``write({"mine.py": "import x"})``."""

    def files(contents: dict[str, str]) -> None:
        for name, text in contents.items():
            path = tmp_path / "home" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return files


@pytest.fixture
def collect(tmp_path: Path) -> Collect:
    return lambda name: collect_code(file_source(str(tmp_path / "home" / name)))


def names(code: OwnCode) -> list[str]:
    return [file.name for file in code.files]


class TestBesideThePlugin:
    @pytest.mark.parametrize(
        ("source", "others"),
        [
            ("", []),
            ("import one", ["one.py"]),
            ("def f():\n    import one", ["one.py"]),
            ("from one import x", ["one.py"]),
            ("import two", ["one.py", "two.py"]),
            ("import pack", ["pack/__init__.py"]),
            ("from pack import inner", ["pack/__init__.py", "pack/inner.py"]),
            ("from pack import name", ["pack/__init__.py"]),
            ("import pack.inner", ["pack/__init__.py", "pack/inner.py"]),
            ("from pack.both import x", ["pack/__init__.py", "pack/both.py", "pack/inner.py"]),
            ("from pack import *", ["pack/__init__.py", "pack/both.py", "pack/inner.py"]),
            ("import space.inner", ["space/inner.py"]),
            ("import nowhere, torch, json, click", []),
            ("import one.inner", ["one.py"]),
        ],
    )
    def test_only_what_is_imported(
        self, write: Callable[..., None], collect: Collect, source: str, others: list[str]
    ) -> None:
        write({"mine.py": source, "one.py": "", "two.py": "import one", "secret.txt": "labels"})
        write({"pack/__init__.py": "", "pack/inner.py": "", "pack/data.txt": "", "unused.py": ""})
        write({"pack/both.py": "from . import inner\n", "space/inner.py": ""})
        code = collect("mine.py")
        assert names(code) == sorted([*others, "mine.py"])
        assert sorted(code.message.files) == sorted(str(file.path) for file in code.files)
        for file in code.files:
            assert file.sha256 == sha256(file.path.read_bytes()).hexdigest()

    def test_modules_have_the_names_that_the_imports_use(
        self, write: Callable[..., None], collect: Collect
    ) -> None:
        write({"my-plugin.py": "import pack.inner", "pack/__init__.py": "", "pack/inner.py": ""})
        message = collect("my-plugin.py").message
        assert message.module == "htbench_plugin_my_plugin"
        assert {m.name for m in message.modules} == {message.module, "pack", "pack.inner"}

    def test_nothing_hides_a_module_of_python_or_of_a_package(
        self, write: Callable[..., None], collect: Collect
    ) -> None:
        hiding = ("json", "torch", "benchmark", "baselines", "leaderboard", "click")
        write({f"{name}.py": "" for name in hiding} | {"mine.py": f"import {', '.join(hiding)}"})
        assert names(collect("mine.py")) == ["baselines/__init__.py", "mine.py"]

    def test_a_circle_and_a_long_chain_of_imports(
        self, write: Callable[..., None], collect: Collect
    ) -> None:
        write({f"m{i}.py": f"import m{(i + 1) % 1500}" for i in range(1500)})
        write({"mine.py": "import m0"})
        assert len(collect("mine.py").files) == 1501

    def test_a_link_counts_if_it_leads_to_a_python_file(
        self, write: Callable[..., None], collect: Collect, tmp_path: Path
    ) -> None:
        write({"mine.py": "import linked, secret, folder, pipe", "labels.txt": ""})
        home = tmp_path / "home"
        (tmp_path / "elsewhere.py").touch()
        (home / "linked.py").symlink_to(tmp_path / "elsewhere.py")
        (home / "secret.py").symlink_to(home / "labels.txt")
        (home / "folder.py").mkdir()
        os.mkfifo(home / "pipe.py")
        assert names(collect("mine.py")) == ["linked.py", "mine.py"]

    def test_too_much(
        self, write: Callable[..., None], collect: Collect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write({"mine.py": "import one", "one.py": "#" * 2000})
        monkeypatch.setattr(code_module, "MAX_CODE_BYTES", 1000)
        with pytest.raises(MethodError, match=r"own files exceed 2000 files or .*one\.py; inst"):
            collect("mine.py")
        monkeypatch.undo()
        monkeypatch.setattr(code_module, "MAX_CODE_FILES", 1)
        with pytest.raises(MethodError, match="own files exceed 1 files or 64 MiB"):
            collect("mine.py")

    def test_a_python_file_that_is_data(self, write: Callable[..., None], collect: Collect) -> None:
        write({"mine.py": "import table", "table.py": "#" * (MAX_SOURCE_BYTES + 1)})
        with pytest.raises(MethodError, match=r"table\.py is larger than 1 MiB; put its data into"):
            collect("mine.py")


class TestAPluginInAPackage:
    def test_relative_imports(
        self, write: Callable[..., None], collect: Collect, tmp_path: Path
    ) -> None:
        write({"top/__init__.py": "", "top/shared.py": "", "top/sub/__init__.py": ""})
        write({"top/sub/near.py": "", "top/sub/mine.py": "from .near import x\nfrom .. import y"})
        write({"top/sub/far.py": "", "top/y.py": "from top import shared"})
        code = collect("top/sub/mine.py")
        assert code.message.module == "top.sub.mine"
        assert names(code) == [
            "top/__init__.py",
            "top/shared.py",
            "top/sub/__init__.py",
            "top/sub/mine.py",
            "top/sub/near.py",
            "top/y.py",
        ]

    def test_a_folder_without_a_package_file(
        self, write: Callable[..., None], collect: Collect
    ) -> None:
        write({"pk/mine.py": "from .near import x", "pk/near.py": ""})
        code = collect("pk/mine.py")
        assert (code.message.module, names(code)) == ("pk.mine", ["pk/mine.py", "pk/near.py"])

    def test_imports_of_the_package_by_name(
        self, write: Callable[..., None], collect: Collect
    ) -> None:
        write({"top/__init__.py": "", "top/shared.py": "", "top/sub/__init__.py": ""})
        write({"top/sub/mine.py": "from top.shared import x"})
        code = collect("top/sub/mine.py")
        assert code.message.module == "top.sub.mine"
        assert "top/shared.py" in names(code)

    def test_a_folder_that_names_no_package(
        self, write: Callable[..., None], collect: Collect
    ) -> None:
        write({"pk/mine.py": "import pk", "pk/near.py": ""})  # no __init__.py
        assert collect("pk/mine.py").message.module == "htbench_plugin_mine"
        write({"torch/__init__.py": "", "torch/mine.py": "import torch"})  # the installed one
        assert collect("torch/mine.py").message.module == "htbench_plugin_mine"

    @pytest.mark.parametrize("folder", ["torch", "json", "my-methods", "baselines"])
    def test_a_folder_whose_name_is_taken(
        self, write: Callable[..., None], collect: Collect, folder: str
    ) -> None:
        write({f"{folder}/mine.py": "from .near import x", f"{folder}/near.py": ""})
        code = collect(f"{folder}/mine.py")
        assert code.message.module == f"htbench_plugin_{folder.replace('-', '_')}.mine"
        assert names(code) == [f"{folder}/mine.py", f"{folder}/near.py"]


class TestDeclaredFiles:
    def test_they_are_added(self, write: Callable[..., None], collect: Collect) -> None:
        write({"mine.py": "class A(B):\n    files = ('a.json', 'sub/b.txt')"})
        write({"a.json": "{}", "sub/b.txt": "", "sub/c.txt": ""})
        code = collect("mine.py")
        assert names(code) == ["a.json", "mine.py", "sub/b.txt"]
        assert code.declared == {"a.json": None, "sub/b.txt": None}

    def test_a_python_file_may_be_imported_by_its_name(
        self, write: Callable[..., None], collect: Collect
    ) -> None:
        write({"mine.py": "class A(B):\n    files = ('late.py',)", "late.py": "import one"})
        write({"one.py": ""})
        code = collect("mine.py")
        assert names(code) == ["late.py", "mine.py", "one.py"]
        assert "late" in {module.name for module in code.message.modules}

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("/etc/passwd", "is outside the plugin's folder"),
            ("../elsewhere.txt", "is outside the plugin's folder"),
            ("sub/../../elsewhere.txt", "is outside the plugin's folder"),
            ("linked.txt", "is a link that leads outside the plugin's folder"),
            ("sub/linked/x.txt", "is a link that leads outside the plugin's folder"),
            ("circle", "cannot be read"),
            ("nowhere.txt", "cannot be read (No such file or directory)"),
            ("sub", "is not a regular file"),
            (".", "is not a regular file"),
            ("pipe", "is not a regular file"),
            ("", "is not a file's name"),
            ("a\\0b", "is not a file's name"),
            ("x" * 300, "cannot be read (File name too long)"),
        ],
    )
    def test_what_cannot_be_declared(
        self,
        write: Callable[..., None],
        collect: Collect,
        tmp_path: Path,
        name: str,
        problem: str,
    ) -> None:
        write({"mine.py": f"class A(B):\n    files = ('{name}',)", "sub/b.txt": ""})
        home = tmp_path / "home"
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "x.txt").touch()
        (tmp_path / "elsewhere.txt").touch()
        (home / "linked.txt").symlink_to(tmp_path / "elsewhere.txt")
        (home / "sub" / "linked").symlink_to(tmp_path / "elsewhere")
        (home / "circle").symlink_to("circle")
        os.mkfifo(home / "pipe")
        code = collect("mine.py")
        assert names(code) == ["mine.py"]
        ((_, said),) = code.declared.items()
        assert said is not None
        assert said.startswith(problem)


class TestLibraries:
    @pytest.fixture
    def library(
        self, write: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Path:
        """A library of the user's on the path, outside site-packages."""
        for name in ("__init__.py", "core.py", "data/table.json", "data/__init__.py"):
            write({f"../ext/mylib/{name}": ""})
        write({"../ext/mylib/__pycache__/core.pyc": "", "../ext/other.py": "", "mine.py": ""})
        write({"../ext/mylib/__init__.py": "import other"})
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "ext")])
        return tmp_path / "ext"

    def test_the_whole_package_is_taken_and_what_it_imports(
        self, library: Path, write: Callable[..., None], collect: Collect
    ) -> None:
        write({"mine.py": "import mylib"})
        code = collect("mine.py")
        assert names(code) == [
            "mine.py",
            "mylib/__init__.py",
            "mylib/core.py",
            "mylib/data/__init__.py",
            "mylib/data/table.json",
            "other.py",
        ]
        modules = {module.name for module in code.message.modules}
        assert modules >= {"mylib", "mylib.core", "mylib.data", "other"}

    def test_nothing_is_taken_that_is_not_imported(self, library: Path, collect: Collect) -> None:
        assert names(collect("mine.py")) == ["mine.py"]

    def test_of_a_folder_that_is_no_package_only_packages_are_taken(
        self, library: Path, write: Callable[..., None], collect: Collect
    ) -> None:
        """A folder may have the name of a library that is not installed, such as wandb."""
        write({"../ext/space/notes.txt": "", "../ext/space/inner/__init__.py": ""})
        write({"../ext/space/inner/late.py": "", "../ext/space/other/__init__.py": ""})
        write({"mine.py": "import space"})
        assert names(collect("mine.py")) == ["mine.py"]
        write({"mine.py": "import space.inner"})
        ours = ["space/inner/__init__.py", "space/inner/late.py"]
        assert names(collect("mine.py")) == ["mine.py", *ours]

    def test_a_link_out_of_it_is_not_taken(
        self, library: Path, write: Callable[..., None], collect: Collect, tmp_path: Path
    ) -> None:
        write({"mine.py": "import mylib", "secret.txt": ""})
        (library / "mylib" / "linked.txt").symlink_to(tmp_path / "home" / "secret.txt")
        assert "mylib/linked.txt" not in names(collect("mine.py"))

    def test_an_editable_installation_is_found_by_its_finder(
        self, library: Path, write: Callable[..., None], collect: Collect, monkeypatch
    ) -> None:
        from importlib.util import spec_from_file_location

        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name == "renamed":
                    file = library / "mylib" / "__init__.py"
                    return spec_from_file_location(name, file)
                return None

        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
        write({"mine.py": "import renamed.core"})
        assert {"renamed/__init__.py", "renamed/core.py"} <= set(names(collect("mine.py")))

    def test_a_method_of_one_by_its_module(self, library: Path) -> None:
        location = MethodLocation("late", "mylib.core", "Late", None, "mylib 1.0")
        assert "mylib/core.py" in names(collect_code(location))

    def test_the_working_directory_is_not_on_the_path(
        self,
        library: Path,
        write: Callable[..., None],
        collect: Collect,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write({"mine.py": "import other"})
        monkeypatch.chdir(library)
        monkeypatch.setattr(sys, "path", [str(library), *sys.path[:-1]])
        assert names(collect("mine.py")) == ["mine.py"]


class TestTheSuitesOwn:
    def test_the_modules_that_a_baseline_imports(self) -> None:
        code = collect_code(entry_point_sources()["lolsgd-distill-rank"])
        assert {"baselines/lolsgd_distill_rank.py", "baselines/lolsgd.py"} <= set(names(code))
        assert "baselines/ewc.py" not in names(code)
        assert all(file.path.is_relative_to(ROOT / "baselines") for file in code.files)

    def test_a_plugin_may_build_on_them(self, write: Callable[..., None], collect: Collect) -> None:
        write({"mine.py": "from baselines.l2_sp import L2SP\nfrom htbench import fit"})
        assert names(collect("mine.py")) == [
            "baselines/__init__.py",
            "baselines/l2_sp.py",
            "mine.py",
        ]


class TestInstalled:
    def test_the_distribution_and_its_requirements_without_those_of_the_suite(
        self, write: Callable[..., None], collect: Collect
    ) -> None:
        write({"mine.py": "def f():\n    import sklearn.svm, torch, numpy"})
        versions = {name: version for name, version, _ in collect("mine.py").distributions}
        assert {"scikit-learn", "joblib"} <= set(versions)
        assert {"torch", "numpy", "scipy"}.isdisjoint(versions)  # the suite needs them as well

    def test_a_package_with_methods_may_use_all_baselines(self) -> None:
        location = MethodLocation("late", "sklearn.svm", "SVC", None, "scikit-learn 1")
        code = collect_code(location)
        assert "baselines/ewc.py" in names(code)
        assert "baselines.ewc" in {module.name for module in code.message.modules}

    def test_a_module_in_site_packages_that_no_distribution_owns(
        self,
        write: Callable[..., None],
        collect: Collect,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        site = tmp_path / "site-packages"
        site.mkdir()
        (site / "loose_module.py").write_text("x = 1\n")
        monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
        write({"mine.py": "import loose_module"})
        assert names(collect("mine.py")) == ["loose_module.py", "mine.py"]
