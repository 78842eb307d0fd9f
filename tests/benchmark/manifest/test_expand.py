"""The rule that turns metadata of camera traps into tasks and images."""

from __future__ import annotations

import csv
import datetime
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import ManifestError
from benchmark.manifest.expand import write_expansion
from benchmark.manifest.recipe import ManifestRecipe
from tests.benchmark.manifest.cameras import (
    Cameras,
    Row,
    counts_of,
    of_split,
    one_task,
    random_cameras,
)


class TestRule:
    def test_the_first_half_of_the_days_is_adaptation(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        location = one_task(cameras)
        counts = counts_of(cameras.expand(tmp_path), location)
        assert (counts.days, counts.adaptation, counts.test) == (2, 50, 60)
        assert (counts.test_seen, counts.test_missing, counts.excluded) == (40, 20, 0)
        assert counts.seen == (cameras.recipe.classes[1],)
        assert counts.missing == (cameras.recipe.classes[2],)
        assert counts.left_out == ()

    def test_an_odd_number_of_days_gives_adaptation_the_smaller_half(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        location = cameras.targets[3]
        cameras.days(location, [1] * 30, [1] * 30, [1] * 7, [1] * 30, [1] * 20 + [2] * 20)
        counts = counts_of(cameras.expand(tmp_path), location)
        assert (counts.days, counts.adaptation, counts.test) == (5, 60, 77)

    def test_days_without_images_do_not_count(self, cameras: Cameras, tmp_path: Path) -> None:
        location = cameras.targets[0]
        for date, ys in (
            ("2013-01-01", [1] * 50),
            ("2015-01-01", [1]),
            ("2015-01-02", [1] * 50),
            ("2015-01-03", [2] * 20),
        ):
            cameras.burst(location, f"{date} 08:00:00", ys)
        counts = counts_of(cameras.expand(tmp_path), location)
        assert (counts.days, counts.adaptation, counts.test) == (4, 51, 70)

    def test_a_burst_across_midnight_belongs_to_its_first_day(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        location = cameras.targets[0]
        burst = cameras.burst(location, "2013-06-01 23:59:50", [3] * 60)
        cameras.burst(location, "2013-06-02 09:00:00", [3] * 45 + [4] * 20)
        assert len({row["datetime"][:10] for row in burst}) == 2
        expansion = cameras.expand(tmp_path)
        assert counts_of(expansion, location).adaptation == 60
        rows = expansion.images.to_pylist()
        assert {r["split"] for r in rows if r["group"] == burst[0]["seq_id"]} == {"train"}

    def test_a_day_with_only_the_end_of_a_burst_counts(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        """It has images, so it counts when the days are halved, though no sequence begins on it."""
        location = cameras.targets[0]
        cameras.burst(location, "2013-06-01 23:59:30", [3] * 60)
        cameras.burst(location, "2013-06-03 09:00:00", [3] * 50)
        cameras.burst(location, "2013-06-04 09:00:00", [3] * 50 + [4] * 20)
        counts = counts_of(cameras.expand(tmp_path), location)
        assert (counts.days, counts.adaptation, counts.test) == (4, 60, 120)

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

    def test_a_location_with_one_day_is_not_a_task(self, cameras: Cameras, tmp_path: Path) -> None:
        one_task(cameras)
        cameras.days(cameras.targets[1], [1] * 500 + [2] * 500)
        counts = counts_of(cameras.expand(tmp_path), cameras.targets[1])
        assert counts.left_out == ("one day",)
        assert (counts.adaptation, counts.test) == (0, 1000)

    def test_a_location_without_images(self, cameras: Cameras, tmp_path: Path) -> None:
        one_task(cameras)
        expansion = cameras.expand(tmp_path)
        assert counts_of(expansion, cameras.targets[5]).left_out == ("no images",)
        assert [item.location for item in expansion.locations] == sorted(cameras.targets)

    def test_a_class_that_is_absent_from_the_source(self, cameras: Cameras, tmp_path: Path) -> None:
        """It is in neither group, whether the adaptation set has it or not."""
        location = cameras.targets[0]
        cameras.know(12, split="id_test")  # the source is not trained on it
        cameras.know(12, split="id_val")
        cameras.days(location, [1] * 49 + [11], [1] * 40 + [11] + [2] * 20 + [12] * 9 + [13])
        expansion = cameras.expand(tmp_path)
        counts = counts_of(expansion, location)
        classes = cameras.recipe.classes
        assert counts.seen == (classes[1],)
        assert counts.missing == (classes[2],)
        assert (counts.test, counts.test_seen, counts.test_missing) == (71, 40, 20)
        assert counts.excluded == 11
        rows = [r for r in expansion.images.to_pylist() if r["domain"] == counts.name]
        assert sum(r["class"] in classes[12:14] for r in rows) == 10

    @pytest.mark.parametrize(
        ("first_day", "second_day", "reason"),
        [
            ([1] * 50, [1] * 30 + [2] * 20, None),
            ([1] * 49, [1] * 30 + [2] * 20, "49 adaptation images (50 required)"),
            ([1] * 50, [1] * 29 + [2] * 20, "49 test images (50 required)"),
            ([1] * 50, [1] * 5 + [2] * 45, None),
            ([1] * 50, [1] * 4 + [2] * 46, "4 seen test images (5 required)"),
            ([1] * 50, [1] + [2] * 49, "1 seen test image (5 required)"),
            ([1] * 50, [1] * 31 + [2] * 19, "19 missing test images (20 required)"),
            # The missing classes count together: one of them need not be large.
            ([1] * 50, [1] * 30 + [2, 3, 4, 5, 6] * 4, None),
            ([1] * 50, [1] * 60, "0 missing test images (20 required)"),
            ([1] * 50, [1] * 45 + [15] * 20, "0 missing test images (20 required)"),
            # Images in neither group are test images, too.
            ([1] * 50, [1] * 5 + [2] * 20 + [15] * 25, None),
        ],
    )
    def test_minimum_counts_of_a_task(
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
        counts = counts_of(expansion, cameras.targets[7])
        assert counts.left_out == (() if reason is None else (reason,))
        tasks = [task["id"] for task in expansion.document["tasks"]]
        assert (counts.name in tasks) == (reason is None)
        assert (counts.name in expansion.images["domain"].to_pylist()) == (reason is None)

    def test_the_source_trains_on_train_and_tests_on_id_test(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        one_task(cameras)
        cameras.know(1, 2, split="id_test")
        cameras.know(3, 4, 5, split="id_val")
        cameras.burst(of_split(cameras.recipe, "val")[0], "2013-01-01 12:00:00", [6], "val")
        rows = cameras.expand(tmp_path).images.to_pylist()
        images = Counter(row["split"] for row in rows if row["domain"] == "train")
        assert images == {"train": 10, "test": 2}
        assert {row["domain"] for row in rows} == {"train", f"loc-{cameras.targets[0]}"}

    def test_no_task_at_all(self, cameras: Cameras, tmp_path: Path) -> None:
        cameras.days(cameras.targets[0], [1] * 49, [1] * 60)
        with pytest.raises(
            ManifestError, match=r"none of the 48 locations qualifies as a task; for example: loc-"
        ):
            cameras.expand(tmp_path)

    def test_a_source_without_images(self, recipe: ManifestRecipe, tmp_path: Path) -> None:
        cameras = Cameras(recipe)
        one_task(cameras)
        with pytest.raises(ManifestError, match="no images in the split 'train'"):
            cameras.expand(tmp_path)


def slow_reference(
    path: Path, recipe: ManifestRecipe
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """The same rule in plain Python: tasks by name, and images by id."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = {int(row["y"]) for row in rows if row["split"] == "train"}
    tasks: dict[str, Any] = {}
    images: dict[str, tuple[str, ...]] = {}

    def keep(row: Row, domain: str, split: str) -> None:
        images[row["image_id"]] = (
            domain,
            recipe.classes[int(row["y"])],
            split,
            f"train/{row['filename']}",
            row["seq_id"],
        )

    for row in rows:
        if row["split"] in ("train", "id_test"):
            keep(row, "train", "train" if row["split"] == "train" else "test")
    for location in sorted({int(r["location_remapped"]) for r in rows if r["split"] == "test"}):
        rows_here = [row for row in rows if int(row["location_remapped"]) == location]
        rows_here.sort(key=lambda row: datetime.datetime.fromisoformat(row["datetime"]))
        days = sorted({row["datetime"][:10] for row in rows_here})
        first_half = days[: len(days) // 2]
        day_of: dict[str, str] = {}
        for row in rows_here:
            day_of.setdefault(row["seq_id"], row["datetime"][:10])
        adaptation = [row for row in rows_here if day_of[row["seq_id"]] in first_half]
        test = [row for row in rows_here if day_of[row["seq_id"]] not in first_half]
        in_adaptation = {int(row["y"]) for row in adaptation}
        seen = in_adaptation & known
        counts = Counter(int(row["y"]) for row in test)
        missing = {y for y in counts if y in known and y not in in_adaptation}
        if (
            len(days) > 1
            and len(adaptation) >= 50
            and len(test) >= 50
            and sum(counts[y] for y in seen) >= 5
            and sum(counts[y] for y in missing) >= 20
        ):
            name = f"loc-{location}"
            tasks[name] = (sorted(seen), sorted(missing))
            for part, split in ((adaptation, "train"), (test, "test")):
                for row in part:
                    keep(row, name, split)
    return tasks, images


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_a_slow_reference(recipe: ManifestRecipe, tmp_path: Path, seed: int) -> None:
    cameras = random_cameras(recipe, seed)
    path = cameras.write(tmp_path / "metadata.csv")
    tasks, images = slow_reference(path, recipe)
    assert tasks, "the random file has no task: choose other numbers"
    manifest = write_expansion(cameras.expand(tmp_path), tmp_path / "out")
    index = manifest.classes.index
    assert {
        task.id: (list(map(index, task.seen)), list(map(index, task.missing or ())))
        for task in manifest.tasks
    } == tasks
    columns = ("image_id", "domain", "class", "split", "path", "group")
    assert {
        r[0]: r[1:] for r in zip(*(manifest.table[c].to_pylist() for c in columns), strict=True)
    } == images
