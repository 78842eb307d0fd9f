"""Files that a manifest cannot use are left out and named; copies are found by their bytes."""

from __future__ import annotations

from pathlib import Path

from benchmark.files import digest_file
from benchmark.images.copy.remarks import Kind
from benchmark.own_data.contents import read_images
from benchmark.own_data.folder import list_folder
from benchmark.own_data.listing import Entry, Listing
from tests.benchmark.own_data.pictures import paint, png


def read(root: Path) -> tuple[Listing, list[Entry]]:
    listing = list_folder(root)
    return listing, read_images(listing, lambda finished, total: None)


def test_broken_files_and_other_formats_are_named_with_the_reason(tmp_path: Path) -> None:
    paint(tmp_path, ["a/cat/good.png", "b/cat/good.png"])
    (tmp_path / "a/cat/page.jpg").write_text("<html>no such image</html>")
    (tmp_path / "a/cat/short.png").write_bytes(png(9)[:-28])
    (tmp_path / "a/cat/empty.png").write_bytes(b"")
    (tmp_path / "a/cat/moving.gif").write_bytes(b"GIF89a")
    listing, entries = read(tmp_path)
    assert [entry.path for entry in entries] == ["a/cat/good.png", "b/cat/good.png"]
    assert [entry.sha256 for entry in entries] == [digest_file(Path(e.file)) for e in entries]
    lines = "\n".join(listing.left_out.lines())
    assert "it is a GIF image; images must be JPEG or PNG): 'a/cat/moving.gif'" in lines
    assert "a web page, perhaps a download confirmation page" in lines
    assert "(it is empty; images must be JPEG or PNG): 'a/cat/empty.png'" in lines
    assert "the file ends early): 'a/cat/short.png'" in lines


def test_what_is_unusual_is_noted_and_used(tmp_path: Path) -> None:
    paint(tmp_path, ["a/cat/1.jpg", "b/cat/1.png"])
    listing, entries = read(tmp_path)
    assert len(entries) == 2
    assert listing.notes == ["1 image: PNG, but the name ends in .jpg"]


def test_the_notes_are_those_of_the_images_that_are_used(tmp_path: Path) -> None:
    paint(tmp_path, ["a/cat/1.jpg", "b/cat/1.jpg", "store/1f", "store/2f.png"])
    for name, target in (("a/cat/2.jpg", "1f"), ("b/cat/2.jpg", "2f.png")):
        (tmp_path / name).symlink_to(tmp_path / "store" / target)
    (tmp_path / "a/cat/3.jpg").write_bytes(png(0))  # as a/cat/1.jpg
    (tmp_path / "b/cat/3.jpg").write_bytes(png(2))  # as a/cat/2.jpg
    listing, entries = read(tmp_path)
    assert [entry.path for entry in entries] == ["a/cat/1.jpg", "b/cat/1.jpg", "b/cat/2.jpg"]
    assert listing.notes == ["3 images: PNG, but the name ends in .jpg"]


def test_one_copy_stays_and_a_test_image_before_a_training_image(tmp_path: Path) -> None:
    paint(tmp_path, ["a/test/cat/b.png", "a/train/cat/1.png"])
    for name in ("train/cat/a", "test/cat/c"):
        (tmp_path / f"a/{name}.png").write_bytes(png(0))
    listing, entries = read(tmp_path)
    assert [entry.path for entry in entries] == ["a/test/cat/b.png", "a/train/cat/1.png"]
    assert listing.left_out.names == {
        Kind("copy", "of an image in the same class and domain"): [
            "a/test/cat/c.png",
            "a/train/cat/a.png",
        ]
    }


def test_an_image_of_two_classes_or_domains_is_left_out_everywhere(tmp_path: Path) -> None:
    paint(tmp_path, ["a/cat/1.png", "a/cat/2.png", "b/cat/3.png"])
    paint(tmp_path, ["a/dog/1.png"])  # as a/cat/1.png
    (tmp_path / "b/cat/2.png").write_bytes(png(1))  # as a/cat/2.png
    listing, entries = read(tmp_path)
    assert [entry.path for entry in entries] == ["b/cat/3.png"]
    assert listing.left_out.names == {
        Kind("identical image", "in several classes"): ["a/cat/1.png", "a/dog/1.png"],
        Kind("identical image", "in several domains"): ["a/cat/2.png", "b/cat/2.png"],
    }
