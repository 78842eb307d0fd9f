"""Images are imported from any layout, under the manifest's paths, and the rest is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pyarrow as pa
import pytest

from benchmark.errors import DataError, StorageError, UsageError
from benchmark.images.copy.folder import top_of
from benchmark.images.copy.match import Matcher
from benchmark.images.copy.remarks import Remarks
from benchmark.images.copy.take import import_images
from benchmark.images.place import absent_paths, images_folder
from benchmark.manifest.manifest import Manifest

PATHS = ["Art/cup/1.jpg", "Real_World/cup/1.jpg"]


def manifest_of(paths: list[str], root: Path) -> Manifest:
    document: dict[str, Any] = {
        "name": "small",
        "version": "0.1",
        "domains": [{"name": "Art", "folders": []}, {"name": "Real_World", "folders": ["Real"]}],
    }
    rows = [{"image_id": path, "path": path} for path in paths]
    return Manifest(root, document, pa.Table.from_pylist(rows))


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "data"))
    return manifest_of(PATHS, tmp_path)


def write(root: Path, *names: str) -> Path:
    """Files whose content is their name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return write(tmp_path / "copy", "art/cup/1.jpg", "real world/cup/1.jpg")


def contents(manifest: Manifest) -> list[str]:
    paths = manifest.table["path"].to_pylist()
    return [(images_folder(manifest) / path).read_text() for path in paths]


