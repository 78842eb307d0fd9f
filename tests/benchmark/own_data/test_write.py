"""A manifest is written whole or not at all, and its images are links to the user's files."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.errors import DataError, ManifestError, UsageError
from benchmark.images.copy.verify import verify_images
from benchmark.images.place import absent_paths, images_folder
from benchmark.manifest.catalogue import load_manifest, own_folder, published_manifests
from benchmark.manifest.suite import load_suite, own_suites
from benchmark.own_data import write
from benchmark.own_data.add import AddedManifest, add_manifests, find_folders
from benchmark.own_data.build import parse_reference
from benchmark.own_data.write import write_manifest
from tests.benchmark.own_data.pictures import build, grid, paint, png

COMMAND = "htbench manifest new mine --from photos"


@pytest.fixture
def photos(tmp_path: Path, own_data: Path) -> Path:
    """Two domains, three classes, four images each."""
    return paint(tmp_path / "my photos", grid())


class TestWrite:
    def test_the_files_and_the_links(self, photos: Path, tmp_path: Path) -> None:
        (photos / "photo/cat/broken.png").write_bytes(png(1)[:30])
        new = build(photos, draws=2)
        written = write_manifest(new, tmp_path / "out", COMMAND)
        manifest = load_manifest(tmp_path / "out")
        assert manifest.digest == written.manifest.digest == new.manifest.digest
        assert manifest.table.num_rows == 24
        assert absent_paths(manifest) == set()
        links = images_folder(manifest)
        assert (links / "photo/cat/0.png").readlink() == photos / "photo/cat/0.png"
        readme = (tmp_path / "out" / "README.md").read_text()
        for text in (COMMAND, "| photo-sketch | 2 |", "floor(0.7 n)", "'photo/cat/broken.png'"):
            assert text in readme
        comment = (tmp_path / "out" / "manifest.toml").read_text().partition("\n\n")[0]
        assert 'the UTF-8 string "mine/seen/<source>/draw<number>/<class>"' in comment.replace(
            "\n# ", " "
        )

    def test_the_suites_have_one_draw_and_all(self, photos: Path, tmp_path: Path) -> None:
        write_manifest(build(photos, draws=2), tmp_path / "out", COMMAND)
        one, all_ = (
            load_suite(str(tmp_path / "out" / f"{n}.toml")) for n in ("mine", "mine-draws")
        )
        assert one.tasks == ("photo-sketch", "sketch-photo")
        assert all_.tasks == (*one.tasks, "photo-sketch.draw2", "sketch-photo.draw2")
        assert one.seeds == (0, 1, 2)
        assert one.manifest == str(tmp_path / "out")

    def test_the_same_images_give_the_same_digest(self, photos: Path) -> None:
        digest = build(photos).manifest.digest
        assert build(photos).manifest.digest == digest
        (photos / "photo/cat/0.png").write_bytes(png(999))
        assert build(photos).manifest.digest != digest

    def test_nothing_is_overwritten(self, photos: Path, tmp_path: Path) -> None:
        for name in ("out", "it's out"):
            (tmp_path / name).mkdir()
            with pytest.raises(UsageError, match="out exists, and nothing is overwritten") as info:
                write_manifest(build(photos), tmp_path / name, COMMAND)
            other = shlex.split(str(info.value).partition("such as ")[2])
            assert other == ["--out", str(tmp_path / f"{name}-manifest")]
        with pytest.raises(UsageError, match=r"\. exists, and nothing .* such as --out mine"):
            write_manifest(build(photos), Path(), COMMAND)

    def test_a_failure_leaves_nothing(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> Path:
            raise OSError(28, "No space left on device", "links")

        monkeypatch.setattr(write, "link_images", fail)
        with pytest.raises(UsageError, match=r"cannot write links: No space left.*--out"):
            write_manifest(build(photos), tmp_path / "out", COMMAND)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["my photos"]

    def test_links_are_replaced_and_copies_never(self, photos: Path, tmp_path: Path) -> None:
        manifest = write_manifest(build(photos), tmp_path / "one", COMMAND).manifest
        (photos / "photo/cat/0.png").rename(photos / "photo/cat/new.png")
        write_manifest(build(photos), tmp_path / "two", COMMAND)
        links = images_folder(manifest) / "photo" / "cat"
        assert sorted(path.name for path in links.iterdir())[-1] == "new.png"
        assert not (links / "0.png").is_symlink()
        (links / "new.png").unlink()
        (links / "new.png").write_bytes(png(1))
        with pytest.raises(UsageError, match=r"images of another mine@0.1.* version, .*mine@0.2"):
            write_manifest(build(photos), tmp_path / "three", COMMAND)
        assert (links / "new.png").read_bytes() == png(1)
        assert not (tmp_path / "three").exists()

    def test_links_to_other_images_are_kept(self, photos: Path, tmp_path: Path) -> None:
        manifest = write_manifest(build(photos), tmp_path / "one", COMMAND).manifest
        others = paint(tmp_path / "others", grid(), start=500)
        with pytest.raises(UsageError, match=r"images of another mine@0.1.* version, .*mine@0.2"):
            write_manifest(build(others), tmp_path / "two", COMMAND)
        assert verify_images(manifest).ok, "runs of the first manifest use its own images"
        assert not (tmp_path / "two").exists()

    def test_links_to_the_same_images_by_another_path(self, photos: Path, tmp_path: Path) -> None:
        write_manifest(build(photos), tmp_path / "one", COMMAND)
        rows = [",".join([path, *path.split("/")[:2]]) for path in grid()]
        (photos / "images.csv").write_text("\n".join(["path,domain,class", *rows]))
        (tmp_path / "link").symlink_to(photos)
        write_manifest(build(tmp_path / "link" / "images.csv"), tmp_path / "two", COMMAND)


class TestNames:
    @pytest.mark.parametrize("name", ["manifest", "Manifest@1.0"])
    def test_a_suite_never_has_the_name_of_the_manifests_file(self, name: str) -> None:
        with pytest.raises(UsageError, match=r"its suite would have the file name manifest\.toml"):
            parse_reference(name)

    @pytest.mark.parametrize("name", ["", "a b", "../x", "mine@", "mine@x", "ä", "x" * 101])
    def test_a_name_must_be_plain(self, name: str) -> None:
        with pytest.raises(UsageError, match="cannot name a manifest"):
            parse_reference(name)

    @pytest.mark.parametrize("name", ["icons", "Icons@9.0", "iwildcam", "icons-hot", "pacs"])
    def test_published_names_are_reserved(self, name: str) -> None:
        with pytest.raises(UsageError, match="name of a published data set or suite"):
            parse_reference(name)

    def test_the_version_is_optional(self) -> None:
        assert parse_reference("mine") == ("mine", "0.1")
        assert parse_reference("mine@1.0") == ("mine", "1.0")


def add(folder: Path) -> AddedManifest:
    (added,) = add_manifests([folder])
    return added


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class TestAdd:
    def test_it_is_found_by_name(self, photos: Path, tmp_path: Path) -> None:
        write_manifest(build(photos, draws=2), tmp_path / "out", COMMAND)
        added = add(tmp_path / "out")
        assert added.manifest.reference == "mine@0.1"
        assert (added.suites, added.is_new) == (("mine", "mine-draws"), True)
        assert load_manifest("mine@0.1").digest == load_manifest(tmp_path / "out").digest
        assert load_suite("mine-draws").manifest == str(own_folder("mine@0.1"))
        assert own_suites() == ["mine", "mine-draws"]
        assert not add(tmp_path / "out").is_new

    def test_suites_are_copied_again(self, photos: Path, tmp_path: Path) -> None:
        write_manifest(build(photos), tmp_path / "out", COMMAND)
        add(tmp_path / "out")
        suite = tmp_path / "out" / "mine.toml"
        suite.write_text(suite.read_text().replace("[0, 1, 2]", "[7]"))
        (tmp_path / "out" / "small.toml").write_text(suite.read_text())
        added = add(tmp_path / "out")
        assert (added.suites, added.is_new) == (("mine", "small"), False)
        assert load_suite("mine").seeds == load_suite("small").seeds == (7,)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("[0, 1, 2]", "[0, 1, 2", "mine.toml is not valid TOML"),
            ("[0, 1, 2]", "[0, -1]", "mine.toml: seeds must be"),
        ],
    )
    def test_a_suite_that_cannot_be_read_is_refused(
        self, photos: Path, tmp_path: Path, old: str, new: str, message: str
    ) -> None:
        """It was skipped, and the suite of that name stayed as it was."""
        write_manifest(build(photos), tmp_path / "out", COMMAND)
        (tmp_path / "out" / "other.toml").write_text("[tool]\nname = 1\n")
        assert add(tmp_path / "out").suites == ("mine",)
        suite = tmp_path / "out" / "mine.toml"
        suite.write_text(suite.read_text().replace(old, new))
        with pytest.raises(ManifestError, match=message):
            add(tmp_path / "out")

    def test_what_a_killed_command_left_is_no_manifest(self, photos: Path, tmp_path: Path) -> None:
        write_manifest(build(photos), tmp_path / "out", COMMAND)
        add(tmp_path / "out")
        home = own_folder("mine@0.1")
        for folder in (tmp_path, home.parent):
            shutil.copytree(home, folder / ".building-x1")
        assert [name for name in published_manifests() if name.startswith("mine")] == ["mine@0.1"]
        assert own_suites() == ["mine"]
        assert load_suite("mine").manifest == str(home)
        assert find_folders(tmp_path) == [tmp_path / "out"]

    def test_another_manifest_of_that_version_is_refused(
        self, photos: Path, tmp_path: Path
    ) -> None:
        write_manifest(build(photos), tmp_path / "out", COMMAND)
        add(tmp_path / "out")
        file = tmp_path / "out" / "manifest.toml"
        file.write_text(file.read_text().replace("Not stated yet", "CC0"))
        with pytest.raises(UsageError, match=r"another mine@0.1 was added before, .* or delete"):
            add(tmp_path / "out")
        with pytest.raises(UsageError, match=r"mine@0.1 was added already, .*mine@0.2"):
            write_manifest(build(photos), tmp_path / "again", COMMAND)

    def test_a_published_name_is_never_shadowed(self, photos: Path, tmp_path: Path) -> None:
        write_manifest(build(photos), tmp_path / "out", COMMAND)
        file = tmp_path / "out" / "manifest.toml"
        text = file.read_text()
        file.write_text(text.replace('name = "mine"', 'name = "icons"', 1))
        with pytest.raises(UsageError, match="icons is the name of a published data set"):
            add(tmp_path / "out")
        file.write_text(text)
        (tmp_path / "out" / "mine.toml").rename(tmp_path / "out" / "pacs.toml")
        with pytest.raises(UsageError, match=r"pacs.toml has the name of a published suite"):
            add(tmp_path / "out")

    def test_a_broken_manifest_is_refused(self, photos: Path, tmp_path: Path) -> None:
        write_manifest(build(photos), tmp_path / "out", COMMAND)
        (tmp_path / "out" / "images.parquet").write_bytes(b"")
        with pytest.raises(ManifestError, match="not a readable Parquet file"):
            add(tmp_path / "out")
        assert not own_folder("mine@0.1").exists()

    def test_all_are_added_or_none(
        self, photos: Path, own_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first of two was added, and one of two suites was replaced: "nothing was added"."""
        write_manifest(build(photos, draws=2), tmp_path / "one", COMMAND)
        add(tmp_path / "one")
        for suite in ("mine", "mine-draws"):
            file = tmp_path / "one" / f"{suite}.toml"
            file.write_text(file.read_text().replace("[0, 1, 2]", "[7]"))
        (tmp_path / "one" / "small.toml").write_text(file.read_text())
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        file = tmp_path / "two" / "manifest.toml"
        file.write_text(file.read_text().replace('version = "0.1"', 'version = "0.2"'))
        before = contents(own_data)
        copyfile = shutil.copyfile

        def failing_after(copies: int) -> Callable[..., None]:
            left = iter(range(copies))

            def copy(*paths: Path) -> None:
                if next(left, None) is None:
                    raise OSError(28, "No space left on device")
                copyfile(*paths)

            return copy

        # Copied are: of one, two suites aside; of two, three files and three suites.
        for folders, copies in ((["two", "one"], 7), (["one", "two"], 1), (["one", "two"], 4)):
            monkeypatch.setattr(shutil, "copyfile", failing_after(copies))
            with pytest.raises(DataError, match="No space left on device; nothing was added"):
                add_manifests([tmp_path / folder for folder in folders])
            assert contents(own_data) == before
        monkeypatch.undo()
        monkeypatch.setenv("HTBENCH_DATA", str(own_data))
        added = add_manifests([tmp_path / "one", tmp_path / "two"])
        assert [one.is_new for one in added] == [False, True]
        assert load_suite(str(own_folder("mine@0.1") / "small.toml")).seeds == (7,)
        assert not list(own_data.rglob(".*"))

    def test_a_failed_add_leaves_no_folder(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_paths: Path) -> None:
            raise OSError(28, "No space left on device")

        write_manifest(build(photos), tmp_path / "out", COMMAND)
        monkeypatch.setattr(shutil, "copyfile", full)
        with pytest.raises(DataError, match="nothing was added"):
            add(tmp_path / "out")
        assert not own_folder("mine@0.1").parent.exists()

    def test_a_folder_that_is_repeated_is_added_once(self, photos: Path, tmp_path: Path) -> None:
        write_manifest(build(photos), tmp_path / "out", COMMAND)
        (tmp_path / "link").symlink_to("out")
        (added,) = add_manifests([tmp_path / "out", tmp_path / "link", tmp_path / "out"])
        assert added.is_new

    def test_two_with_one_name_are_refused_before_anything_is_added(
        self, photos: Path, tmp_path: Path
    ) -> None:
        write_manifest(build(photos), tmp_path / "one", COMMAND)
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        file = tmp_path / "two" / "manifest.toml"
        file.write_text(file.read_text().replace("Not stated yet", "CC0"))
        with pytest.raises(UsageError, match=r"one and .*two are both mine@0.1"):
            add_manifests([tmp_path / "one", tmp_path / "two"])
        assert not own_folder("mine@0.1").exists()

    def test_two_suites_of_one_name_are_named_by_path(self, photos: Path, tmp_path: Path) -> None:
        write_manifest(build(photos), tmp_path / "out", COMMAND)
        add(tmp_path / "out")
        file = tmp_path / "out" / "manifest.toml"
        file.write_text(file.read_text().replace('version = "0.1"', 'version = "0.2"'))
        add(tmp_path / "out")
        with pytest.raises(ManifestError, match="several suites mine; give the path of one"):
            load_suite("mine")
        assert own_suites() == [str(own_folder(f"mine@0.{n}") / "mine.toml") for n in (1, 2)]

    def test_a_folder_of_manifests_is_searched(self, tmp_path: Path) -> None:
        for name in ("b", "a/0.1", "a/0.2"):
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / "manifest.toml").touch()
        assert find_folders(tmp_path) == [tmp_path / name for name in ("a/0.1", "a/0.2", "b")]
        assert find_folders(tmp_path / "b") == [tmp_path / "b"]
        with pytest.raises(UsageError, match="has no manifest: it should"):
            find_folders(tmp_path / "none")
