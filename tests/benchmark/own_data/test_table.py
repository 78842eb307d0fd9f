"""A CSV file lists images as a folder does; a wrong value is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.own_data.folder import list_folder
from benchmark.own_data.table import list_table
from tests.benchmark.own_data.pictures import paint


def listed(folder: Path, text: str, encoding: str = "utf-8") -> list[tuple[object, ...]]:
    paint(folder, ["1.png", "in/2.png"])
    (folder / "images.csv").write_text(text, encoding)
    entries = list_table(folder / "images.csv").entries
    assert all(Path(entry.file).is_file() for entry in entries)
    return [(e.path, e.domain, e.class_name, e.split, e.group) for e in entries]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = "class,path,domain,note\ncat,./in/2.png,photo,x\ndog, 1.png ,sketch,y\n"
    assert listed(tmp_path, text, "utf-8-sig") == [
        ("1.png", "sketch", "dog", None, None),
        ("in/2.png", "photo", "cat", None, None),
    ]


def test_empty_values_after_the_last_column_are_ignored(tmp_path: Path) -> None:
    text = "path,domain,class\n1.png,sketch,dog,, \n"
    assert listed(tmp_path, text) == [("1.png", "sketch", "dog", None, None)]


def test_split_and_group_are_optional_columns(tmp_path: Path) -> None:
    text = "path,domain,class,split,group\n1.png,a,cat,Test,g\nin/2.png,a,cat,train,\n"
    assert listed(tmp_path, text) == [
        ("1.png", "a", "cat", "test", "g"),
        ("in/2.png", "a", "cat", "train", None),
    ]


@pytest.mark.parametrize("name", ["می\u200cخواهم", "São\xa0Paulo", "👩\u200d🚀"])
def test_a_class_may_have_any_text_that_a_folder_may(tmp_path: Path, name: str) -> None:
    paint(tmp_path / "folder", [f"{domain}/{name}/1.png" for domain in "ab"])
    in_folder = {entry.class_name for entry in list_folder(tmp_path / "folder").entries}
    in_table = {row[2] for row in listed(tmp_path, f"path,domain,class\n1.png,a,{name}\n")}
    assert in_table == in_folder == {name}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not have the columns path, domain, class; its first line has: nothing"),
        ("path;domain;class\n", "its first line has: 'path;domain;class'.* commas between them"),
        ("path,domain,label\n", "does not have the columns class; .*'label'"),
        ("path,domain,class\n", "lists no images"),
        ("path,domain,class\n1.png,,cat\n", "1 values of domain are empty: 'line 2: '"),
        ("path,domain,class\n/1.png,a,cat\n", "path are not relative .*line 2: /1.png"),
        ("path,domain,class\n../1.png,a,cat\n", "path are not relative .*line 2: ../1.png"),
        ("path,domain,class\n1.png,a,cat\n3.png,a,cat\n", "not files: 'line 3: 3.png'"),
        ("path,domain,class\n\n1.png,a,cat\n\n3.png,a,cat\n", "not files: 'line 5: 3.png'"),
        ("path,domain,class\n1.png,a,cat\n1.png,a,dog\n", "2 values of path occur more than once"),
        ("path,domain,class,split\n1.png,a,cat,dev\n", "not train, val or test: 'line 2: dev'"),
        ("path,domain,class\n1.png,a,c\tat\n", "1 values of class have control characters"),
        ("path,domain,class,class\n1.png,a,cat,x\n", "more than one column named 'class'"),
        ("path,domain,class\n1.png,a,cat, owl\n", "1 row with .* 'line 2:  owl'.* double quotes"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        listed(tmp_path, text)


def test_another_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="as CSV in UTF-8"):
        listed(tmp_path, "path,domain,class\n1.png,ä,cat\n", "latin-1")