def test_a_match_keeps_few_bytes_for_each_image() -> None:
    """Paths of 40 characters: a dictionary of them would take 200 bytes each."""
    count = 50_000
    paths = [f"Art/class-{i % 300:03}/a-long-name-{i:012}.jpg" for i in range(count)]
    manifest = manifest_of(paths, Path())

    class Files:  # that are not kept either
        def __iter__(self) -> Iterator[tuple[str, int]]:
            return map(self.__getitem__, range(count))

        def __getitem__(self, position: int, /) -> tuple[str, int]:
            return f"copy/{paths[position]}", position

    tracemalloc.start()
    positions = Matcher(manifest).match(Files(), Remarks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert positions.tolist() == list(range(count))
    assert peak < 80 * count


class TestMatch:
    def match(
        self, paths: list[str], names: list[str], remarks: Remarks | None = None
    ) -> dict[str, str]:
        files = [(name, name) for name in names]
        positions = Matcher(manifest_of(paths, Path())).match(files, remarks or Remarks())
        return {path: names[at] for path, at in zip(paths, positions, strict=True) if at >= 0}

    @pytest.mark.parametrize(
        "names",
        [
            ("Art/cup/1.jpg", "Real_World/cup/1.jpg"),
            ("deep/er/art/Cup/1.jpg", "Real/cup/1.jpg"),
            ("train/art/cup/1.jpg", "test/real-world/cup/1.jpg"),
            ("Art/train/cup/1.jpg", "Real World/train/cup/1.jpg"),
            ("Art/images/cup/1.jpg", "Real World/cup/images/1.jpg"),
            ("Art/cup/1.JPG", "Real/cup/1.jpeg"),
            ("x//./Art/cup/1.JPEG", "REAL/CUP/1.jpg"),
        ],
    )
    def test_layouts(self, names: tuple[str, str]) -> None:
        others = [
            "Art/cup/2.jpg",
            "Art/1.jpg",
            "1.jpg",
            "cup/1.jpg",
            "Art/cup/1.png",
            "Art/x/1.jpg",
        ]
        assert self.match(PATHS, [*names, *others]) == dict(zip(PATHS, names, strict=True))

    def test_a_class_may_have_the_name_of_a_split(self) -> None:
        paths = ["Art/train/1.jpg", "Art/bus/1.jpg"]
        assert self.match(paths, paths) == dict(zip(paths, paths, strict=True))
        names = ["Art/train/train/1.jpg", "Art/train/bus/1.jpg"]
        assert self.match(paths, names) == dict(zip(paths, names, strict=True))

    def test_unicode_in_either_normalisation(self) -> None:
        composed, decomposed = "Art/caf\u00e9/\u00e9.jpg", "Art/cafe\u0301/e\u0301.jpg"
        assert self.match([composed], [decomposed]) == {composed: decomposed}
        assert self.match([decomposed], [composed]) == {decomposed: composed}

    def test_two_files_for_one_image(self) -> None:
        with pytest.raises(DataError, match=r"both match the image 'Art/cup/1\.jpg'"):
            self.match(PATHS, ["a/Art/cup/1.jpg", "b/Art/cup/1.jpg"])
        with pytest.raises(DataError, match=r"both match the image 'Art/cup/1\.jpg'"):
            self.match(PATHS, ["Art/train/cup/1.jpg", "Art/test/cup/1.jpg"])

    @pytest.mark.parametrize("order", [1, -1])
    def test_the_closer_of_two_files(self, order: int) -> None:
        names = ["Art/cup/1.jpg", "Art/cup/1.JPG", "art/cup/1.jpg"][::order]
        assert self.match(PATHS, names) == {PATHS[0]: "Art/cup/1.jpg"}

    def test_classes_that_differ_in_case(self) -> None:
        paths = ["Art/Mug/1.jpg", "Art/mug/1.jpg"]
        assert self.match(paths, paths) == dict(zip(paths, paths, strict=True))
        with pytest.raises(DataError, match=r"'Art/MUG/1\.jpg' may be one of several images"):
            self.match(paths, ["Art/MUG/1.jpg"])

    def test_folders_of_one_class_that_differ_in_case_are_named(self) -> None:
        remarks, paths = Remarks(), ["Art/cup/1.jpg", "Art/cup/2.jpg"]
        names = ["Art/cup/1.jpg", "Art/Cup/2.jpg"]
        assert self.match(paths, names, remarks) == dict(zip(paths, names, strict=True))
        (line,) = remarks.lines()
        assert line.endswith("differ in case or separators: 'Art/Cup', 'Art/cup'")


@pytest.mark.parametrize("by_copy", [False, True])
def test_import(manifest: Manifest, copy: Path, by_copy: bool, no_flush: list[None]) -> None:
    assert import_images(manifest, copy, copy=by_copy) == 2
    assert absent_paths(manifest) == set()
    assert contents(manifest) == ["art/cup/1.jpg", "real world/cup/1.jpg"]
    images = [images_folder(manifest) / path for path in PATHS]
    assert {path.is_symlink() for path in images} == {not by_copy}
    assert len(no_flush) == by_copy  # one for all images
    assert import_images(manifest, copy, copy=by_copy) == 0
    names = {path.name for path in images_folder(manifest).parent.iterdir()}
    assert names == {"small-0.1", ".small-0.1.lock"}


@pytest.mark.parametrize("encoding", ["utf-8", "cp437"])
def test_a_zip_whose_names_are_not_marked_as_utf8(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoding: str
) -> None:
    """As `zip` on Linux and the Finder write it; and one of DOS."""
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "data"))
    manifest = manifest_of(["Art/café/1.jpg"], tmp_path)
    name = "Art/café/1.jpg".encode(encoding)
    with zipfile.ZipFile(tmp_path / "art.zip", "w") as archive:
        archive.writestr("c" * len(name), "a cup")
    data = (tmp_path / "art.zip").read_bytes()
    (tmp_path / "art.zip").write_bytes(data.replace(b"c" * len(name), name))
    assert import_images(manifest, tmp_path / "art.zip", copy=False) == 1
    assert contents(manifest) == ["a cup"]


