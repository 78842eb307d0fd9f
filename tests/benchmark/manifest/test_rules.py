"""Every rule of manifest.toml and images.parquet, with one clear message each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmark.errors import ManifestError


def entry(index: int, **changes: object) -> Callable[[Any], None]:
    """Change keys of a task."""
    return lambda draft: draft.document["tasks"][index].update(changes)


def top(**changes: object) -> Callable[[Any], None]:
    """Change top-level keys of the document."""
    return lambda draft: draft.document.update(changes)


def row(index: int, **changes: object) -> Callable[[Any], None]:
    """Change cells of a row."""
    return lambda draft: draft.rows[index].update(changes)


def without(*keys: str) -> Callable[[Any], None]:
    """Remove top-level keys of the document."""

    def change(draft: Any) -> None:
        for key in keys:
            del draft.document[key]

    return change


def drop(**values: str) -> Callable[[Any], None]:
    """Remove the rows with these values."""

    def change(draft: Any) -> None:
        matches = draft.rows_of(**values)
        draft.rows = [r for r in draft.rows if r not in matches]

    return change


def in_two_splits(column: str, **other: str) -> Callable[[Any], None]:
    """Give a test image the path or checksum of a training image."""

    def change(draft: Any) -> None:
        train = draft.rows_of(domain="solid", split="train")[0]
        draft.rows_of(split="test", **other)[0][column] = train[column]

    return change


def no_target(draft: Any) -> None:
    """Leave out the tasks whose target is solid: it is a source only."""
    tasks = draft.document["tasks"]
    draft.document["tasks"] = [task for task in tasks if task["target"] != "solid"]


class TestDocument:
    """The rules of manifest.toml."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (top(format=2), r"format is 2; this version of the benchmark reads format 1"),
            (without("format"), r"format is None"),
            *[
                (without(key), rf"{key} is missing")
                for key in (
                    "name",
                    "version",
                    "title",
                    "terms",
                    "citation",
                    "classes",
                    "domains",
                    "tasks",
                    "image_size",
                    "model",
                    "transforms",
                    "source",
                    "recipe",
                )
            ],
            (without("images"), r"images is None; known: embedded, folder"),
            (top(name="Mini icons"), r"name is 'Mini icons'; it must be a name or version"),
            (top(name="x" * 101), "a name or version of at most 100 characters"),
            (top(version=f"1.{'0' * 99}"), "a name or version of at most 100 characters"),
            (top(name="../mini"), r"name is '\.\./mini'"),
            (top(version="one"), r"version is 'one'"),
            (top(version="1..0"), r"version is '1\.\.0'"),
            (top(version=1.0), r"version is 1\.0; it must be a string"),
            (top(title=" "), r"title is ' '"),
            (top(title="red \x1b[31m"), r"control characters in 'red \\x1b\[31m'"),
            (top(image_size=True), r"image_size is True; it must be a number of pixels"),
            (top(image_size=0), r"image_size must be between 1 and 4096"),
            (top(images="folder"), None),
            (top(images="cloud"), r"images is 'cloud'; known: embedded, folder"),
            (top(mirrors=[{"address": "x", "bytes": 1, "sha256": "a" * 64}]), None),
            (top(mirrors={"address": "x"}), r"mirrors must be an array of tables"),
            (top(mirrors=[{"title": "x"}]), r"mirrors\[0\]: address is missing"),
            (top(mirrors=[{"address": "x", "bytes": 0}]), r"\[0\]: bytes must be at least 1"),
            (top(mirrors=[{"address": "x", "sha256": "a"}]), r"sha256 must be 64 lower-case hex"),
            (top(classes=[]), r"classes must be a non-empty list of names, but it is empty"),
            (
                top(classes=["bell", 3]),
                r"classes must be a non-empty list of names, but it contains 3",
            ),
            (top(classes=["bell", "bug", "bell"]), r"classes contains 'bell' more than once"),
            (top(classes=["bell\u009b"]), r"control characters"),
            (top(model="convnet"), r"model is 'convnet'; it must be a table"),
            (top(model={"width": 4}), r"model\.name is missing; it must be the name of a network"),
            (top(model={"name": 5}), r"model\.name is 5; it must be the name of a network"),
            (top(model={"name": "convnet "}), r"model\.name is 'convnet '"),
            (top(model={"name": "convnet"}), None),
            (top(model={"name": "convnet", "width": 1024}), None),
            *[
                (
                    top(model={"name": "convnet", "width": width}),
                    rf"model\.width is {width!r}; it must be a whole number from 1 to 1024",
                )
                for width in (-1, 0, 1025, 1.5, True, "wide")
            ],
            (
                top(model={"name": "convnet", "weights": "x"}),
                r"model has 'weights'; convnet has only width",
            ),
            (
                top(model={"name": "resnet18", "weights": 5}),
                r"model\.weights is 5; it must be a name",
            ),
            (top(model={"name": "resnet18", "width_per_group": 32}), None),
            (top(description=5), r"description is 5; it must be a string"),
            (top(homepage=["x"]), r"homepage is \['x'\]; it must be a string"),
            (top(expansion=5), r"expansion is 5; it must be a table"),
            (top(rule=5), r"rule is 5; it must be a table"),
            (top(lists=5), r"lists must be an array of tables"),
            (
                top(mirrors=[{"address": "x", "title": 5}]),
                r"mirrors\[0\]: title is 5; it must be a s",
            ),
            (
                top(mirrors=[{"address": "https://drive.google.com/file/d/x/view"}]),
                r"\[0\]: an address on drive.google.com needs drive_id",
            ),
            (top(mirrors=[{"address": "http://[x/y.zip"}]), r"\[0\]: address is .* not a URL"),
            (top(mirrors=[{"address": "x", "drive_id": 5}]), r"\[0\]: drive_id is 5; it must be"),
            (top(recipe={"chosen": 5}), r"recipe\.chosen is 5; it must be a string"),
            (top(tasks=[]), r"tasks must be a non-empty array of tables"),
            (top(tasks=["a"]), r"tasks must be a non-empty array of tables"),
            (top(domains=[{"folders": ["x"]}]), r"domains\[0\]: name is missing"),
            (top(domains=[{"name": "solid"}]), r"domain solid: folders is missing"),
            (top(domains=[{"name": "a", "folders": ["x"]}] * 2), r"domains contains 'a' more than"),
            (entry(1, id="outline-solid"), r"tasks contains 'outline-solid' more than once"),
            (entry(1, id="pooled"), r"a task cannot be called pooled, as boards call an average"),
            (entry(0, id="x" * 101), r"tasks\[0\]: id .* a name or version of at most 100"),
            (entry(0, id="a/b"), r"tasks\[0\]: id is 'a/b'"),
            (
                entry(0, sources=[]),
                r"task outline-solid: sources must be a non-empty list of names",
            ),
            (entry(0, sources=["sketch"]), r"task outline-solid: unknown domain 'sketch'; known"),
            (entry(0, target="sketch"), r"task outline-solid: unknown domain 'sketch'; known"),
            (entry(2, target="solid"), r"the target 'solid' is also a source"),
            (entry(0, seen=["bell", "yeti"]), r"task outline-solid: unknown class 'yeti' in seen"),
            (entry(0, seen=["bell", "bell"]), r"seen contains 'bell' more than once"),
            (
                entry(0, seen=["airplane", "bell", "bug", "house", "star"]),
                r"every class is seen; a partial-target task needs missing classes",
            ),
            (top(recipe={"lr": "NaN"}), r"recipe\.lr is 'NaN'; it must be a number from 1e-12 to"),
            (
                top(recipe={"lr": 0.0}),
                r"recipe\.lr is 0\.0; it must be a number from 1e-12",
            ),
            (top(recipe={"tf32": 1}), r"recipe\.tf32 is 1; it must be true or false"),
            (top(recipe={"head_lr": -0.1}), r"recipe\.head_lr is -0\.1; it must be a number"),
            (
                top(recipe={"steps": 4.0}),
                r"recipe\.steps is 4\.0; it must be a whole number",
            ),
            (top(recipe={"batch_size": True}), r"recipe\.batch_size is True; it must be a whole"),
            (
                top(recipe={"momentum": 1.5}),
                r"recipe\.momentum is 1\.5; it must be a number",
            ),
            (top(recipe={"lr": float("nan")}), r"the value nan is not allowed"),
            (top(recipe={"lr": float("inf")}), r"the value inf is not allowed"),
            (top(recipe={"steps": 1 << 63}), r"does not fit in a 64-bit integer"),
            (top(recipe={"a": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}), r"nested more than 16 deep"),
        ],
    )
    def test_rule(self, draft: Any, change: Callable[[Any], None], message: str | None) -> None:
        change(draft)
        if message is None:
            draft.read()
            return
        with pytest.raises(ManifestError, match=message) as error:
            draft.read()
        assert str(error.value).startswith(str(draft.root / "manifest.toml"))


