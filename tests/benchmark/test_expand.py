"""A recipe and a metadata file become a manifest by the rule, or nothing is written."""

from __future__ import annotations

import csv
import datetime
import json
import random
import subprocess
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmark import expand as module
from benchmark.errors import DataError, HTBenchError, ManifestError, UsageError
from benchmark.expand import Expansion, Recipe, expand, load_recipe, read_metadata, write_expansion
from benchmark.manifest import load_manifest, load_suite, published_manifests, read_manifest
from benchmark.records import write_predictions
from benchmark.registry import builtin_methods
from htbench.cli.list import command as list_command
from htbench.cli.main import main
from htbench.cli.manifest import command
from leaderboard import score
from leaderboard.results import score_predictions

# The columns of metadata.csv of iWildCam2020-WILDS v2.0; the first, a row number, has no name.
HEADER = ["", "split", "location_remapped", "location", "sequence_remapped", "seq_id", "y",
          "category_id", "datetime", "filename", "image_id"]  # fmt: skip
REFERENCE = "iwildcam@1.0"
Row = dict[str, str]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(REFERENCE)


def of_split(recipe: Recipe, split: str) -> list[int]:
    return [location for location, splits in recipe.splits.items() if split in splits]


class Cameras:
    """A metadata file in the making.

    Args:
        recipe: whose categories and locations it has.
    """

    def __init__(self, recipe: Recipe, seed: int = 0) -> None:
        self.recipe, self.rows = recipe, list[Row]()
        self.random = random.Random(seed)
        self.source, self.targets = of_split(recipe, "train"), of_split(recipe, "test")

    def burst(self, location: int, time: str, ys: Iterable[int], split: str = "test") -> list[Row]:
        """A sequence of images, one a second from ``time`` (as ``2013-06-05 05:44:19``) on."""
        start = datetime.datetime.fromisoformat(time)
        sequence = str(uuid.UUID(int=self.random.getrandbits(128)))
        made = []
        for second, y in enumerate(ys):
            image = str(uuid.UUID(int=self.random.getrandbits(128)))
            at = start + datetime.timedelta(seconds=second)
            made.append(
                {
                    "": str(len(self.rows) + second),
                    "split": split,
                    "location_remapped": str(location),
                    "location": str(500 - location),
                    "sequence_remapped": str(len(self.rows)),
                    "seq_id": sequence,
                    "y": str(y),
                    "category_id": str(self.recipe.categories[y]),
                    "datetime": f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}",
                    "filename": f"{image}.jpg",
                    "image_id": image,
                }
            )
        self.rows += made
        return made

    def know(self, *ys: int, split: str = "train") -> None:
        """Give the source images of some classes."""
        self.burst(self.source[0], "2013-01-01 12:00:00", ys, split)

    def days(self, location: int, *per_day: Sequence[int]) -> None:
        """One burst at noon of each of consecutive days."""
        for day, ys in enumerate(per_day, 1):
            self.burst(location, f"2013-06-{day:02d} 12:00:00", ys)

    def write(self, path: Path, header: Sequence[str] = HEADER) -> Path:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, header, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)
        return path

    def expand(self, folder: Path) -> Expansion:
        path = self.write(folder / "metadata.csv")
        return expand(self.recipe, read_metadata(path, self.recipe, allow_unknown=True))


@pytest.fixture
def cameras(recipe: Recipe) -> Cameras:
    """A source that knows the classes 0 to 9, and nothing else."""
    made = Cameras(recipe)
    made.know(*range(10))
    return made


def one_task(cameras: Cameras) -> int:
    """Location with two days: 50 images, then 40 of the class seen, 10 of a missing one."""
    location = cameras.targets[0]
    cameras.days(location, [1] * 50, [1] * 40 + [2] * 10)
    return location


def at(expansion: Expansion, location: int) -> module.Location:
    (found,) = [at for at in expansion.locations if at.location == location]
    return found