def test_links_become_copies(manifest: Manifest, copy: Path, tmp_path: Path) -> None:
    import_images(manifest, copy, copy=False)
    assert import_images(manifest, copy, copy=True) == 2
    copy.rename(tmp_path / "elsewhere")
    assert contents(manifest) == ["art/cup/1.jpg", "real world/cup/1.jpg"]
    write(tmp_path / "elsewhere", "art/cup/1.jpg", "real world/cup/1.jpg")
    assert import_images(manifest, tmp_path / "elsewhere", copy=True) == 0, "they are copies"


def test_absent_images_are_replaced(manifest: Manifest, copy: Path, tmp_path: Path) -> None:
    """A broken link, and an empty file as a power cut leaves it."""
    root = images_folder(manifest)
    write(root, *PATHS)
    (root / PATHS[0]).unlink()
    (root / PATHS[0]).symlink_to(tmp_path / "gone")
    (root / PATHS[1]).write_bytes(b"")
    assert import_images(manifest, copy, copy=False) == 2
    assert contents(manifest) == ["art/cup/1.jpg", "real world/cup/1.jpg"]


@pytest.mark.parametrize("by_copy", [False, True])
def test_a_folder_where_an_image_belongs(manifest: Manifest, copy: Path, by_copy: bool) -> None:
    (images_folder(manifest) / PATHS[0] / "x").mkdir(parents=True)
    with pytest.raises(
        StorageError, match=r"the import stopped at .*Art/cup/1\.jpg: Is a directory"
    ):
        import_images(manifest, copy, copy=by_copy)


class TestLinks:
    def links(self, copy: Path, tmp_path: Path) -> Path:
        links = tmp_path / "links"
        links.mkdir()
        (links / "Art").symlink_to(copy / "art")
        (links / "Real World").symlink_to(copy / "real world")
        return links

    def test_linked_folders_are_followed_but_not_in_circles(
        self, manifest: Manifest, copy: Path, tmp_path: Path
    ) -> None:
        links, lines = self.links(copy, tmp_path), []
        (copy / "art" / "circle").symlink_to(links)
        (copy / "art" / "self").symlink_to("self")
        (copy / "art" / "broken.jpg").symlink_to("gone")
        os.mkfifo(copy / "art" / "pipe.jpg")
        assert import_images(manifest, links, copy=False, log=lines.append) == 2
        assert absent_paths(manifest) == set()
        text = "\n".join(lines)
        for words in ("1 link to a folder further up: ", "2 broken links: ", "1 special file ("):
            assert words in text

    def test_a_folder_that_is_linked_under_two_names(
        self, manifest: Manifest, tmp_path: Path
    ) -> None:
        """The first name matches nothing; the same folder under the second name does."""
        store = write(tmp_path / "store", "d1/cup/1.jpg", "d2/cup/1.jpg")
        for name, target in (("A", "d1"), ("Art", "d1"), ("B", "d2"), ("Real", "d2")):
            (tmp_path / "links").mkdir(exist_ok=True)
            (tmp_path / "links" / name).symlink_to(store / target)
        assert import_images(manifest, tmp_path / "links", copy=False) == 2
        assert contents(manifest) == ["d1/cup/1.jpg", "d2/cup/1.jpg"]

    def test_one_file_under_two_paths_is_not_a_conflict(
        self, manifest: Manifest, copy: Path
    ) -> None:
        (copy / "again").mkdir()
        (copy / "again" / "art").symlink_to(copy / "art")
        assert import_images(manifest, copy, copy=False) == 2

    def test_the_given_path_may_be_a_link(
        self, manifest: Manifest, copy: Path, tmp_path: Path
    ) -> None:
        """As in a cache whose blobs are named by their digest."""
        (copy / "art").rename(tmp_path / "0123abcd")
        (tmp_path / "Art").symlink_to("0123abcd")
        assert import_images(manifest, tmp_path / "Art", copy=False) == 1
        with zipfile.ZipFile(tmp_path / "4567", "w") as file:
            file.write(copy / "real world" / "cup" / "1.jpg", "cup/1.jpg")
        (tmp_path / "Real_World.zip").symlink_to("4567")
        assert import_images(manifest, tmp_path / "Real_World.zip", copy=False) == 1

    def test_the_folder_above_a_link_is_that_of_its_target(
        self, manifest: Manifest, tmp_path: Path
    ) -> None:
        """As for the system and every other program; Python's ``abspath`` takes it by its text."""
        write(tmp_path / "disk" / "copy", *PATHS)
        write(tmp_path / "copy", *(f"other/{path}" for path in PATHS))
        (tmp_path / "disk" / "inner").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "disk" / "inner")
        assert import_images(manifest, tmp_path / "link" / ".." / "copy", copy=False) == 2
        assert contents(manifest) == PATHS
        assert top_of(tmp_path / "link" / ".." / "copy" / "..") == str(tmp_path / "disk")
        assert top_of(tmp_path / "disk" / ".." / "link") == str(tmp_path / "link")

    def test_the_name_of_a_link_further_up_stays(
        self, manifest: Manifest, copy: Path, tmp_path: Path
    ) -> None:
        """It may be the only place of a domain's name."""
        (copy / "art").rename(tmp_path / "0123abcd")
        (tmp_path / "Art").symlink_to("0123abcd")
        assert import_images(manifest, tmp_path / "Art" / "cup" / "..", copy=False) == 1

    def test_folders_that_link_to_each_other(self, manifest: Manifest, tmp_path: Path) -> None:
        """Folders that link to each other have many paths, also without a circle."""
        folders = [tmp_path / "maze" / str(number) for number in range(4)]
        for folder in folders:
            folder.mkdir(parents=True)
        for one in folders:
            for other in folders:
                (one / other.name).symlink_to(other)
        with pytest.raises(UsageError, match="contains no images of small"):
            import_images(manifest, tmp_path / "maze", copy=False)


