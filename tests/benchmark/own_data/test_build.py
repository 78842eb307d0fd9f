"""From a folder or a CSV file to a checked manifest in memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark.errors import UsageError
from tests.benchmark.own_data.pictures import build, grid, paint


def test_the_document_and_the_table(tmp_path: Path) -> None:
    paint(tmp_path, grid("photo Real\u00a0World", "dog cat owl"))
    manifest = build(tmp_path).manifest
    assert manifest.classes == ("cat", "dog", "owl")
    assert [(d.name, d.folders) for d in manifest.domains] == [
        ("Real_World", ("Real\u00a0World",)),
        ("photo", ("photo",)),
    ]
    assert [task.id for task in manifest.tasks] == ["Real_World-photo", "photo-Real_World"]
    assert manifest.table.column_names == ["image_id", "domain", "class", "split", "path", "sha256"]
    assert manifest.table["path"].to_pylist() == manifest.table["image_id"].to_pylist()
    assert manifest.model == {"name": "convnet", "width": 16}


def test_a_class_that_a_domain_does_not_have_and_a_class_of_one_image(tmp_path: Path) -> None:
    paint(tmp_path, [*grid("a b", "cat dog"), "a/owl/1.png", "a/owl/2.png", "a/bee/1.png"])
    paint(tmp_path, ["b/bee/1.png", "b/bee/2.png"], start=100)
    new = build(tmp_path)
    a_b, b_a = new.document["tasks"]
    # The only bee of a is a test image: the source a did not learn bees, and b can miss them only.
    assert {*a_b["seen"], *a_b["missing"]} == {"cat", "dog"}
    assert {*b_a["seen"], *b_a["missing"]} == {"cat", "dog", "bee"}
    assert "bee" in b_a["missing"]


def test_a_csv_file_with_groups(tmp_path: Path) -> None:
    paths = grid()
    paint(tmp_path, paths)
    rows = "".join(
        f"{path},{path.split('/')[0]},{path.split('/')[1]},g{number % 4 // 2}{path[:8]}\n"
        for number, path in enumerate(paths)
    )
    (tmp_path / "images.csv").write_text("path,domain,class,group\n" + rows)
    manifest = build(tmp_path / "images.csv").manifest
    table = manifest.table.to_pandas()
    assert table.groupby("group")["split"].nunique().max() == 1


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        (
            grid("photo"),
            {},
            "one domain only, 'photo', with the classes 'cat', 'dog', 'owl'; a task",
        ),
        (
            grid(classes="cat"),
            {},
            "one class only, 'cat', in the domains 'photo', 'sketch'; a task",
        ),
        (["a/train/x/1.png", "b/test/x/1.png"], {"train": 1}, "so --train has no effect; leave"),
        (grid(), {"group_by": "("}, "--group-by '\\(' is not a valid"),
        (grid(), {"group_by": "(photo|sketch)"}, "no pair of domains .* no group has all images"),
        (grid(), {"model": "no/net"}, "--model 'no/net' is not valid"),
    ],
)
def test_what_cannot_be_built(
    tmp_path: Path, paths: list[str], options: dict[str, object], message: str
) -> None:
    paint(tmp_path, paths)
    with pytest.raises(UsageError, match=message):
        build(tmp_path, **options)


def test_origins_that_are_neither_folder_nor_csv(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist; give a folder of images or a CSV file"):
        build(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe.csv")  # which nobody writes to
    with pytest.raises(UsageError, match=r"pipe.csv is not a regular file; give a folder of"):
        build(tmp_path / "pipe.csv")
    (tmp_path / "set.zip").touch()
    with pytest.raises(UsageError, match=r"set.zip is an archive; unpack it"):
        build(tmp_path / "set.zip")


def test_only_broken_images(tmp_path: Path) -> None:
    for path in grid():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("<html>")
    with pytest.raises(UsageError, match="no images that can be used: 24 images that cannot be"):
        build(tmp_path)
