"""The recipe iwildcam@1.1 has the data set's classes and locations, and matches its README."""

from __future__ import annotations

import csv
import re
import tomllib
from collections import Counter
from typing import Any

import pytest
from click.testing import CliRunner

from benchmark.errors import DataError
from benchmark.folders import packaged_manifests
from benchmark.manifest.catalogue import published_recipes
from benchmark.manifest.read import read_toml
from benchmark.manifest.recipe import ManifestRecipe, load_recipe
from data_manifests.builders import iwildcam
from data_manifests.builders.__main__ import main

DATA_SET = packaged_manifests() / "iwildcam"
FOLDER = DATA_SET / "1.1"
LABELS = """y,category_id,name,english
1,7,big cat,cat
0,0,empty,empty
99999,8,unicorn,unicorn
2,9,big cat,other cat
"""


@pytest.fixture(scope="module")
def recipe() -> ManifestRecipe:
    return load_recipe("iwildcam@1.1")


class TestRecipe:
    def test_its_digest_is_pinned(self) -> None:
        """A published version never changes: a correction is a new version."""
        pins = read_toml(packaged_manifests() / "digests.toml")["recipes"]
        assert pins == {name: load_recipe(name).digest for name in published_recipes()}

    def test_classes(self, recipe: ManifestRecipe) -> None:
        assert len(recipe.classes) == len(set(recipe.classes)) == 182
        assert len(set(recipe.categories)) == 182
        assert recipe.classes[:2] == ("empty", "tayassu pecari")
        assert [c for c in recipe.classes if "temama" in c] == [
            "mazama temama 380",
            "mazama temama 571",
        ]

    def test_locations(self, recipe: ManifestRecipe) -> None:
        assert Counter(recipe.splits.values()) == {
            ("train", "id_val", "id_test"): 243,
            ("val",): 32,
            ("test",): 48,
        }
        assert list(recipe.splits) == list(range(323))

    def test_it_names_the_published_file(self, recipe: ManifestRecipe) -> None:
        assert recipe.document["metadata"]["md5"] == "ab4905ee40ac45ab66ddb176d473a4b4"
        assert recipe.document["terms"].split()[0] == "CDLA-Permissive-1.0"

    def test_the_numbers_of_the_rule(self, recipe: ManifestRecipe) -> None:
        assert vars(recipe.rule) == {
            "source_train": "train",
            "source_test": "id_test",
            "target": "test",
            "min_adaptation_images": 50,
            "min_test_images": 50,
            "min_seen_test_images": 5,
            "min_missing_test_images": 20,
        }

    def test_its_boards_rank_by_the_mean_over_classes(self, recipe: ManifestRecipe) -> None:
        assert recipe.document["headline"] == "macro"


class TestBuild:
    def test_classes_are_in_the_order_of_y_with_unique_names(self) -> None:
        assert list(csv.reader(iwildcam.classes_csv(LABELS).splitlines())) == [
            ["y", "category_id", "class", "english"],
            ["0", "0", "empty", "empty"],
            ["1", "7", "big cat 7", "cat"],
            ["2", "9", "big cat 9", "other cat"],
        ]

    def test_a_gap_in_y_is_refused(self) -> None:
        with pytest.raises(DataError, match="not numbered 0, 1, 2"):
            iwildcam.classes_csv(LABELS.replace("2,9", "3,9"))

    def test_locations_are_in_order(self) -> None:
        text = "location_remapped,location_group,wilds_splits\n10,test,test\n9,train,train;id_val\n"
        assert iwildcam.locations_csv(text) == "location,splits\n9,train id_val\n10,test\n"

    def test_a_recipe_that_contradicts_the_facts_is_refused(self, recipe: ManifestRecipe) -> None:
        mirrors = recipe.document["mirrors"]
        facts: dict[str, Any] = {
            "metadata_csv_md5": recipe.document["metadata"]["md5"],
            "n_images": 203029,
            "download_url": mirrors[0]["address"],
            "archive_bytes_mirror": mirrors[1]["bytes"],
            "archive_sha256": mirrors[1]["sha256"],
        }
        iwildcam.check_recipe(recipe.document, facts)
        with pytest.raises(DataError, match=r"facts\.json differ in: n_images;"):
            iwildcam.check_recipe(recipe.document, facts | {"n_images": 1})

    def test_wrong_facts_are_one_sentence_with_status_2(self, tmp_path: Any) -> None:
        (tmp_path / "facts.json").write_text("{}")
        result = CliRunner().invoke(main, ["iwildcam", "--facts", str(tmp_path)])
        assert result.exit_code == 2
        assert "this manifest was built from has" in result.stderr


class TestReadme:
    readme = (DATA_SET / "README.md").read_text("utf-8")

    def test_it_states_that_the_locations_are_not_the_published_ones(self) -> None:
        assert "not the locations of the published experiments" in self.readme
        assert re.search(r"53\s+source and 21 target locations", self.readme)

    def test_its_numbers_match_the_recipe(self, recipe: ManifestRecipe) -> None:
        document = tomllib.loads((FOLDER / "recipe.toml").read_text("utf-8"))
        assert document["metadata"]["md5"] in self.readme
        assert f"{document['metadata']['rows']:,} images of {len(recipe.classes)}" in self.readme
        rule = recipe.rule
        assert (
            f"at least {rule.min_adaptation_images} adaptation images, {rule.min_test_images} test"
            in self.readme
        )
        assert (
            f"{rule.min_seen_test_images} test images of seen\n   classes, and "
            f"{rule.min_missing_test_images} test images of missing classes" in self.readme
        )
