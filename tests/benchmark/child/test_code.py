"""What an import of a method may read: its own code, and nothing else of its folder."""

from __future__ import annotations

from pathlib import Path

from benchmark.child.code import FilesBeside, open_code
from benchmark.folders import ROOT, own_packages


def test_the_python_files_beside_a_plugin(tmp_path: Path) -> None:
    plugin, helper = tmp_path / "mine.py", tmp_path / "helper.py"
    for path in (plugin, helper, tmp_path / "labels.txt"):
        path.write_text("")
    (tmp_path / "linked.py").symlink_to(helper)
    (tmp_path / "secret.py").symlink_to(tmp_path / "labels.txt")
    (tmp_path / "folder.py").mkdir()
    beside = FilesBeside(plugin)
    assert beside.files.keys() == {"mine", "helper", "linked"}
    spec = beside.find_spec("helper", None)
    assert spec is not None
    assert spec.origin == str(helper)
    assert beside.find_spec("secret", None) is None
    assert beside.find_spec("helper", ["package"]) is None, "top-level modules only"


def test_a_plugin_opens_its_files_and_our_packages(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("")
    read, listed, beside = open_code(None, str(plugin))
    assert read == [*own_packages(), plugin]
    assert listed == []
    assert beside is not None


def test_without_a_method_only_our_packages_are_open() -> None:
    assert open_code(None, None) == (list(own_packages()), [], None)


def test_a_module_that_does_not_exist_opens_nothing_more() -> None:
    assert open_code("no_such_package.module", None) == (list(own_packages()), [ROOT], None)