class TestArchives:
    def zipped(self, path: Path, *names: str) -> Path:
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, name)
        return path

    def test_a_folder_of_archives(self, manifest: Manifest, tmp_path: Path) -> None:
        folder, lines = tmp_path / "down", []
        folder.mkdir()
        (folder / "deep").mkdir()
        self.zipped(folder / "deep" / "Art.ZIP", "cup/1.jpg", "cup/9.jpg", "__MACOSX/cup/._1.jpg")
        (folder / "Broken.zip").write_bytes(b"<html>")
        with tarfile.open(folder / "Real World.tar.gz", "w:gz") as tar:
            tar.add(write(tmp_path, "x.jpg") / "x.jpg", "cup/1.jpg")
        assert import_images(manifest, folder, copy=False, log=lines.append) == 2
        assert contents(manifest) == ["cup/1.jpg", "x.jpg"]
        text = "\n".join(lines)
        assert "Broken.zip is not a zip or tar archive: it is a web page" in text
        assert "2 files not among the images of small@0.1: " in text
        assert "1 archive that cannot be used: 'Broken.zip'" in text
        assert "Art.ZIP'" not in text

    def test_a_full_disk_ends_the_import_of_a_folder_of_archives(
        self, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The archives are fine; all of them were said to be unusable, one after the other."""
        (tmp_path / "down").mkdir()
        for name in ("Art.zip", "Real World.zip"):
            self.zipped(tmp_path / "down" / name, "cup/1.jpg")
        usage = SimpleNamespace(free=5)
        monkeypatch.setattr("benchmark.folders.shutil.disk_usage", lambda path: usage)
        lines: list[str] = []
        with pytest.raises(StorageError, match="free some space"):
            import_images(manifest, tmp_path / "down", copy=False, log=lines.append)
        assert lines == []

    def test_files_and_archives_side_by_side(self, manifest: Manifest, copy: Path) -> None:
        (copy / "real world" / "cup" / "1.jpg").unlink()
        self.zipped(copy / "Real_World.zip", "cup/1.jpg")
        assert import_images(manifest, copy, copy=False) == 2
        assert contents(manifest) == ["art/cup/1.jpg", "cup/1.jpg"]

    def test_a_member_that_is_there_twice(self, manifest: Manifest, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive = self.zipped(tmp_path / "x.zip", PATHS[0], PATHS[0])
        with pytest.raises(DataError, match="both match the image"):
            import_images(manifest, archive, copy=False)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive = self.zipped(tmp_path / "x.zip", "readme", "readme", PATHS[0])
        assert import_images(manifest, archive, copy=False) == 1

    def test_what_was_found_and_what_is_accepted(self, manifest: Manifest, tmp_path: Path) -> None:
        self.zipped(tmp_path / "x.zip", "Art.zip", "labels.csv")
        for origin in (tmp_path / "x.zip", write(tmp_path / "y", "Art.rar", "labels.csv")):
            with pytest.raises(UsageError) as caught:
                import_images(manifest, origin, copy=False)
            text = str(caught.value)
            assert "contains no images of small@0.1" in text
            assert "labels.csv" in text
            assert "it should contain files such as Art/cup/1.jpg, at any depth" in text
            assert "the domains are 'Art', 'Real_World'" in text

    def test_a_special_file(self, manifest: Manifest, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", Path("/dev/null")):
            with pytest.raises(UsageError, match="neither a folder nor a regular file"):
                import_images(manifest, path, copy=False)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the data folder."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.mark.parametrize("packed", [False, True])
def test_the_local_copy_may_be_a_link_to_another_disk(
    manifest: Manifest, copy: Path, other_disk: Path, packed: bool
) -> None:
    images_folder(manifest).parent.mkdir(parents=True)
    images_folder(manifest).symlink_to(other_disk)
    origin = copy
    if packed:
        origin = copy.with_name("copy.zip")
        with zipfile.ZipFile(origin, "w") as archive:
            for path in copy.rglob("*.jpg"):
                archive.write(path, path.relative_to(copy))
    assert import_images(manifest, origin, copy=True) == 2
    assert sorted(path.name for path in other_disk.iterdir()) == ["Art", "Real_World"]


def test_a_folder_in_the_local_copy_may_be_a_link_to_another_disk(
    manifest: Manifest, copy: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images_folder(manifest).mkdir(parents=True)
    (images_folder(manifest) / "Art").symlink_to(other_disk)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            import_images(manifest, copy, copy=True)
    assert not [path for path in other_disk.rglob("*") if path.is_file()]
    assert import_images(manifest, copy, copy=True) == 2
    assert contents(manifest) == ["art/cup/1.jpg", "real world/cup/1.jpg"]
    assert [path.name for path in other_disk.rglob("*")] == ["cup", "1.jpg"]


def interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import benchmark.images.copy.placing as placing
from benchmark.images.copy.take import import_images
from tests.benchmark.images.copy.test_take import manifest_of
count = 0
real = placing.Placing._move
def move(self, target):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), int(sys.argv[2]))
        time.sleep(60)
    real(self, target)
placing.Placing._move = move
paths = [f"Art/cup/{number}.jpg" for number in range(9)]
import_images(manifest_of(paths, Path()), Path(sys.argv[1]), copy=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_import_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "data"))
    paths = [f"Art/cup/{number}.jpg" for number in range(9)]
    copy = write(tmp_path / "copy", *paths)
    command = [sys.executable, "-c", SCRIPT, str(copy), str(int(number))]
    root = Path(__file__).parents[4]
    process = subprocess.run(command, cwd=root, capture_output=True, check=False, timeout=60)
    assert process.returncode != 0
    manifest = manifest_of(paths, Path())
    whole = [path for path in images_folder(manifest).rglob("*") if path.is_file()]
    assert len(whole) == 2
    assert all(path.read_text() == f"Art/cup/{path.name}" for path in whole)
    assert import_images(manifest, copy, copy=True) == 7
    assert contents(manifest) == paths
    assert not list((tmp_path / "data" / "images").glob(".*importing"))
