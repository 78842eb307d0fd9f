"""Splits follow their documented rules; the reference is pacs@1.0, and plain recomputation."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction

import pytest

from benchmark.errors import UsageError
from benchmark.manifest.catalogue import load_manifest
from benchmark.own_data.listing import Entry
from benchmark.own_data.splits import ACROSS_CELLS, ALONE, GIVEN, IN_CELLS, assign_splits, group_by
from tests.benchmark.own_data.pictures import entries_of, grid

SEVEN_TENTHS = Fraction(7, 10)
# Drawings of one photo are a group, and every other image is one; see the manifest of pacs.
PACS_GROUPS = r"^(?:sketch/[^/]+/n\d+_\d+(?=-\d+\.png$)|.*)"


def split_of(entries: list[Entry], share: Fraction = SEVEN_TENTHS) -> dict[str, str | None]:
    return {entry.path: entry.split for entry in assign_splits(entries, share)[0]}


def test_the_folders_of_pacs_get_the_published_split() -> None:
    table = load_manifest("pacs@1.0").table
    published = dict(zip(*(table[n].to_pylist() for n in ("path", "split")), strict=True))
    entries = group_by(entries_of(published), PACS_GROUPS)
    assert [entry.group for entry in entries] == table["group"].to_pylist()
    assert split_of(entries) == published
    assert assign_splits(entries, SEVEN_TENTHS)[1] == IN_CELLS.format(share="0.7")


@pytest.mark.parametrize(("images", "train"), [(1, 0), (2, 1), (3, 2), (10, 7), (90, 63)])
def test_the_first_images_by_sha256_are_training_images(images: int, train: int) -> None:
    paths = grid("photo", "cat", images)
    ordered = sorted(paths, key=lambda path: hashlib.sha256(path.encode()).hexdigest())
    split = split_of(entries_of(paths))
    assert [split[path] for path in ordered] == ["train"] * train + ["test"] * (images - train)
    assert assign_splits(entries_of(paths), SEVEN_TENTHS)[1] == ALONE.format(share="0.7")


def test_the_last_group_is_a_test_group() -> None:
    entries = group_by(entries_of(grid("photo", "cat", 30)), r"/(\d)")
    split, _ = assign_splits(entries, Fraction(99, 100))
    last = max("0123456789", key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    assert {entry.group for entry in split if entry.split == "test"} == {last}


def test_groups_of_several_cells_are_on_one_side_and_each_cell_is_balanced() -> None:
    paths = grid("photo sketch cartoon", "cat dog owl bee", 60)
    draw = random.Random(0)
    entries = [replace(e, group=f"camera {draw.randrange(80)}") for e in entries_of(paths)]
    split, rule = assign_splits(entries, SEVEN_TENTHS)
    assert rule == ACROSS_CELLS.format(share="0.7")
    sides = defaultdict(set)
    for entry in split:
        sides[entry.group].add(entry.split)
    assert all(len(side) == 1 for side in sides.values())
    train = Counter((e.domain, e.class_name) for e in split if e.split == "train")
    assert all(0.5 < count / 60 < 0.9 for count in train.values())
    assert abs(train.total() / len(paths) - 0.7) < 0.03


def test_the_rule_of_groups_of_several_cells_by_hand() -> None:
    """A and B have two images of two classes each; C, D one; ties by SHA-256 of the name."""
    cells = {"A": ("cat", "dog"), "B": ("cat", "dog"), "C": ("cat",), "D": ("dog",)}
    entries = [
        Entry(f"p/{name}/{group}", "", "p", name, group=group)
        for group, names in cells.items()
        for name in names
    ]
    # A (559a...) is placed before B (df7e...): train. B, then C (6b23...) and D (3f39...) find
    # (0.5 e - 0.5 t) / 3 per image: B is below 0, C and D are at 0 after B is in test.
    assert split_of(entries, Fraction(1, 2)) == {
        "p/cat/A": "train",
        "p/dog/A": "train",
        "p/cat/B": "test",
        "p/dog/B": "test",
        "p/cat/C": "train",
        "p/dog/D": "train",
    }


def test_given_splits_stay_and_a_group_on_both_sides_is_refused() -> None:
    given = [*entries_of(["a/cat/1"], split="train"), *entries_of(["a/cat/2"], split="test")]
    assert assign_splits(given, SEVEN_TENTHS) == (given, GIVEN)
    grouped = [replace(entry, group="g") for entry in given]
    with pytest.raises(UsageError, match="1 group with images in train and in test: 'g'"):
        assign_splits(grouped, SEVEN_TENTHS)


class TestGroupBy:
    def test_the_first_parenthesis_or_the_match_is_the_group(self) -> None:
        entries = entries_of(["a/cat/seq12_3.png"])
        assert group_by(entries, r"(seq\d+)_(\d)")[0].group == "seq12"
        assert group_by(entries, r"seq\d")[0].group == "seq1"

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("(", "not a valid regular expression"),
            ("(seq)", "finds no group in 1 of 2 paths: 'a/cat/1.png'"),
            ("(seq)?", "finds no group in 2 of 2 paths"),
            (r"(\d\d)", r"--group-by '\(\\d\\d\)' finds no group in 2 of 2 paths"),
        ],
    )
    def test_an_expression_must_match_every_path(self, pattern: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            group_by(entries_of(["a/cat/seq.png", "a/cat/1.png"]), pattern)

    def test_a_column_group_is_not_overruled(self) -> None:
        with pytest.raises(UsageError, match="cannot be combined with a column group"):
            group_by(entries_of(["a/cat/1.png"], group="g"), "(a)")