class TestTheRule:
    def test_first_half_of_the_days_is_adaptation(self, cameras: Cameras, tmp_path: Path) -> None:
        location = one_task(cameras)
        found = at(cameras.expand(tmp_path), location)
        assert (found.days, found.adaptation, found.test) == (2, 50, 50)
        assert (found.test_seen, found.test_missing, found.excluded) == (40, 10, 0)
        assert found.seen == (cameras.recipe.classes[1],)
        assert found.missing == (cameras.recipe.classes[2],)
        assert found.left_out == ()

    def test_of_an_odd_number_of_days_the_smaller_half(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        location = cameras.targets[3]
        cameras.days(location, [1] * 30, [1] * 30, [1] * 7, [1] * 30, [1] * 20 + [2] * 5)
        found = at(cameras.expand(tmp_path), location)
        assert (found.days, found.adaptation, found.test) == (5, 60, 62)

    def test_days_are_dates_with_images_and_not_those_between(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        location = cameras.targets[0]
        for date, ys in (("2013-01-01", [1] * 50), ("2015-01-01", [1]), ("2015-01-02", [1] * 50),
                         ("2015-01-03", [2] * 5)):  # fmt: skip
            cameras.burst(location, f"{date} 08:00:00", ys)
        found = at(cameras.expand(tmp_path), location)
        assert (found.days, found.adaptation, found.test) == (4, 51, 55)

    def test_a_burst_across_midnight_belongs_to_its_first_day(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        location = cameras.targets[0]
        burst = cameras.burst(location, "2013-06-01 23:59:50", [3] * 60)
        cameras.burst(location, "2013-06-02 09:00:00", [3] * 45 + [4] * 5)
        assert len({row["datetime"][:10] for row in burst}) == 2
        expansion = cameras.expand(tmp_path)
        assert at(expansion, location).adaptation == 60
        rows = expansion.images.to_pylist()
        assert {r["split"] for r in rows if r["group"] == burst[0]["seq_id"]} == {"train"}

    def test_a_day_of_the_end_of_a_burst_alone_is_a_day(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        """It has images, so it counts when the days are halved, though no sequence begins on it."""
        location = cameras.targets[0]
        cameras.burst(location, "2013-06-01 23:59:30", [3] * 60)
        cameras.burst(location, "2013-06-03 09:00:00", [3] * 50)
        cameras.burst(location, "2013-06-04 09:00:00", [3] * 50 + [4] * 5)
        found = at(cameras.expand(tmp_path), location)
        assert (found.days, found.adaptation, found.test) == (4, 60, 105)

    @pytest.mark.parametrize(
        ("time", "split"), [("23:59:59.999", "train"), ("00:00:00.000", "test")]
    )
    def test_the_cut_is_at_midnight_to_the_millisecond(
        self, cameras: Cameras, tmp_path: Path, time: str, split: str
    ) -> None:
        one_task(cameras)
        day = "2013-06-01" if split == "train" else "2013-06-02"
        (row,) = cameras.burst(cameras.targets[0], f"{day} {time}", [1])
        images = {r["image_id"]: r for r in cameras.expand(tmp_path).images.to_pylist()}
        assert images[row["image_id"]]["split"] == split

    def test_one_day_is_no_task(self, cameras: Cameras, tmp_path: Path) -> None:
        one_task(cameras)
        cameras.days(cameras.targets[1], [1] * 500 + [2] * 500)
        found = at(cameras.expand(tmp_path), cameras.targets[1])
        assert found.left_out == ("one day",)
        assert (found.adaptation, found.test) == (0, 1000)

    def test_a_location_without_images(self, cameras: Cameras, tmp_path: Path) -> None:
        one_task(cameras)
        expansion = cameras.expand(tmp_path)
        assert at(expansion, cameras.targets[5]).left_out == ("no images",)
        assert [at.location for at in expansion.locations] == sorted(cameras.targets)

    def test_a_class_that_the_source_lacks(self, cameras: Cameras, tmp_path: Path) -> None:
        """In the adaptation set it is seen; in the test set alone it is in neither group."""
        location = cameras.targets[0]
        cameras.know(12, split="id_test")  # seen by nobody while the source was trained
        cameras.know(12, split="id_val")
        cameras.days(location, [1] * 49 + [11], [1] * 40 + [11] + [2] * 5 + [12] * 9 + [13])
        expansion = cameras.expand(tmp_path)
        found = at(expansion, location)
        classes = cameras.recipe.classes
        assert found.seen == (classes[1], classes[11])
        assert found.missing == (classes[2],)
        assert (found.test, found.test_seen, found.test_missing, found.excluded) == (56, 41, 5, 10)
        assert sum(r["class"] in classes[12:14] for r in expansion.images.to_pylist()
                   if r["domain"] == found.name) == 10  # fmt: skip

    @pytest.mark.parametrize(
        ("first_day", "second_day", "reason"),
        [
            ([1] * 50, [1] * 45 + [2] * 5, None),
            ([1] * 49, [1] * 45 + [2] * 5, "49 of 50 adaptation images"),
            ([1] * 50, [1] * 44 + [2] * 5, "49 of 50 test images"),
            ([1] * 50, [1] * 5 + [2] * 45, None),
            ([1] * 50, [1] * 4 + [2] * 46, "4 of 5 seen test images"),
            ([1] * 50, [1] * 46 + [2] * 4, "4 of 5 test images of any missing class"),
            ([1] * 50, [1] * 42 + [2] * 4 + [3] * 4, "4 of 5 test images of any missing class"),
            ([1] * 50, [1] * 60, "0 of 5 test images of any missing class"),
            ([1] * 50, [1] * 45 + [15] * 9, "0 of 5 test images of any missing class"),
            # Images that do not count are test images all the same.
            ([1] * 50, [1] * 5 + [2] * 5 + [15] * 40, None),
        ],
    )
    def test_what_is_a_task(
        self,
        cameras: Cameras,
        tmp_path: Path,
        first_day: list[int],
        second_day: list[int],
        reason: str | None,
    ) -> None:
        one_task(cameras)
        cameras.days(cameras.targets[7], first_day, second_day)
        expansion = cameras.expand(tmp_path)
        found = at(expansion, cameras.targets[7])
        assert found.left_out == (() if reason is None else (reason,))
        tasks = [task["id"] for task in expansion.document["tasks"]]
        assert (found.name in tasks) == (reason is None)
        assert (found.name in expansion.images["domain"].to_pylist()) == (reason is None)

    def test_the_source_is_train_and_is_tested_on_id_test(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        one_task(cameras)
        cameras.know(1, 2, split="id_test")
        cameras.know(3, 4, 5, split="id_val")
        cameras.burst(of_split(cameras.recipe, "val")[0], "2013-01-01 12:00:00", [6], "val")
        rows = cameras.expand(tmp_path).images.to_pylist()
        counts = Counter(row["split"] for row in rows if row["domain"] == "train")
        assert counts == {"train": 10, "test": 2}
        assert {row["domain"] for row in rows} == {"train", f"loc-{cameras.targets[0]}"}

    def test_classes_of_one_species_name_are_apart(self, recipe: Recipe) -> None:
        assert recipe.classes[153] == "mazama temama 380"
        assert recipe.classes[181] == "mazama temama 571"

    def test_no_task_at_all(self, cameras: Cameras, tmp_path: Path) -> None:
        cameras.days(cameras.targets[0], [1] * 49, [1] * 60)
        with pytest.raises(ManifestError, match=r"none of 48 locations is a task \(loc-"):
            cameras.expand(tmp_path)

    def test_a_source_without_images(self, recipe: Recipe, tmp_path: Path) -> None:
        cameras = Cameras(recipe)
        one_task(cameras)
        with pytest.raises(ManifestError, match="no image of the split 'train'"):
            cameras.expand(tmp_path)


def slow_reference(path: Path, recipe: Recipe) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """The rule once more, in plain Python: tasks by name, and images by id."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = {int(row["y"]) for row in rows if row["split"] == "train"}
    tasks: dict[str, Any] = {}
    images: dict[str, tuple[str, ...]] = {}

    def keep(row: Row, domain: str, split: str) -> None:
        images[row["image_id"]] = (domain, recipe.classes[int(row["y"])], split,
                                   f"train/{row['filename']}", row["seq_id"])  # fmt: skip

    for row in rows:
        if row["split"] in ("train", "id_test"):
            keep(row, "train", "train" if row["split"] == "train" else "test")
    for location in sorted({int(r["location_remapped"]) for r in rows if r["split"] == "test"}):
        here = [row for row in rows if int(row["location_remapped"]) == location]
        here.sort(key=lambda row: datetime.datetime.fromisoformat(row["datetime"]))
        days = sorted({row["datetime"][:10] for row in here})
        first_half = days[: len(days) // 2]
        day_of: dict[str, str] = {}
        for row in here:
            day_of.setdefault(row["seq_id"], row["datetime"][:10])
        adaptation = [row for row in here if day_of[row["seq_id"]] in first_half]
        test = [row for row in here if day_of[row["seq_id"]] not in first_half]
        seen = {int(row["y"]) for row in adaptation}
        counts = Counter(int(row["y"]) for row in test)
        missing = {y for y in counts if y in known and y not in seen}
        if (
            len(days) > 1
            and len(adaptation) >= 50
            and len(test) >= 50
            and sum(counts[y] for y in seen) >= 5
            and any(counts[y] >= 5 for y in missing)
        ):
            name = f"loc-{location}"
            tasks[name] = (sorted(seen), sorted(missing))
            for part, split in ((adaptation, "train"), (test, "test")):
                for row in part:
                    keep(row, name, split)
    return tasks, images


def random_cameras(recipe: Recipe, seed: int, n_locations: int = 30) -> Cameras:
    """Locations of every kind: short and long, with bursts at night and rare classes."""
    cameras = Cameras(recipe, seed)
    choose = cameras.random
    common = choose.sample(range(182), 12)
    cameras.know(*common[:9])
    cameras.know(*common[:3], split="id_test")
    cameras.know(common[11], split="id_val")
    for location in choose.sample(cameras.targets, n_locations):
        for _ in range(choose.choice([0, 1, 12, 25, 40])):
            day = choose.randint(1, choose.choice([2, 9, 28]))
            time = choose.choice(["23:59:55", "00:00:00", "12:30:00", "23:59:59.500"])
            favourites = common[:4] if day < 9 else common
            ys = [choose.choice(favourites)] * choose.randint(1, 12)
            cameras.burst(location, f"2013-06-{day:02d} {time}", ys)
    choose.shuffle(cameras.rows)
    return cameras


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_a_slow_reference(recipe: Recipe, tmp_path: Path, seed: int) -> None:
    cameras = random_cameras(recipe, seed)
    path = cameras.write(tmp_path / "metadata.csv")
    tasks, images = slow_reference(path, recipe)
    assert tasks, "the made file has no task: choose other numbers"
    manifest = write_expansion(cameras.expand(tmp_path), tmp_path / "out")
    index = manifest.classes.index
    assert {
        task.id: (list(map(index, task.seen)), list(map(index, task.missing or ())))
        for task in manifest.tasks
    } == tasks
    columns = ("image_id", "domain", "class", "split", "path", "group")
    assert {r[0]: r[1:] for r in zip(*(manifest.table[c].to_pylist() for c in columns),
                                     strict=True)} == images  # fmt: skip


class TestWritten:
    def test_the_groups_agree_with_the_counts(self, recipe: Recipe, tmp_path: Path) -> None:
        expansion = random_cameras(recipe, seed=3).expand(tmp_path)
        manifest = write_expansion(expansion, tmp_path / "out")
        tasks = [at for at in expansion.locations if not at.left_out]
        assert [task.id for task in manifest.tasks] == [at.name for at in tasks]
        for task, expected in zip(manifest.tasks, tasks, strict=True):
            seen, missing = manifest.seen_mask(task), manifest.missing_mask(task)
            train = manifest.samples(task.target, "train").labels
            test = manifest.samples(task.target, "test").labels
            assert (len(train), len(test)) == (expected.adaptation, expected.test)
            assert (seen[test].sum(), missing[test].sum()) == (
                expected.test_seen, expected.test_missing
            )  # fmt: skip
            assert (~(seen | missing))[test].sum() == expected.excluded
            assert seen[train].all()
            assert task.sources == ("train",)

    def test_no_sequence_is_in_two_splits_of_a_target(self, recipe: Recipe, tmp_path: Path) -> None:
        rows = random_cameras(recipe, seed=4).expand(tmp_path).images.to_pylist()
        split_of = defaultdict(set)
        for row in rows:
            if row["domain"] != "train":
                split_of[row["group"]].add(row["split"])
        assert set(map(len, split_of.values())) == {1}

    def test_the_order_of_the_rows_does_not_matter(self, recipe: Recipe, tmp_path: Path) -> None:
        cameras = random_cameras(recipe, seed=5)
        first = write_expansion(cameras.expand(tmp_path), tmp_path / "a")
        random.Random(1).shuffle(cameras.rows)
        second = write_expansion(cameras.expand(tmp_path), tmp_path / "b")
        assert (first.digest, first.version) == (second.digest, second.version)
        for name in ("manifest.toml", "iwildcam.toml", "images.parquet"):
            assert (first.root / name).read_bytes() == (second.root / name).read_bytes()

    def test_other_rows_are_another_version(self, cameras: Cameras, tmp_path: Path) -> None:
        one_task(cameras)
        before = cameras.expand(tmp_path).document["version"]
        assert before.startswith("1.0+")
        assert len(before) == len("1.0+") + 8
        cameras.know(7)
        assert cameras.expand(tmp_path).document["version"] != before

    def test_the_published_file_is_version_1_0(
        self, cameras: Cameras, tmp_path: Path, own_data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one_task(cameras)
        recipe, path = publish(cameras, tmp_path, monkeypatch)
        with pytest.raises(ManifestError, match=r"htbench manifest expand iwildcam@1\.0 --met"):
            load_manifest(REFERENCE)
        manifest = write_expansion(expand(recipe, read_metadata(path, recipe)))
        assert manifest.root == own_data / "manifests" / "iwildcam" / "1.0"
        assert load_manifest(REFERENCE).digest == manifest.digest
        assert REFERENCE in published_manifests()

    def test_it_says_what_it_was_made_from(self, cameras: Cameras, tmp_path: Path) -> None:
        one_task(cameras)
        document = write_expansion(cameras.expand(tmp_path), tmp_path / "out").document
        assert document["expansion"]["recipe"] == REFERENCE
        assert document["expansion"]["recipe_digest"] == cameras.recipe.digest
        assert document["expansion"]["metadata_is_published"] is False
        for key in ("terms", "citation", "mirrors", "model", "transforms", "source", "recipe",
                    "rule"):  # fmt: skip
            assert document[key] == cameras.recipe.document[key]

    def test_its_suite_has_every_task(self, recipe: Recipe, tmp_path: Path) -> None:
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
        with pytest.raises(UsageError, match=r"holds 'metadata.csv'; give a new folder"):
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


def publish(cameras: Cameras, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Recipe, Path]:
    """Pretend that a made file is the published one."""
    import hashlib

    path = cameras.write(folder / "metadata.csv")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    document = {**cameras.recipe.document, "metadata": {"md5": md5}}
    recipe = Recipe(REFERENCE, document, cameras.recipe.classes, cameras.recipe.categories,
                    cameras.recipe.splits)  # fmt: skip
    monkeypatch.setattr(module, "load_recipe", lambda reference: recipe)
    return recipe, path


def cell(name: str, value: str, row: int = 0) -> Callable[[Cameras], None]:
    return lambda cameras: cameras.rows[row].update({name: value})


def same(name: str) -> Callable[[Cameras], None]:
    return lambda cameras: cameras.rows[3].update({name: cameras.rows[1][name]})


class TestMistakes:
    """One sentence each, and nothing is written."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (same("image_id"), "column image_id has a value more than once: '"),
            (same("filename"), "column filename has a value more than once: '"),
            *[
                (cell(name, value, row=4), f"column {name} is empty in 1 of 110 rows, the first of "
                                           f"them row 5: '{value}'")
                for name in module.COLUMNS for value in ("", "NaN")
            ],
            (cell("datetime", "2013-06-05"), "column datetime is not a time such as 2013-06-05 05"),
            (cell("datetime", "05/06/2013 12:00"), "column datetime is not a time"),
            (cell("datetime", "2013-06-05 25:00:00"), "column datetime is not a time"),
            (cell("datetime", "2013-02-30 12:00:00.000"), "column datetime is no date in 1 of"),
            (cell("datetime", "0000-01-01 12:00:00"), "column datetime is no date in 1 of"),
            (cell("y", "182"), "column y is not a class from 0 to 181 in 1 of 110 rows"),
            (cell("y", "99999"), "column y is not a class from 0 to 181"),
            (cell("y", "1.0"), "column y is not a whole number"),
            (cell("y", "-1"), "column y is not a whole number"),
            (cell("y", "1" * 40), "column y is not a whole number"),
            (cell("category_id", "9"), "class 0 has category_id 9, but 'empty' is 0"),
            (cell("split", "training"), "column split is none of id_test, id_val, test, train"),
            (cell("location_remapped", "323"), "location_remapped is not a location of the data"),
            (cell("split", "test"), "has images of the split 'test', but it is one of train"),
            (cell("filename", "../x.jpg"), "column filename is not a plain name"),
            (cell("filename", "a\x1b.jpg"), "column filename is not a plain name"),
            (cell("seq_id", "a b"), "column seq_id is not a plain name"),
        ],
    )  # fmt: skip
    def test_in_a_cell(
        self, cameras: Cameras, tmp_path: Path, change: Callable[[Cameras], None], message: str
    ) -> None:
        one_task(cameras)
        change(cameras)
        with pytest.raises(DataError) as caught:
            cameras.expand(tmp_path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", module.COLUMNS)
    def test_a_column_that_lacks(self, cameras: Cameras, tmp_path: Path, name: str) -> None:
        path = cameras.write(tmp_path / "m.csv", [column for column in HEADER if column != name])
        with pytest.raises(DataError, match=rf"lacks the columns '{name}'; give the metadata\.csv"):
            read_metadata(path, cameras.recipe, allow_unknown=True)

    def test_only_the_columns_of_the_rule_are_needed(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        one_task(cameras)
        full = cameras.expand(tmp_path)
        path = cameras.write(tmp_path / "m.csv", module.COLUMNS[::-1])
        less = expand(cameras.recipe, read_metadata(path, cameras.recipe, allow_unknown=True))
        assert less.document == full.document

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "lacks the columns"),
            (b"\x89PNG\r\n\x1a\n\x00", "its first line is not text"),
            (b'{"split": 1}', "lacks the columns"),
            (b"split,split", "lacks the columns"),
            (",".join([*HEADER, "y"]).encode(), "more than one column 'y'"),
            (",".join(HEADER).encode(), "has a header and no rows"),
            (",".join(HEADER).encode() + b"\n\n", "has a header and no rows"),
            (",".join(HEADER).encode() + b"\n1,2\n", "not a CSV file with the same columns"),
            (",".join(HEADER).encode() + b"\n" + b"\xff," * 10 + b"1\n", "not a CSV file"),
        ],
    )
    def test_not_such_a_file(
        self, recipe: Recipe, tmp_path: Path, content: bytes, message: str
    ) -> None:
        path = tmp_path / "m.csv"
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_metadata(path, recipe, allow_unknown=True)

    def test_another_file_than_the_published_one(self, cameras: Cameras, tmp_path: Path) -> None:
        path = cameras.write(tmp_path / "m.csv")
        with pytest.raises(DataError, match=r"MD5 .*, not ab4905ee40ac.*--allow-unknown-metadata"):
            read_metadata(path, cameras.recipe)

    def test_too_large(
        self, cameras: Cameras, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_METADATA_BYTES", 1 << 20)
        path = tmp_path / "m.csv"
        with path.open("wb") as file:
            file.truncate((1 << 20) + 1)
        with pytest.raises(DataError, match="larger than 1 MiB"):
            read_metadata(path, cameras.recipe)

    @pytest.mark.parametrize("path", ["/dev/zero", "no-such-file", "."])
    def test_no_file(self, recipe: Recipe, path: str) -> None:
        with pytest.raises(DataError, match="is not a file"):
            read_metadata(Path(path), recipe)

    @pytest.mark.parametrize("reference", ["icons@1.0", "iwildcam", "../iwildcam@1.0", ""])
    def test_no_recipe(self, reference: str) -> None:
        with pytest.raises(UsageError, match=r"known: iwildcam@1\.0"):
            load_recipe(reference)


class TestNotExpanded:
    @pytest.mark.parametrize("shown", ["iwildcam@1.0", "iwildcam", "data_manifests/iwildcam/1.0"])
    def test_loading_names_the_command(self, shown: str) -> None:
        if "/" in shown:
            shown = str(module.packaged_manifests() / "iwildcam" / "1.0")
        command = r"htbench manifest expand iwildcam@1\.0 --metadata metadata\.csv$"
        with pytest.raises(ManifestError, match=command):
            load_manifest(shown)

    def test_an_unknown_reference_lists_recipes_too(self) -> None:
        with pytest.raises(ManifestError, match=r"recipes to expand: iwildcam@1\.0"):
            load_manifest("iwildcam@9.9")

    def test_the_lists_do_not_break(self, own_data: Path) -> None:
        result = CliRunner().invoke(list_command, ["datasets"])
        assert result.exit_code == 0
        assert "htbench manifest expand iwildcam@1.0 --metadata FILE" in result.output
        data = json.loads(CliRunner().invoke(list_command, ["datasets", "--json"]).output)
        assert "icons@1.0" in [entry["manifest"] for entry in data]


class TestCommand:
    def test_prints_every_location(self, cameras: Cameras, tmp_path: Path, own_data: Path) -> None:
        location = one_task(cameras)
        cameras.days(cameras.targets[1], [1] * 9)
        path = str(cameras.write(tmp_path / "metadata.csv"))
        result = CliRunner().invoke(
            command, ["expand", REFERENCE, "--metadata", path, "--allow-unknown-metadata"]
        )
        assert result.exit_code == 0, result.output
        (reference,) = [r for r in published_manifests() if r.startswith("iwildcam@1.0+")]
        manifest = load_manifest(reference)
        lines = {line.split()[0]: line.split()[1:] for line in result.output.splitlines() if line}
        assert lines[str(location)] == ["2", "50", "50", "40", "10", "0", "1", "1", "task"]
        assert lines[str(cameras.targets[1])][-2:] == ["one", "day"]
        assert lines["digest"] == [manifest.digest]
        assert "its results form their own table" in result.output

    def test_json_and_another_folder(
        self, cameras: Cameras, tmp_path: Path, own_data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one_task(cameras)
        _, path = publish(cameras, tmp_path, monkeypatch)
        arguments = ["expand", REFERENCE, "--metadata", str(path), "--out", str(tmp_path / "own")]
        result = CliRunner().invoke(command, [*arguments, "--json"])
        found = json.loads(result.output)
        assert found["digest"] == load_manifest(tmp_path / "own").digest
        assert found["manifest"] == REFERENCE
        assert len(found["locations"]) == 48
        assert not own_data.exists()
        shown = CliRunner().invoke(command, ["show", str(tmp_path / "own"), "--json"])
        assert json.loads(shown.output)["tasks"][0]["test_excluded"] == 0

    def test_a_mistake_is_one_sentence_and_status_2(
        self, tmp_path: Path, own_data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "m.csv").write_text("a,b\n1,2\n")
        with pytest.raises(SystemExit) as caught:
            main(["manifest", "expand", REFERENCE, "--metadata", str(tmp_path / "m.csv")])
        assert caught.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("htbench: ")
        assert not own_data.exists()

    def test_loads_no_torch(self) -> None:
        code = "import sys, benchmark.expand, htbench.cli.manifest; print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "False\n", done.stderr


class TestTasksThatNameTheirMissingClasses:
    """Any manifest may have a class in neither group of a task."""

    def test_the_others_are_in_neither_group(self, draft: Any) -> None:
        draft.document["tasks"][0]["missing"] = ["star"]
        manifest = draft.read()
        first, second = manifest.tasks[:2]
        assert first.missing == ("star",)
        assert [manifest.classes[i] for i in np.flatnonzero(manifest.missing_mask(first))] == [
            "star"
        ]
        assert second.missing is None
        assert (manifest.missing_mask(second) == ~manifest.seen_mask(second)).all()

    def test_it_is_part_of_the_digest(self, draft: Any) -> None:
        before = draft.read().digest
        draft.document["tasks"][0]["missing"] = ["airplane", "star"]
        assert draft.read().digest != before

    @pytest.mark.parametrize(
        ("missing", "message"),
        [
            (["moon"], "unknown class 'moon' in missing"),
            (["star", "bell"], "'bell' is both seen and missing"),
            ([], "missing must be a list of names; it holds nothing"),
            (["star", "star"], "missing names 'star' more than once"),
            ("star", "missing is 'star'; it must be a list of names"),
        ],
    )
    def test_mistakes(self, draft: Any, missing: object, message: str) -> None:
        draft.document["tasks"][0]["missing"] = missing
        with pytest.raises(ManifestError, match=message):
            draft.read()

    def test_without_a_test_image_the_group_is_empty(self, draft: Any) -> None:
        draft.document["tasks"][0]["missing"] = ["star"]
        gone = draft.rows_of(domain="solid", split="test", **{"class": "star"})
        draft.rows = [row for row in draft.rows if row not in gone]
        with pytest.raises(ManifestError, match="no test image of a missing class in solid"):
            draft.read()


class TestExcludedSamples:
    """Test images in neither group are predicted, and count nowhere."""

    @pytest.fixture
    def manifest(self, cameras: Cameras, tmp_path: Path) -> Any:
        cameras.days(cameras.targets[0], [1] * 30 + [3] * 30, [1, 3] * 20 + [2] * 9 + [15] * 11)
        return write_expansion(cameras.expand(tmp_path), tmp_path / "out")

    def predictions(self, manifest: Any) -> tuple[Any, np.ndarray]:
        test = manifest.samples(manifest.tasks[0].target, "test")
        logits = np.random.default_rng(0).normal(size=(len(test.ids), 182)).astype(np.float32)
        logits[np.arange(len(test.ids)), test.labels] += 2
        return test, logits

    def test_metrics_are_those_without_them(self, manifest: Any, tmp_path: Path) -> None:
        (task,) = manifest.tasks
        test, logits = self.predictions(manifest)
        write_predictions(tmp_path / "p.parquet", test.ids, logits)
        found = score_predictions(tmp_path / "p.parquet", manifest, task.id).as_dict()
        rest = np.array([manifest.classes[y] in (*task.seen, *task.missing) for y in test.labels])
        expected = score(logits[rest], test.labels[rest], manifest.seen_mask(task)).as_dict()
        assert found == {**expected, "n_excluded": 11}
        assert (found["n_seen"], found["n_missing"]) == (40, 9)

    def test_their_logits_change_nothing(self, manifest: Any, tmp_path: Path) -> None:
        (task,) = manifest.tasks
        test, logits = self.predictions(manifest)
        path = tmp_path / "p.parquet"
        write_predictions(path, test.ids, logits)
        before = score_predictions(path, manifest, task.id)
        logits[test.labels == 15] = 0
        write_predictions(path, test.ids, logits)
        assert score_predictions(path, manifest, task.id) == before

    def test_predictions_must_hold_them_all_the_same(self, manifest: Any, tmp_path: Path) -> None:
        (task,) = manifest.tasks
        test, logits = self.predictions(manifest)
        path = tmp_path / "p.parquet"
        write_predictions(path, test.ids[:-1], logits[:-1])
        with pytest.raises(HTBenchError, match="1 missing sample id"):
            score_predictions(path, manifest, task.id)
        logits[np.flatnonzero(test.labels == 15)[0]] = np.nan
        write_predictions(path, test.ids, logits)
        with pytest.raises(HTBenchError, match="NaN or infinite logits"):
            score_predictions(path, manifest, task.id)

    def test_the_results_count_them(
        self, manifest: Any, tmp_path: Path, write_run: Callable[..., Any]
    ) -> None:
        from leaderboard.results import update_results

        (task,) = manifest.tasks
        write_run(tmp_path / "w", "finetune", task.id, manifest=manifest)
        for _ in range(2):  # scored, then taken over
            rows = update_results(tmp_path / "w", [manifest]).to_pylist()
            assert {row["method"] for row in rows} == {"finetune", "gamma-star"}
            for row in rows:
                assert (row["n_seen"], row["n_missing"], row["n_excluded"]) == (40, 9, 11)

    def test_the_score_command_reports_them(
        self, manifest: Any, tmp_path: Path, write_run: Callable[..., Any]
    ) -> None:
        from htbench.cli.score import command as score_command

        record = write_run(tmp_path / "w", "finetune", manifest.tasks[0].id, manifest=manifest)
        arguments = [record.key, "--workspace", str(tmp_path / "w"), "--json", "--suite",
                     str(manifest.root / "iwildcam.toml")]  # fmt: skip
        result = CliRunner().invoke(score_command, arguments)
        assert json.loads(result.output)["n_excluded"] == 11
