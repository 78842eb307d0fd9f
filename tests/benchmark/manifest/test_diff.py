"""What changed between two manifests: everything that a digest covers, and nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.manifest.diff import compare
from benchmark.manifest.manifest import Manifest
from htbench.cli.main import main

Draft = Any  # the class in conftest.py

Edit = Callable[[Draft], object]


def empty(value: Any) -> bool:
    """Whether a part of a difference is empty, at every depth."""
    if isinstance(value, dict):
        return all(empty(item) for item in value.values())
    return not value


def edit_copy(draft: Draft, edit: Edit) -> Manifest:
    """Write an edited copy of the draft, and read it."""
    other = copy.deepcopy(draft)
    other.root = draft.root.with_name("other")
    edit(other)
    return other.read()


def one_to_move(draft: Draft) -> Any:
    """A training image that is the only one of its group in its domain."""
    rows = draft.rows_of(domain="solid")
    groups = [row["group"] for row in rows]
    return next(r for r in rows if r["split"] == "train" and groups.count(r["group"]) == 1)


def move_to_test(draft: Draft) -> None:
    """Move one image of a domain from train to test."""
    one_to_move(draft)["split"] = "test"


def remove_groups(draft: Draft) -> None:
    draft.schema = draft.schema.remove(draft.schema.get_field_index("group"))
    for row in draft.rows:
        del row["group"]


EDITS: dict[str, tuple[Edit, str]] = {
    "a recipe value": (lambda d: d.document["recipe"].update(steps=5), "document"),
    "the type of a value": (
        lambda d: d.document["transforms"]["train"][0].update(degrees=10),
        "document",
    ),
    "an extra key": (lambda d: d.document.update(note="x"), "document"),
    "an empty table": (lambda d: d.document.update(note={}), "document"),
    "a domain's folders": (lambda d: d.document["domains"][0]["folders"].append("x"), "document"),
    "order of domains": (lambda d: d.document["domains"].reverse(), "document"),
    "order of classes": (lambda d: d.document["classes"].reverse(), "classes"),
    "an extra class": (lambda d: d.document["classes"].append("zebra"), "classes"),
    "one image fewer": (lambda d: d.rows.pop(), "images"),
    "a split": (move_to_test, "images"),
    "a class of an image": (lambda d: d.rows[0].update({"class": "star"}), "images"),
    "a path": (lambda d: d.rows[0].update(path="new.png"), "images"),
    "a group": (lambda d: d.rows[0].update(group="new"), "images"),
    "no group for an image": (lambda d: d.rows[0].update(group=None), "images"),
    "one column fewer": (remove_groups, "images"),
    "order of tasks": (lambda d: d.document["tasks"].reverse(), "tasks"),
    "one task fewer": (lambda d: d.document["tasks"].pop(), "tasks"),
    "a seen class": (lambda d: d.document["tasks"][0].update(seen=["bell", "star"]), "tasks"),
    "order of seen": (lambda d: d.document["tasks"][1]["seen"].reverse(), "tasks"),
    "missing classes named": (
        lambda d: d.document["tasks"][0].update(missing=["star", "airplane"]),
        "tasks",
    ),
    "a task's note": (lambda d: d.document["tasks"][1].update(note="x"), "tasks"),
}


@pytest.mark.parametrize(("edit", "part"), EDITS.values(), ids=EDITS)
def test_a_change_shows_in_its_own_part_only(draft: Draft, edit: Edit, part: str) -> None:
    difference = compare(draft.read(), edit_copy(draft, edit))
    assert not difference["equal"]
    parts = {
        name for name in ("document", "classes", "images", "tasks") if not empty(difference[name])
    }
    assert parts == {part}
    json.dumps(difference, allow_nan=False)


def test_rewritten_files_are_equal(draft: Draft) -> None:
    def rewrite(other: Draft) -> None:
        other.rows.reverse()
        other.document = dict(reversed(other.document.items()))

    difference = compare(draft.read(), edit_copy(draft, rewrite))
    assert difference["equal"]
    assert all(empty(difference[name]) for name in ("document", "classes", "images", "tasks"))


def test_the_first_changed_images_are_named(draft: Draft) -> None:
    image_ids = sorted(r["image_id"] for r in draft.rows_of(**{"class": "airplane"}))
    removed_id = draft.rows_of(domain="solid", split="train")[0]["image_id"]
    image_ids = [image_id for image_id in image_ids if image_id != removed_id]

    def edit(other: Draft) -> None:
        other.rows = [row for row in other.rows if row["image_id"] != removed_id]
        for row in other.rows_of(**{"class": "airplane"}):
            row["class"] = "star"

    difference = compare(draft.read(), edit_copy(draft, edit))["images"]
    assert difference["removed"] == {"count": 1, "first": [removed_id]}
    assert difference["relabelled"]["count"] == len(image_ids) > 5
    assert difference["relabelled"]["first"] == [
        {"image_id": image_id, "a": "airplane", "b": "star"} for image_id in image_ids[:5]
    ]


class TestCommand:
    def run(self, *arguments: Path | str) -> int:
        with pytest.raises(SystemExit) as exit_info:
            main(["manifest", "diff", *map(str, arguments)])
        return int(exit_info.value.code or 0)

    def test_exit_status(self, draft: Draft, capsys: pytest.CaptureFixture[str]) -> None:
        draft.read()
        assert self.run(draft.root, draft.root) == 0
        assert capsys.readouterr().out.endswith("equal\n")
        other = edit_copy(draft, lambda d: d.document["recipe"].update(steps=7))
        assert self.run(draft.root, other.root) == 1
        assert "recipe.steps: 4 -> 7" in capsys.readouterr().out
        assert self.run(draft.root, "nope@1.0") == 2
        assert "unknown manifest 'nope@1.0'" in capsys.readouterr().err

    def test_prints_sentences(self, draft: Draft, capsys: pytest.CaptureFixture[str]) -> None:
        def edit(other: Draft) -> None:
            move_to_test(other)
            other.document["classes"].append("zebra")
            other.document["tasks"][0]["seen"] = ["bell", "star"]

        first = one_to_move(draft)
        draft.read()
        assert self.run(draft.root, edit_copy(draft, edit).root) == 1
        out = capsys.readouterr().out
        assert "classes added: 1: zebra" in out
        assert f'images moved between splits: 1: {first["image_id"]} ("train" -> "test")' in out
        assert "task outline-solid, seen classes added: 1: star" in out
        assert "task outline-solid, seen classes removed: 2: bug, house" in out

    def test_prints_json(self, draft: Draft, capsys: pytest.CaptureFixture[str]) -> None:
        draft.read()
        assert self.run(draft.root, "icons@2.0", "--json") == 1
        difference = json.loads(capsys.readouterr().out)
        assert difference["b"]["manifest"] == "icons@2.0"
        assert difference["images"]["added"]["count"] == 6786 - 90
        assert len(difference["classes"]["added"]) == 60
