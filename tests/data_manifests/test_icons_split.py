"""The split of icons@2.0 follows its rule: whole families, and no near copy across."""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmark.errors import DataError
from benchmark.folders import packaged_manifests
from benchmark.manifest.manifest import IMAGES_FILE
from data_manifests.builders import parts
from data_manifests.builders.icons import (
    build,
    families,
    selection,
    split,
    twins,
)

FOLDER = packaged_manifests() / "icons" / "2.0"


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pq.read_table(FOLDER / IMAGES_FILE)


@pytest.fixture(scope="module")
def attribution() -> list[dict[str, str]]:
    text = (FOLDER / parts.ATTRIBUTION).read_text("utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def icon(icon_set: str, name: str, shade: int) -> selection.Icon:
    pixels = np.full((32, 32, 3), shade, np.uint8)
    return selection.Icon(icon_set, name, "bell", "solid", pixels)


@pytest.fixture(scope="module")
def pixel_icons() -> list[selection.Icon]:
    return build.read_icons(FOLDER / IMAGES_FILE)


@pytest.fixture(scope="module")
def near_copies(table: pa.Table) -> list[tuple[int, int]]:
    rows = table.to_pylist()
    cells: dict[tuple[str, str], list[int]] = {}
    pixels = []
    for index, row in enumerate(rows):
        cells.setdefault((row["domain"], row["class"]), []).append(index)
        image = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        centred = np.asarray(image, np.float64).ravel()
        centred -= centred.mean()
        pixels.append(centred / np.sqrt((centred**2).sum()))
    return [
        (a, b)
        for members in cells.values()
        for a in members
        for b in members
        if a < b and pixels[a] @ pixels[b] > 0.95
    ]


class TestSplit:
    """The published split by another way than the builder's, from the published pixels."""

    def test_a_rebuild_from_the_pixels_gives_the_published_file(
        self, pixel_icons: list[selection.Icon], table: pa.Table
    ) -> None:
        result = split.split_icons(pixel_icons, twins.find_twins(pixel_icons))
        assert build.image_table(pixel_icons, result).equals(table, check_metadata=True)
        assert result.number == 1503

    def test_no_test_image_has_a_near_copy_in_train(
        self, table: pa.Table, near_copies: list[tuple[int, int]]
    ) -> None:
        splits = table["split"].to_pylist()
        assert len(near_copies) == 437
        assert [pair for pair in near_copies if splits[pair[0]] != splits[pair[1]]] == []

    def test_the_report_compares_the_splits(self, pixel_icons: list[selection.Icon]) -> None:
        near = twins.find_twins(pixel_icons)
        result = split.assign(
            1503,
            [families.family_of(icon.icon_set) for icon in pixel_icons],
            near.designs(len(pixel_icons)),
        )
        assert split.report(pixel_icons, near, result)[1:] == [
            "  split 1.0: 5.12% (outline 27 of 1566, solid 120 of 1119, color 12 of 418)",
            "  split families: 4.53% (outline 17 of 917, solid 75 of 805, color 0 of 309)",
            "  split 2.0: 0.00% (outline 0 of 900, solid 0 of 720, color 0 of 309)",
            "Split number 1503; 102 icons of test families are in train, as near copies",
        ]

    def test_families_are_drawn_by_sha256(self, table: pa.Table) -> None:
        sets = [image_id.split("/")[0] for image_id in table["image_id"].to_pylist()]
        sizes = Counter(families.family_of(name) for name in sets)
        room, tests = 0.3 * 6786, set()
        for name in sorted(
            sizes, key=lambda f: hashlib.sha256(f"icons/2.0/split/1503/{f}".encode()).digest()
        ):
            if sizes[name] <= room:
                tests.add(name)
                room -= sizes[name]
        groups, splits = table["group"].to_pylist(), table["split"].to_pylist()
        assert {g for g, s in zip(groups, splits, strict=True) if s == "test"} == tests
        assert all((g in tests) == (s == "test") for g, s in zip(groups, splits, strict=True))

    def test_an_icon_leaves_its_family_only_as_a_copy_of_a_training_icon(
        self, table: pa.Table, near_copies: list[tuple[int, int]]
    ) -> None:
        families_of = [
            families.family_of(image_id.split("/")[0]) for image_id in table["image_id"].to_pylist()
        ]
        groups, splits = table["group"].to_pylist(), table["split"].to_pylist()
        left = {i for i, (f, g) in enumerate(zip(families_of, groups, strict=True)) if f != g}
        assert len(left) == 102
        linked = {i: {i} for i in range(len(groups))}
        for a, b in near_copies:
            union = linked[a] | linked[b]
            for i in union:
                linked[i] = union
        for i in left:
            assert splits[i] == "train"
            origins = {groups[j] for j in linked[i] if families_of[j] == groups[j]}
            assert groups[i] in origins

    def test_sets_of_one_author_are_one_family(self, attribution: list[dict[str, str]]) -> None:
        by_author: dict[str, set[str]] = {}
        for row in attribution:
            by_author.setdefault(row["author"], set()).add(families.family_of(row["icon_set"]))
        assert [names for names in by_author.values() if len(names) > 1] == []
        assert len(set().union(*by_author.values())) == 100

    def test_every_pattern_of_a_family_matches_a_set(
        self, attribution: list[dict[str, str]]
    ) -> None:
        names = [row["icon_set"] for row in attribution]
        patterns = [p for entry in families.FAMILIES.values() for p in entry]
        assert [p for p in patterns if not fnmatch.filter(names, p)] == []

    def test_sets_that_share_many_near_copies_must_be_one_family(self) -> None:
        icons = [
            replace(icon(name, "icon", 0), class_name=f"class-{i}")
            for i in range(3)
            for name in ("a", "b")
        ]
        near = twins.Twins(((0, 1), (2, 3), (4, 5)))
        assert families.unmerged_sets(icons, near) == [("a", "b", 3, 3)]
        assert families.unmerged_sets(icons, twins.Twins(near.pairs[:2])) == []
        with pytest.raises(DataError, match=r"a and b \(3 of 3 cells\)"):
            split.split_icons(icons, near)


class TestTwins:
    def test_designs_link_near_copies_of_near_copies(self) -> None:
        assert twins.Twins(((0, 3), (1, 2), (3, 4))).designs(6) == [0, 1, 1, 0, 0, 5]

    def test_leaked_icons_are_test_icons_with_a_twin_in_train(self) -> None:
        near = twins.Twins(((0, 1), (2, 3), (3, 4)))
        assert near.leaked(["test", "train", "test", "test", "test"]) == [0]