class TestImages:
    """The rules of images.parquet."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                row(0, **{"class": "yeti"}),
                r"unknown class 'yeti' \(for example, in image '.+'\); use one",
            ),
            (row(0, domain="sketch"), r"unknown domain 'sketch'"),
            (row(0, split="val"), r"unknown split 'val'"),
            (in_two_splits("path"), r"images .+ have the same path .+ but are in different splits"),
            (
                in_two_splits("sha256", domain="solid"),
                r"images .+ have the same sha256 .+ but are in different splits",
            ),
            (in_two_splits("sha256", domain="color"), None),  # the scope is one domain
            (
                in_two_splits("group", domain="solid"),
                r"images\.parquet: images of one group are in train and in test: '.+ in solid'",
            ),
            (in_two_splits("group", domain="color"), None),
            (lambda draft: [in_two_splits("group", domain="solid")(draft), no_target(draft)], None),
            (
                drop(domain="solid", split="train", **{"class": "bug"}),
                r"every seen class needs training images in solid, but these have none: 'bug'",
            ),
            (drop(domain="solid", split="train", **{"class": "star"}), None),
            (
                lambda draft: [
                    drop(domain="solid", split="test", **{"class": c})(draft)
                    for c in ("bell", "bug", "house")
                ],
                r"task outline-solid: solid has no test images of seen classes",
            ),
            (
                lambda draft: [
                    drop(domain="solid", split="test", **{"class": c})(draft)
                    for c in ("airplane", "star")
                ],
                r"task outline-solid: solid has no test images of missing classes",
            ),
            (
                drop(domain="outline", split="train"),
                r"task outline-solid: the source outline has no training images",
            ),
            (lambda draft: draft.rows.clear(), r"the table has no rows"),
            (
                lambda draft: draft.rows.append({**draft.rows[0], "path": "other.png"}),
                r"image_id is not unique: ",
            ),
            (
                lambda draft: draft.rows[1].update(path=draft.rows[0]["path"]),
                r"two images have the same path",
            ),
            *[
                (row(0, path=path), r"paths must be relative, use forward slashes and stay inside")
                for path in (
                    "/etc/passwd",
                    "..",
                    "../x.png",
                    "a/../../x.png",
                    "a\\b.png",
                    "C:/x.png",
                    "C:x.png",
                    "./x.png",
                    "a//b.png",
                    "a/./b.png",
                    "a/",
                    ".",
                )
            ],
            (row(0, path=""), r"column path contains empty strings or control characters: ''"),
            (
                row(0, path="a\nb.png"),
                r"column path contains empty strings or control characters: ",
            ),
            (row(0, image_id="a\x1b[2J"), r"column image_id contains empty strings or control"),
            (row(0, image_id="a\u009b2J"), r"column image_id contains empty strings or control"),
            (row(0, group=""), r"column group contains empty strings or control"),
            (row(0, group=None), None),
            (row(0, domain=None), r"column domain has 1 null values"),
            (row(0, sha256="0" * 63), r"sha256 must be 64 lower-case hexadecimal digits"),
            (row(0, sha256="A" * 64), r"sha256 must be 64 lower-case hexadecimal digits"),
            (row(0, sha256=None), r"every embedded image needs a sha256"),
        ],
    )
    def test_rule(self, draft: Any, change: Callable[[Any], Any], message: str | None) -> None:
        change(draft)
        if message is None:
            draft.read()
            return
        with pytest.raises(ManifestError, match=message) as error:
            draft.read()
        assert "\x1b" not in str(error.value)


class TestMissingClasses:
    """A task may name its missing classes; all others that are not seen are in neither group."""

    def test_all_others_are_in_neither_group(self, draft: Any) -> None:
        draft.document["tasks"][0]["missing"] = ["star"]
        manifest = draft.read()
        first, second = manifest.tasks[:2]
        assert first.missing == ("star",)
        assert [manifest.classes[i] for i in np.flatnonzero(manifest.missing_mask(first))] == [
            "star"
        ]
        assert second.missing is None
        assert (manifest.missing_mask(second) == ~manifest.seen_mask(second)).all()

    @pytest.mark.parametrize(
        ("missing", "message"),
        [
            (["moon"], "unknown class 'moon' in missing"),
            (["star", "bell"], "class 'bell' is listed as both seen and missing"),
            ([], "missing must be a non-empty list of names, but it is empty"),
            (["star", "star"], "missing contains 'star' more than once"),
            ("star", "missing is 'star'; it must be a list of names"),
        ],
    )
    def test_rule(self, draft: Any, missing: object, message: str) -> None:
        draft.document["tasks"][0]["missing"] = missing
        with pytest.raises(ManifestError, match=message):
            draft.read()

    def test_the_group_needs_a_test_image(self, draft: Any) -> None:
        draft.document["tasks"][0]["missing"] = ["star"]
        matches = draft.rows_of(domain="solid", split="test", **{"class": "star"})
        draft.rows = [row for row in draft.rows if row not in matches]
        with pytest.raises(ManifestError, match="solid has no test images of missing classes"):
            draft.read()

    def test_a_later_task_without_sources(self, draft: Any) -> None:
        del draft.document["tasks"][-1]["sources"]
        with pytest.raises(ManifestError, match=r"outline\+solid-color: sources is missing"):
            draft.read()
