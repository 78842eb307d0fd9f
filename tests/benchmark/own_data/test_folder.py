"""The layouts of folders that are understood, and what the others are told."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.images.copy.remarks import Kind
from benchmark.own_data.folder import list_folder
from tests.benchmark.own_data.pictures import grid, paint


def triples(root: Path) -> set[tuple[str, str, str | None]]:
    """Domain, class and split of the images that a folder lists."""
    return {(e.domain, e.class_name, e.split) for e in list_folder(root).entries}


class TestLayouts:
    def test_domain_and_class(self, tmp_path: Path) -> None:
        paint(tmp_path, grid("photo sketch", "cat dog"))
        files = {entry.path: entry.file for entry in list_folder(tmp_path).entries}
        assert list(files) == sorted(grid("photo sketch", "cat dog"))
        assert files == {path: str(tmp_path / path) for path in files}
        assert triples(tmp_path) == {
            (domain, name, None) for domain in ("photo", "sketch") for name in ("cat", "dog")
        }

    def test_a_path_with_dots_is_the_same_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a folder such as ../photos, no image was in a folder of a class."""
        paint(tmp_path / "set", grid("photo sketch", "cat dog"))
        (tmp_path / "set" / "photo" / "cat" / "gone.png").symlink_to(tmp_path / "nothing")
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        plain, dotted = list_folder(tmp_path / "set"), list_folder(Path("../set"))
        assert dotted.entries == plain.entries
        assert dotted.left_out.names == plain.left_out.names

    @pytest.mark.parametrize(
        "layout", ["{d}/{s}/{c}/1.png", "{s}/{d}/{c}/1.png", "{d}/{c}/{s}/1.png"]
    )
    def test_folders_of_splits(self, tmp_path: Path, layout: str) -> None:
        cells = [(d, c, s) for d in ("a", "b") for c in ("cat", "dog") for s in ("train", "test")]
        paint(tmp_path, [layout.format(d=d, c=c, s=s) for d, c, s in cells])
        assert triples(tmp_path) == set(cells)

    def test_a_class_named_like_a_split_is_a_class(self, tmp_path: Path) -> None:
        paint(tmp_path, grid("a b", "test dog"))
        assert triples(tmp_path) == {(d, c, None) for d in "ab" for c in ("test", "dog")}
        cells = {("a", name, s) for name in ("test", "dog") for s in ("train", "test")}
        paint(tmp_path / "split", [f"{d}/{s}/{c}/1.png" for d, c, s in cells])
        assert triples(tmp_path / "split") == cells

    def test_validation_images_are_training_images_or_test_images(self, tmp_path: Path) -> None:
        paint(tmp_path / "three", [f"a/{s}/cat/1.png" for s in ("train", "val", "test")])
        listing = list_folder(tmp_path / "three")
        assert [e.split for e in listing.entries] == ["test", "train", "train"]
        assert "; taken as train images: 1 validation image" in listing.notes[0]
        paint(tmp_path / "two", [f"a/{s}/cat/1.png" for s in ("train", "val")])
        assert [e.split for e in list_folder(tmp_path / "two").entries] == ["train", "test"]

    def test_a_single_split_leaves_the_split_to_the_rule(self, tmp_path: Path) -> None:
        paint(tmp_path, ["a/train/cat/1.png", "b/train/cat/1.png"])
        assert {entry.split for entry in list_folder(tmp_path).entries} == {None}

    def test_a_folder_that_says_nothing_is_skipped(self, tmp_path: Path) -> None:
        paint(tmp_path, ["amazon/images/back_pack/1.png", "dslr/images/mug/1.png"])
        assert triples(tmp_path) == {("amazon", "back_pack", None), ("dslr", "mug", None)}

    def test_names_have_blanks_and_unicode(self, tmp_path: Path) -> None:
        decomposed = unicodedata.normalize("NFD", "Grüne Äpfel")  # as macOS writes it
        paint(tmp_path, ["Real World/Grüne Äpfel/a b.png", f"写真/{decomposed}/1.png"])
        assert triples(tmp_path) == {(d, "Grüne Äpfel", None) for d in ("Real World", "写真")}

    def test_linked_folders_are_followed_and_cycles_end(self, tmp_path: Path) -> None:
        paint(tmp_path / "elsewhere", ["cat/1.png"])
        paint(tmp_path / "set", ["a/cat/1.png"])
        (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "set" / "a" / "up").symlink_to(tmp_path / "set")
        (tmp_path / "set" / "a" / "cat" / "gone.png").symlink_to(tmp_path / "nothing")
        listing = list_folder(tmp_path / "set")
        assert [entry.path for entry in listing.entries] == ["a/cat/1.png", "b/cat/1.png"]
        assert listing.left_out.names == {
            Kind("broken link"): ["a/cat/gone.png"],
            Kind("link", "to a folder further up"): ["a/up"],
        }


class TestLeftOut:
    def test_hidden_files_are_ignored_and_others_named(self, tmp_path: Path) -> None:
        paint(tmp_path, [*grid(), "photo/overview.png", "photo/cat/a:b.png", "photo/cat/.h.png"])
        paint(tmp_path, [".git/a/b.png", "__MACOSX/photo/cat/._1.png", "photo/cat/Thumbs.db"])
        (tmp_path / "labels.csv").write_text("x")
        bad = os.fsencode(tmp_path / "photo" / "cat") + b"/\xff.png"
        Path(os.fsdecode(bad)).write_bytes(b"")
        listing = list_folder(tmp_path)
        assert len(listing.entries) == len(grid())
        names = list(listing.left_out.names.values())
        assert names == [
            ["labels.csv"],
            ["photo/cat/a:b.png", os.fsdecode(b"photo/cat/\xff.png")],
            ["photo/overview.png"],
        ]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], r"contains no images \(it is empty\)"),
        (["notes.txt"], r"contains no images \(1 file in no image format: 'notes.txt'\)"),
        (["images.zip"], r"unpack 'images.zip' first"),
        (["1.png"], "1 image and no folders with images; sort them into folders"),
        (["cat/1.png", "dog/1.png"], "none in a folder <domain>/<class>.*'cat', 'dog'. If these"),
        (["train/cat/1.png", "test/cat/1.png"], "'test', 'train': splits, not domains"),
        (["cat/train/1.png", "cat/test/1.png"], "'test', 'train': splits, not classes"),
        (["set/x/a/cat/1.png"], "deeper than <domain>/<class>/<image>, .*give --from .*set, or"),
        (["a/cat/1.png", "a/dog/big/1.png"], "1 image deeper .*'a/dog/big/1.png'"),
        (["a/train/cat/1.png", "b/cat/1.png"], "1 image in folders of a split .*'a/train/ca"),
    ],
)
def test_other_layouts_are_refused_with_what_there_is(
    tmp_path: Path, paths: list[str], message: str
) -> None:
    paint(tmp_path, paths)
    with pytest.raises(UsageError, match=message):
        list_folder(tmp_path)
