"""An expansion is written as a checked manifest with its suite, or not at all."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmark.errors import ManifestError, UsageError
from benchmark.manifest.catalogue import load_manifest, published_manifests
from benchmark.manifest.expand import expand_recipe, write_expansion
from benchmark.manifest.metadata import read_metadata
from benchmark.manifest.read import read_manifest
from benchmark.manifest.recipe import ManifestRecipe
from benchmark.manifest.suite import load_suite
from benchmark.methods.find import builtin_methods
from htbench.cli.main import main
from htbench.cli.manifest import command
from tests.benchmark.manifest.cameras import REFERENCE, Cameras, one_task, publish, random_cameras


class TestWriteExpansion:
    def test_the_groups_agree_with_the_counts(self, recipe: ManifestRecipe, tmp_path: Path) -> None:
        expansion = random_cameras(recipe, seed=3).expand(tmp_path)
        manifest = write_expansion(expansion, tmp_path / "out")
        tasks = [item for item in expansion.locations if not item.left_out]
        assert [task.id for task in manifest.tasks] == [item.name for item in tasks]
        for task, expected in zip(manifest.tasks, tasks, strict=True):
            seen, missing = manifest.seen_mask(task), manifest.missing_mask(task)
            train = manifest.samples(task.target, "train").labels
            test = manifest.samples(task.target, "test").labels
            assert (len(train), len(test)) == (expected.adaptation, expected.test)
            assert (seen[test].sum(), missing[test].sum()) == (
                expected.test_seen,
                expected.test_missing,
            )
            assert (~(seen | missing))[test].sum() == expected.excluded
            assert seen[train].all()
            assert task.sources == ("train",)

    def test_no_sequence_is_in_two_splits_of_a_target(
        self, recipe: ManifestRecipe, tmp_path: Path
    ) -> None:
        rows = random_cameras(recipe, seed=4).expand(tmp_path).images.to_pylist()
        split_of = defaultdict(set)
        for row in rows:
            if row["domain"] != "train":
                split_of[row["group"]].add(row["split"])
        assert set(map(len, split_of.values())) == {1}

    def test_the_order_of_the_rows_does_not_matter(
        self, recipe: ManifestRecipe, tmp_path: Path
    ) -> None:
        cameras = random_cameras(recipe, seed=5)
        first = write_expansion(cameras.expand(tmp_path), tmp_path / "a")
        random.Random(1).shuffle(cameras.rows)
        second = write_expansion(cameras.expand(tmp_path), tmp_path / "b")
        assert (first.digest, first.version) == (second.digest, second.version)
        for name in ("manifest.toml", "iwildcam.toml", "images.parquet"):
            assert (first.root / name).read_bytes() == (second.root / name).read_bytes()

    def test_other_rows_give_another_version(self, cameras: Cameras, tmp_path: Path) -> None:
        one_task(cameras)
        before = cameras.expand(tmp_path).document["version"]
        assert before.startswith("1.1+")
        assert len(before) == len("1.1+") + 8
        cameras.know(7)
        assert cameras.expand(tmp_path).document["version"] != before

    def test_the_published_file_is_version_1_1(
        self, cameras: Cameras, tmp_path: Path, own_data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one_task(cameras)
        recipe, path = publish(cameras, tmp_path, monkeypatch)
        with pytest.raises(ManifestError, match=r"htbench manifest expand iwildcam@1\.1 --met"):
            load_manifest(REFERENCE)
        manifest = write_expansion(expand_recipe(recipe, read_metadata(path, recipe)))
        assert manifest.root == own_data / "manifests" / "iwildcam" / "1.1"
        assert load_manifest(REFERENCE).digest == manifest.digest
        assert REFERENCE in published_manifests()

    def test_the_document_names_its_recipe_and_metadata(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        one_task(cameras)
        document = write_expansion(cameras.expand(tmp_path), tmp_path / "out").document
        assert document["expansion"]["recipe"] == REFERENCE
        assert document["expansion"]["recipe_digest"] == cameras.recipe.digest
        assert document["expansion"]["metadata_is_published"] is False
        for key in (
            "terms",
            "citation",
            "mirrors",
            "model",
            "transforms",
            "source",
            "recipe",
            "rule",
        ):
            assert document[key] == cameras.recipe.document[key]

    def test_its_suite_has_every_task(self, recipe: ManifestRecipe, tmp_path: Path) -> None:
        manifest = write_expansion(random_cameras(recipe, 6).expand(tmp_path), tmp_path / "out")
        suite = load_suite(str(manifest.root / "iwildcam.toml"))
        assert suite.tasks == tuple(task.id for task in manifest.tasks)
        assert suite.methods == builtin_methods()
        assert load_manifest(suite.manifest).digest == manifest.digest

    def test_an_earlier_expansion_is_replaced(self, cameras: Cameras, tmp_path: Path) -> None:
        one_task(cameras)
        before = write_expansion(cameras.expand(tmp_path), tmp_path / "out")
        cameras.know(7)
        after = write_expansion(cameras.expand(tmp_path), tmp_path / "out")
        assert read_manifest(tmp_path / "out").digest == after.digest != before.digest

    def test_nothing_else_is_replaced(self, cameras: Cameras, tmp_path: Path) -> None:
        one_task(cameras)
        expansion = cameras.expand(tmp_path)
        with pytest.raises(
            UsageError, match=r"already contains 'metadata.csv'; give a new or empty folder"
        ):
            write_expansion(expansion, tmp_path)
        with pytest.raises(UsageError, match="is a file"):
            write_expansion(expansion, tmp_path / "metadata.csv")

    def test_nothing_is_written_if_a_check_fails(self, cameras: Cameras, tmp_path: Path) -> None:
        one_task(cameras)
        expansion = cameras.expand(tmp_path)
        expansion.document["tasks"][0]["seen"] = ["no such class"]
        with pytest.raises(ManifestError, match="unknown class 'no such class'"):
            write_expansion(expansion, tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["metadata.csv"]


class TestCommand:
    def test_prints_every_location(self, cameras: Cameras, tmp_path: Path, own_data: Path) -> None:
        location = one_task(cameras)
        cameras.days(cameras.targets[1], [1] * 9)
        path = str(cameras.write(tmp_path / "metadata.csv"))
        result = CliRunner().invoke(
            command, ["expand", REFERENCE, "--metadata", path, "--allow-unknown-metadata"]
        )
        assert result.exit_code == 0, result.output
        (reference,) = [r for r in published_manifests() if r.startswith("iwildcam@1.1+")]
        manifest = load_manifest(reference)
        lines = {line.split()[0]: line.split()[1:] for line in result.output.splitlines() if line}
        assert lines[str(location)] == ["2", "50", "60", "40", "20", "0", "1", "1", "task"]
        assert lines[str(cameras.targets[1])][-2:] == ["one", "day"]
        assert lines["digest"] == [manifest.digest]
        assert "its results appear in a separate table" in result.output
        for name in ("iwildcam", REFERENCE):
            with pytest.raises(ManifestError, match="Use what it was expanded to") as error:
                load_manifest(name)
            assert str(error.value).endswith(f": {reference}")

    def test_json_and_out(
        self, cameras: Cameras, tmp_path: Path, own_data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one_task(cameras)
        _, path = publish(cameras, tmp_path, monkeypatch)
        arguments = ["expand", REFERENCE, "--metadata", str(path), "--out", str(tmp_path / "own")]
        result = CliRunner().invoke(command, [*arguments, "--json"])
        expansion = json.loads(result.output)
        assert expansion["digest"] == load_manifest(tmp_path / "own").digest
        assert expansion["manifest"] == REFERENCE
        assert len(expansion["locations"]) == 48
        assert not own_data.exists()
        result = CliRunner().invoke(command, ["show", str(tmp_path / "own"), "--json"])
        assert json.loads(result.output)["tasks"][0]["test_excluded"] == 0

    def test_an_error_is_one_sentence_and_status_2(
        self, tmp_path: Path, own_data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "m.csv").write_text("a,b\n1,2\n")
        with pytest.raises(SystemExit) as error:
            main(["manifest", "expand", REFERENCE, "--metadata", str(tmp_path / "m.csv")])
        assert error.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("htbench: ")
        assert not own_data.exists()
