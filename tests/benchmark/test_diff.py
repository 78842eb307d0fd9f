"""What changed between two manifests: all that a digest covers, and nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.diff import diff
from benchmark.manifest import Manifest
from htbench.cli.main import main

Draft = Any  # that of conftest.py

Edit = Callable[[Draft], object]


def empty(value: Any) -> bool:
    """Whether a part of a difference says that there is none."""
    if isinstance(value, dict):
        return all(empty(item) for item in value.values())
    return not value


def edited(draft: Draft, edit: Edit) -> Manifest:
    other = copy.deepcopy(draft)
    other.root = draft.root.with_name("other")
    edit(other)
    return other.read()


def moved(draft: Draft) -> None:
    """A whole group goes from train to test, in one domain."""
    row = next(r for r in draft.rows_of(split="train", domain="solid"))
    row["split"] = "test"


def without_groups(draft: Draft) -> None:
    draft.schema = draft.schema.remove(draft.schema.get_field_index("group"))
    for row in draft.rows:
        del row["group"]


EDITS: dict[str, tuple[Edit, str]] = {
    "a recipe value": (lambda d: d.document["recipe"].update(steps=5), "document"),
    "its type": (lambda d: d.document["recipe"].update(steps=4.0), "document"),
    "a key more": (lambda d: d.document.update(note="x"), "document"),
    "an empty table": (lambda d: d.document.update(note={}), "document"),
    "a domain's folders": (lambda d: d.document["domains"][0]["folders"].append("x"), "document"),
    "order of domains": (lambda d: d.document["domains"].reverse(), "document"),
    "order of classes": (lambda d: d.document["classes"].reverse(), "classes"),
    "a class more": (lambda d: d.document["classes"].append("zebra"), "classes"),
    "an image less": (lambda d: d.rows.pop(), "images"),
    "a split": (moved, "images"),
    "a class of an image": (lambda d: d.rows[0].update({"class": "star"}), "images"),
    "a path": (lambda d: d.rows[0].update(path="new.png"), "images"),
    "a group": (lambda d: d.rows[0].update(group="new"), "images"),
    "no group": (lambda d: d.rows[0].update(group=None), "images"),
    "a column less": (without_groups, "images"),
    "order of tasks": (lambda d: d.document["tasks"].reverse(), "tasks"),
    "a task less": (lambda d: d.document["tasks"].pop(), "tasks"),
    "a seen class": (lambda d: d.document["tasks"][0].update(seen=["bell", "star"]), "tasks"),
    "order of seen": (lambda d: d.document["tasks"][1]["seen"].reverse(), "tasks"),
    "missing classes named": (
        lambda d: d.document["tasks"][0].update(missing=["star", "airplane"]),
        "tasks",
    ),
    "a task's note": (lambda d: d.document["tasks"][1].update(note="x"), "tasks"),
}


@pytest.mark.parametrize(("edit", "part"), EDITS.values(), ids=EDITS)
def test_every_change_shows_in_its_part_alone(draft: Draft, edit: Edit, part: str) -> None:
    found = diff(draft.read(), edited(draft, edit))
    assert not found["equal"]
    told = {name for name in ("document", "classes", "images", "tasks") if not empty(found[name])}
    assert told == {part}
    json.dumps(found, allow_nan=False)


def test_rewritten_files_are_equal(draft: Draft) -> None:
    def rewrite(other: Draft) -> None:
        other.rows.reverse()
        other.document = dict(reversed(other.document.items()))

    found = diff(draft.read(), edited(draft, rewrite))
    assert found["equal"]
    assert all(empty(found[name]) for name in ("document", "classes", "images", "tasks"))


def test_names_the_first_offenders(draft: Draft) -> None:
    relabelled = sorted(r["image_id"] for r in draft.rows_of(**{"class": "airplane"}))
    removed = draft.rows_of(domain="solid", split="train")[0]["image_id"]
    relabelled = [image_id for image_id in relabelled if image_id != removed]

    def edit(other: Draft) -> None:
        other.rows = [row for row in other.rows if row["image_id"] != removed]
        for row in other.rows_of(**{"class": "airplane"}):
            row["class"] = "star"

    found = diff(draft.read(), edited(draft, edit))["images"]
    assert found["removed"] == {"count": 1, "first": [removed]}
    assert found["relabelled"]["count"] == len(relabelled) > 5
    assert found["relabelled"]["first"] == [
        {"image_id": image_id, "a": "airplane", "b": "star"} for image_id in relabelled[:5]
    ]


class TestCommand:
    def run(self, *arguments: Path | str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["manifest", "diff", *map(str, arguments)])
        return int(ended.value.code or 0)

    def test_exit_status(self, draft: Draft, capsys: pytest.CaptureFixture[str]) -> None:
        draft.read()
        assert self.run(draft.root, draft.root) == 0
        assert capsys.readouterr().out.endswith("equal\n")
        other = edited(draft, lambda d: d.document["recipe"].update(steps=7))
        assert self.run(draft.root, other.root) == 1
        assert "recipe.steps: 4 -> 7" in capsys.readouterr().out
        assert self.run(draft.root, "nope@1.0") == 2
        assert "no manifest 'nope@1.0'" in capsys.readouterr().err

    def test_in_words(self, draft: Draft, capsys: pytest.CaptureFixture[str]) -> None:
        def edit(other: Draft) -> None:
            moved(other)
            other.document["classes"].append("zebra")
            other.document["tasks"][0]["seen"] = ["bell", "star"]

        first = next(r for r in draft.rows_of(split="train", domain="solid"))
        draft.read()
        assert self.run(draft.root, edited(draft, edit).root) == 1
        out = capsys.readouterr().out
        assert "classes added: 1: zebra" in out
        assert f'images moved between splits: 1: {first["image_id"]} ("train" -> "test")' in out
        assert "task outline-solid, seen classes added: 1: star" in out
        assert "task outline-solid, seen classes removed: 2: bug, house" in out

    def test_as_json(self, draft: Draft, capsys: pytest.CaptureFixture[str]) -> None:
        draft.read()
        assert self.run(draft.root, "icons@1.0", "--json") == 1
        found = json.loads(capsys.readouterr().out)
        assert found["b"]["manifest"] == "icons@1.0"
        assert found["images"]["added"]["count"] == 6786 - 90
        assert len(found["classes"]["added"]) == 60
