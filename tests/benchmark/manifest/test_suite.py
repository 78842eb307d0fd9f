"""Suites: the shipped ones, suites in a file, and every rule of their TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.errors import ManifestError, UsageError
from benchmark.folders import packaged_manifests
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.suite import Suite, checked_seed, known_suites, load_suite
from benchmark.methods.find import entry_point_sources


class TestShipped:
    @pytest.mark.parametrize("name", known_suites())
    def test_names_known_tasks_and_methods(self, name: str) -> None:
        suite = load_suite(name)
        manifest = load_manifest(suite.manifest)
        assert set(suite.tasks) <= {task.id for task in manifest.tasks}
        assert set(suite.methods) <= set(entry_point_sources())
        one_seed = {f"icons-{study}" for study in ("draws", "hot", "long", "partial", "tuned")}
        assert suite.seeds == ((0,) if name in one_seed else (0, 1, 2))
        assert suite.methods[0] == "source"  # disruption is measured against it

    def test_icons_is_known(self) -> None:
        assert "icons" in known_suites()
        assert load_suite("icons").manifest == "icons@2.0"

    @pytest.mark.parametrize("name", ["icons-full", "office-home", "office-home-all", "domainnet"])
    def test_a_full_suite_has_every_method_that_ships(self, name: str) -> None:
        project = tomllib.loads((packaged_manifests().parent / "pyproject.toml").read_text("utf-8"))
        entry_points = project["project"]["entry-points"]["holistic_transfer.methods"]
        methods = load_suite(name).methods
        assert methods[:2] == ("source", "finetune")
        assert list(methods[2:]) == sorted(set(entry_points) - {"source", "finetune"})

    def test_icons_full_is_icons_with_more_methods(self) -> None:
        full, short = load_suite("icons-full"), load_suite("icons")
        assert (full.manifest, full.tasks, full.seeds) == (short.manifest, short.tasks, short.seeds)
        assert set(short.methods) < set(full.methods)


class TestLoadSuite:
    def test_all_methods_need_a_registered_method(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("benchmark.methods.find.entry_point_sources", dict)
        with pytest.raises(ManifestError, match="methods is 'all', but no methods are installed"):
            load_suite("icons-full")

    def test_a_file_names_a_manifest_beside_it(self, draft: Any, tmp_path: Path) -> None:
        draft.write()
        path = tmp_path / "own.toml"
        path.write_text(
            'title = "T"\nmanifest = "mini"\ntasks = ["outline-solid"]\n'
            'methods = ["source"]\nseeds = [7]\n'
        )
        suite = load_suite(str(path))
        assert (suite.name, suite.seeds) == ("own", (7,))
        assert load_manifest(suite.manifest).reference == "mini@0.1"

    @pytest.mark.parametrize(
        "name", ["icon", "../suites/icons", "", "no.toml", "x" * 300, f"{'x' * 300}.toml"]
    )
    def test_an_unknown_name_lists_the_known_ones(self, name: str) -> None:
        with pytest.raises(ManifestError, match=r"unknown suite .*known: .*icons"):
            load_suite(name)

    def test_a_file_of_windows_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "own.toml"
        lines = ['title = "x"', 'manifest = "icons@2.0"', 'tasks = ["outline-solid"]']
        lines += ['methods = ["source"]', "seeds = [0]", ""]
        path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
        assert load_suite(str(path)).tasks == ("outline-solid",)

    def test_a_manifest_whose_name_is_too_long_for_a_path(self, tmp_path: Path) -> None:
        path = tmp_path / "own.toml"
        path.write_text(
            f'title = "x"\nmanifest = "{"x" * 70_000}"\ntasks = ["a"]\n'
            'methods = ["source"]\nseeds = [0]\n'
        )
        with pytest.raises(ManifestError, match="unknown manifest"):
            load_manifest(load_suite(str(path)).manifest)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("seeds = []", "seeds must be a list of whole numbers"),
            ("seeds = [-1]", "seeds must be a list of whole numbers"),
            ("seeds = [4294967296]", "seeds must be a list of whole numbers"),
            ("seeds = [true]", "seeds must be a list of whole numbers"),
            ("seeds = [1, 1]", "seeds must not contain the same seed twice"),
            ("seeds = 1", "seeds is 1; it must be a list of whole numbers"),
            ("tasks = []", "tasks must be a non-empty list of names"),
            ('methods = ["source", "source"]', "methods contains 'source' more than once"),
            (
                'methods = "some"',
                "methods is 'some'; it must be a list of names, or 'all' for all",
            ),
            ("methods = 1", "methods is 1; it must be a list of names"),
            ("title = 3", "title is 3; it must be a string"),
            ('title = "\\u001b[2J"', "control characters"),
            ("manifest = 1", "manifest is 1; it must be a string"),
            ('recipes = "hot"', "unknown entry 'recipes'; did you mean recipe"),
        ],
    )
    def test_rule(self, tmp_path: Path, line: str, message: str) -> None:
        lines = {
            "title": '"T"',
            "manifest": '"icons@2.0"',
            "tasks": '["outline-solid"]',
            "methods": '["source"]',
            "seeds": "[0]",
        }
        key, _, value = line.partition(" = ")
        path = tmp_path / "bad.toml"
        path.write_text("".join(f"{k} = {v}\n" for k, v in {**lines, key: value}.items()))
        with pytest.raises(ManifestError, match=message) as error:
            load_suite(str(path))
        assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.int64(3)])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    assert checked_seed(seed) == seed


@pytest.mark.parametrize("seed", [-1, 2**32, 0.0, "0", None])
def test_another_seed_is_refused_by_its_value(seed: object) -> None:
    with pytest.raises(UsageError, match=rf"^seed is {seed!r}; give a whole number from 0 to 429"):
        checked_seed(seed)


class TestPart:
    SUITE = Suite("icons", "Icons", "icons@2.0", ("t1", "t2", "t3"), ("source",), (0, 1, 2))

    def test_all_where_none_are_named(self) -> None:
        assert self.SUITE.part([], []) == self.SUITE.part() == self.SUITE

    def test_some_in_the_order_of_the_suite(self) -> None:
        part = self.SUITE.part(["t3", "t1", "t3"], [2, 0])
        assert (part.tasks, part.seeds) == (("t1", "t3"), (0, 2))

    def test_what_is_not_the_suites(self) -> None:
        with pytest.raises(UsageError, match=r"--task t9 is not in suite icons; .*has: t1, t2, t3"):
            self.SUITE.part(["t9"])
        with pytest.raises(UsageError, match=r"--task 3 is .*did you mean t3\?"):
            self.SUITE.part([3])  # type: ignore[list-item]
        with pytest.raises(UsageError, match="--seed 3 is not in suite icons; it has: 0-2"):
            self.SUITE.part(seeds=[3])
