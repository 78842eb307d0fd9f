"""Tasks of all ordered pairs, with documented draws; the reference is pacs@1.0."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fractions import Fraction

import pytest

from benchmark.errors import UsageError
from benchmark.manifest.catalogue import load_manifest
from benchmark.own_data.tasks import draw_tasks
from tests.benchmark.own_data.pictures import entries_of

HALF = Fraction(1, 2)


def cells(text: str) -> list:
    """Entries of ``domain/class/split`` words."""
    return [
        entry for word in text.split() for entry in entries_of([word], split=word.split("/")[2])
    ]


def full(domains: Iterable[str], classes: str) -> list:
    """One training and one test image in every cell."""
    words = [f"{d}/{c}/{s}" for d in domains for c in classes for s in ("train", "test")]
    return cells(" ".join(words))


def test_the_classes_of_pacs_get_the_published_tasks() -> None:
    manifest = load_manifest("pacs@1.0")
    table = manifest.table.select(["path", "split"]).to_pylist()
    entries = [e for row in table for e in entries_of([row["path"]], split=row["split"])]
    domains = [domain.name for domain in manifest.domains]
    tasks, notes = draw_tasks(entries, manifest.classes, domains, HALF, 2, "pacs/1.0")
    assert tasks == manifest.document["tasks"]
    assert notes == []


def test_each_draw_has_an_order_by_sha256() -> None:
    classes = list("abcdefgh")
    tasks, _ = draw_tasks(full("xy", "abcdefgh"), classes, ["x", "y"], 3, 2, "mine")
    assert [task["id"] for task in tasks] == ["x-y", "y-x", "x-y.draw2", "y-x.draw2"]
    for task, draw in zip(tasks, (1, 1, 2, 2), strict=True):
        text = f"mine/seen/{task['sources'][0]}/draw{draw}"
        ordered = sorted(
            classes, key=lambda name: hashlib.sha256(f"{text}/{name}".encode()).hexdigest()
        )
        assert task["seen"] == sorted(ordered[:3])
        assert "missing" not in task


def test_more_draws_do_not_change_the_others() -> None:
    entries = full("xy", "abcdefgh")
    one, three = (
        draw_tasks(entries, list("abcdefgh"), ["x", "y"], HALF, draws, "mine")[0]
        for draws in (1, 3)
    )
    assert three[:2] == one


@pytest.mark.parametrize(
    ("classes", "share", "seen"),
    [
        ("abcdefg", HALF, 4),
        ("abcdef", HALF, 3),
        ("ab", Fraction(1, 100), 1),
        ("abc", Fraction(99, 100), 2),
    ],
)
def test_a_share_is_rounded_half_up_and_leaves_a_class_on_both_sides(
    classes: str, share: Fraction, seen: int
) -> None:
    tasks, _ = draw_tasks(full("xy", classes), list(classes), ["x", "y"], share, 1, "mine")
    assert {len(task["seen"]) for task in tasks} == {seen}


def test_a_task_has_the_classes_of_its_source_that_its_target_tests() -> None:
    entries = full("xy", "ab") + cells("x/c/train x/c/test y/d/train y/d/test y/e/test x/e/train")
    tasks, _ = draw_tasks(entries, list("abcde"), ["x", "y"], HALF, 1, "mine")
    x_y, y_x = tasks
    # c is only in x; d only in y; e has no training image in y, so it can only be missing there.
    assert {*x_y["seen"], *x_y["missing"]} == {"a", "b", "e"}
    assert "e" in x_y["missing"]
    assert {*y_x["seen"], *y_x["missing"]} == {"a", "b"}


def test_pairs_without_a_task_are_named() -> None:
    entries = full("xy", "ab") + full("z", "c")
    tasks, notes = draw_tasks(entries, list("abc"), ["x", "y", "z"], HALF, 1, "mine")
    assert [task["id"] for task in tasks] == ["x-y", "y-x"]
    assert notes[0] == "4 pairs with too few classes for a task: 'x-z', 'y-z', 'z-x' and 1 more"
    with pytest.raises(UsageError, match="no pair of domains has a task"):
        draw_tasks(full("x", "ab") + full("z", "cd"), list("abcd"), ["x", "z"], HALF, 1, "mine")


def test_too_many_seen_classes_or_tasks_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--seen 2 is too many for x-y: 2 classes .* --seen 1 or"):
        draw_tasks(full("xy", "ab"), ["a", "b"], ["x", "y"], 2, 1, "mine")
    domains = [f"d{number}" for number in range(40)]
    with pytest.raises(UsageError, match=r"40 domains .* give 1560 tasks, more than 1000; if"):
        draw_tasks([], ["a"], domains, HALF, 1, "mine")


@pytest.mark.parametrize(
    ("domains", "draws", "message"),
    [
        (["a", "a-b", "b-c", "c"], 1, r"'a', 'b-c' .* 'a-b', 'c' .* named 'a-b-c'; rename one"),
        (["a", "b", "b.draw2"], 2, r"named 'a-b.draw2'; rename one"),
        (["a" * 60, "b" * 40], 1, r"named 'a{60}-b{40}', which has 101 characters, .* shorter"),
    ],
)
def test_domains_whose_tasks_cannot_be_named_are_refused(
    domains: list[str], draws: int, message: str
) -> None:
    entries = [e for domain in domains for e in full([domain], "xy")]
    with pytest.raises(UsageError, match=message):
        draw_tasks(entries, ["x", "y"], domains, HALF, draws, "mine")


def test_equal_draws_are_noted() -> None:
    _, notes = draw_tasks(full("xy", "ab"), ["a", "b"], ["x", "y"], 1, 5, "mine")
    assert "tasks with the same seen classes as another draw of the pair" in notes[0]
