"""A manifest or suite that the user added and broke is left out of lists, and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.methods.find import GROUP, builtin_methods
from benchmark.own_data.add import add_manifests
from tests.htbench.command import Htbench

LISTS = (
    ("list", "datasets"),
    ("list", "tasks"),
    ("list", "suites"),
    ("data", "status"),
    ("source", "list"),
    ("cite",),
)


@pytest.fixture
def added(draft: Any, own_data: Path) -> Path:
    """The folder of an added manifest and its suite."""
    folder = draft.write()
    (folder / "mine.toml").write_text(
        'title = "T"\nmanifest = "."\ntasks = ["outline-solid"]\nmethods = ["source"]\n'
        "seeds = [0]\n"
    )
    (one,) = add_manifests([folder])
    assert one.suites == ("mine",)
    return one.manifest.root


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_a_broken_manifest_hides_no_other(
    htbench: Htbench, added: Path, words: tuple[str, ...]
) -> None:
    whole = json.loads(htbench(*words, "--json")[1])
    (added / "manifest.toml").write_text("x = ")
    status, out, err = htbench(*words, "--json")
    assert status == 1
    assert json.loads(out) == [entry for entry in whole if "mini" not in json.dumps(entry)]
    (line,) = err.splitlines()
    assert " is left out: " in line
    assert str(added / "manifest.toml") in line
    assert line.endswith(f"correct it, or delete {added} to do without it")
    status, out, err = htbench(*words)
    assert (status, err) == (1, f"{line}\n")
    assert out


@pytest.mark.parametrize("words", [w for w in LISTS if w != ("list", "suites")], ids=" ".join)
def test_a_broken_expansion_hides_no_other(
    htbench: Htbench, own_data: Path, words: tuple[str, ...]
) -> None:
    """The folder of the recipe has the same name and version, and ships."""
    whole = json.loads(htbench(*words, "--json")[1])
    file = own_data / "manifests" / "iwildcam" / "1.1" / "manifest.toml"
    file.parent.mkdir(parents=True)
    file.write_text("x = ")
    status, out, err = htbench(*words, "--json")
    assert status == 1
    assert json.loads(out) == whole  # what to cite for the recipe, too
    assert err.startswith(f"iwildcam@1.1 is left out: {file} is not valid TOML")


def test_a_broken_suite_hides_no_other(htbench: Htbench, added: Path) -> None:
    whole = json.loads(htbench("list", "suites", "--json")[1])
    assert "mine" in [entry["name"] for entry in whole]
    (added / "mine.toml").write_text("x = ")
    status, out, err = htbench("list", "suites", "--json")
    assert status == 1
    assert json.loads(out) == [entry for entry in whole if entry["name"] != "mine"]
    file = added / "mine.toml"
    assert err.startswith(f"mine is left out: {file} is not valid TOML")
    assert err.endswith(f"correct it, or delete {file} to do without it\n")


def test_a_broken_method_of_another_package_hides_no_other(
    htbench: Htbench, own_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\ntheirs = not_there:Theirs\n")
    monkeypatch.syspath_prepend(tmp_path)
    status, out, err = htbench("list", "methods", "--json")
    assert status == 1
    assert [entry["method"] for entry in json.loads(out)] == sorted(builtin_methods())
    assert err == (
        "theirs is left out: cannot load method 'theirs' of other 1.0: ModuleNotFoundError: No "
        "module named 'not_there'; correct other 1.0, or uninstall it to do without it\n"
    )
