"""Metadata files of camera traps for tests that expand the recipe of iWildCam."""

from __future__ import annotations

import csv
import datetime
import hashlib
import random
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from benchmark.manifest.expand import Expansion, Location, expand_recipe
from benchmark.manifest.metadata import read_metadata
from benchmark.manifest.recipe import ManifestRecipe

# The columns of metadata.csv of iWildCam2020-WILDS v2.0; the first, a row number, has no name.
HEADER = [
    "",
    "split",
    "location_remapped",
    "location",
    "sequence_remapped",
    "seq_id",
    "y",
    "category_id",
    "datetime",
    "filename",
    "image_id",
]
REFERENCE = "iwildcam@1.1"
Row = dict[str, str]


def of_split(recipe: ManifestRecipe, split: str) -> list[int]:
    """The locations that have images of a split."""
    return [location for location, splits in recipe.splits.items() if split in splits]


class Cameras:
    """Builds a metadata file like that of iWildCam, burst by burst.

    Args:
        recipe: defines the categories and locations.
        seed: of the sequence and image ids.
    """

    def __init__(self, recipe: ManifestRecipe, seed: int = 0) -> None:
        self.recipe, self.rows = recipe, list[Row]()
        self.random = random.Random(seed)
        self.source, self.targets = of_split(recipe, "train"), of_split(recipe, "test")

    def burst(self, location: int, time: str, ys: Iterable[int], split: str = "test") -> list[Row]:
        """Add a sequence of images, one per second, from ``time``, as 2013-06-05 05:44:19."""
        start = datetime.datetime.fromisoformat(time)
        sequence = str(uuid.UUID(int=self.random.getrandbits(128)))
        rows = []
        for second, y in enumerate(ys):
            image = str(uuid.UUID(int=self.random.getrandbits(128)))
            moment = start + datetime.timedelta(seconds=second)
            rows.append(
                {
                    "": str(len(self.rows) + second),
                    "split": split,
                    "location_remapped": str(location),
                    "location": str(500 - location),
                    "sequence_remapped": str(len(self.rows)),
                    "seq_id": sequence,
                    "y": str(y),
                    "category_id": str(self.recipe.categories[y]),
                    "datetime": f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}",
                    "filename": f"{image}.jpg",
                    "image_id": image,
                }
            )
        self.rows += rows
        return rows

    def know(self, *ys: int, split: str = "train") -> None:
        """Add one image of each of these classes to the source."""
        self.burst(self.source[0], "2013-01-01 12:00:00", ys, split)

    def days(self, location: int, *per_day: Sequence[int]) -> None:
        """Add one burst at noon on each of several consecutive days."""
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
        return expand_recipe(self.recipe, read_metadata(path, self.recipe, allow_unknown=True))


def one_task(cameras: Cameras) -> int:
    """Add a location with two days: 50 images, then 40 of the same class and 20 of another."""
    location = cameras.targets[0]
    cameras.days(location, [1] * 50, [1] * 40 + [2] * 20)
    return location


def counts_of(expansion: Expansion, location: int) -> Location:
    """What an expansion counts at one location."""
    (counts,) = [item for item in expansion.locations if item.location == location]
    return counts


def random_cameras(recipe: ManifestRecipe, seed: int, n_locations: int = 30) -> Cameras:
    """Locations of every kind: few and many days, bursts at midnight, rare classes."""
    cameras = Cameras(recipe, seed)
    choose = cameras.random
    common = choose.sample(range(182), 12)
    cameras.know(*common[:9])
    cameras.know(*common[:3], split="id_test")
    cameras.know(common[11], split="id_val")
    for location in choose.sample(cameras.targets, n_locations):
        for _ in range(choose.choice([0, 1, 12, 30, 60])):
            day = choose.randint(1, choose.choice([2, 9, 28]))
            time = choose.choice(["23:59:55", "00:00:00", "12:30:00", "23:59:59.500"])
            favourites = common[:4] if day < 12 else common
            ys = [choose.choice(favourites)] * choose.randint(1, 12)
            cameras.burst(location, f"2013-06-{day:02d} {time}", ys)
    choose.shuffle(cameras.rows)
    return cameras


def publish(
    cameras: Cameras, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[ManifestRecipe, Path]:
    """Write the metadata, and make the recipe accept it as the published file."""
    path = cameras.write(folder / "metadata.csv")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    document = {**cameras.recipe.document, "metadata": {"md5": md5}}
    recipe = ManifestRecipe(
        REFERENCE,
        document,
        cameras.recipe.classes,
        cameras.recipe.categories,
        cameras.recipe.splits,
    )
    monkeypatch.setattr("benchmark.manifest.recipe.load_recipe", lambda reference: recipe)
    return recipe, path
