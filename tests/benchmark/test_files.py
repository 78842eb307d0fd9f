"""Files and folders appear complete or not at all, and invalid JSON is refused."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from benchmark import files
from benchmark.errors import DataError, RecordError, UsageError
from benchmark.files import (
    SEAL,
    atomic_path,
    canonical_json,
    check_output,
    digest_file,
    digest_json,
    matches_digest,
    new_folder,
    read_bounded,
    read_json,
    read_sealed,
    seal,
    write_file,
)
from benchmark.temporary import temporary_folder


class Stop(BaseException):
    """Simulates Ctrl-C."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestCanonicalJson:
    def test_equal_values_have_equal_bytes(self) -> None:
        assert canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1})
        assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == (
            b'{"a":"\\u00e9","b":[1,2.5,null]}'
        )

    def test_nan_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json({"a": float("nan")})

    def test_digests(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(canonical_json([1]))
        assert digest_json([1]) == digest_file(tmp_path / "x") == hashlib.sha256(b"[1]").hexdigest()


class TestWriteFile:
    def test_creates_folders_and_replaces(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b.txt"
        write_file(path, b"old")
        write_file(path, b"new")
        assert path.read_bytes() == b"new"
        assert names(path.parent) == ["b.txt"]

    def test_everyone_may_read_it(self, tmp_path: Path) -> None:
        write_file(tmp_path / "board.md", b"")
        assert stat.S_IMODE((tmp_path / "board.md").stat().st_mode) == 0o644

    def test_a_failure_leaves_the_old_file_and_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "x"
        write_file(path, b"old")

        def stop(*_: object) -> None:
            raise Stop

        monkeypatch.setattr(Path, "replace", stop)
        with pytest.raises(Stop):
            write_file(path, b"new")
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["x"]


class TestAtomicPath:
    def test_the_file_appears_at_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "x"
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"new")
            assert temporary.parent == path.parent
            assert not path.exists()
        assert path.read_bytes() == b"new"
        assert names(path.parent) == ["x"]

    @pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
    def test_everyone_may_read_it_whatever_the_umask(self, tmp_path: Path, mask: int) -> None:
        previous = os.umask(mask)
        try:
            write_file(tmp_path / "x", b"")
        finally:
            os.umask(previous)
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644

    def test_the_block_may_make_it_a_link(self, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.touch(0o600)
        with atomic_path(tmp_path / "link") as temporary:
            temporary.unlink()
            temporary.symlink_to(target)
        assert (tmp_path / "link").resolve() == target
        assert stat.S_IMODE(target.stat().st_mode) == 0o600

    @pytest.mark.parametrize("error", [ValueError, Stop])
    def test_a_failure_leaves_the_old_file_and_no_other(
        self, tmp_path: Path, error: type[BaseException]
    ) -> None:
        path = tmp_path / "x"
        path.write_bytes(b"old")

        def fail() -> None:
            with atomic_path(path) as temporary:
                temporary.write_bytes(b"new")
                raise error

        with pytest.raises(error):
            fail()
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["x"]


class TestNewFolder:
    def test_appears_at_the_end(self, tmp_path: Path) -> None:
        final = tmp_path / "deep" / "run"
        with new_folder(final) as building:
            (building / "x").write_text("1")
            assert not final.exists()
        assert names(final) == ["x"]
        assert names(final.parent) == ["run"]
        assert stat.S_IMODE(final.stat().st_mode) == 0o755

    def test_replaces_the_older_one_whole(self, tmp_path: Path) -> None:
        final = tmp_path / "run"
        for name in ("old", "new"):
            with new_folder(final) as building:
                (building / name).write_text("1")
        assert names(final) == ["new"]
        assert names(tmp_path) == ["run"]

    @pytest.mark.parametrize("error", [ValueError, Stop])
    def test_a_failure_leaves_the_old_folder_and_no_other(
        self, tmp_path: Path, error: type[BaseException]
    ) -> None:
        final = tmp_path / "run"
        with new_folder(final) as building:
            (building / "old").write_text("1")

        def fail() -> None:
            with new_folder(final) as building:
                (building / "new").write_text("1")
                raise error

        with pytest.raises(error):
            fail()
        assert names(final) == ["old"]
        assert names(tmp_path) == ["run"]


class TestDrivers:
    """Several processes create the same folder at the same time."""

    CODE = """
import sys
from pathlib import Path
from typing import Any, ClassVar
from benchmark.files import new_folder
final, number = Path(sys.argv[1]), sys.argv[2]
sys.stdin.read(1)
for turn in range(50):
    with new_folder(final) as building:
        for name in "ab":
            (building / name).write_text(f"{number}-{turn}")
"""

    def test_one_whole_folder_stays(self, tmp_path: Path) -> None:
        drivers = [
            subprocess.Popen(
                [sys.executable, "-c", self.CODE, str(tmp_path / "run"), str(number)],
                stdin=subprocess.PIPE,
            )
            for number in range(8)
        ]
        for driver in drivers:
            assert driver.stdin is not None
            driver.stdin.close()
        assert [driver.wait() for driver in drivers] == [0] * len(drivers)
        assert names(tmp_path) == ["run"]
        assert names(tmp_path / "run") == ["a", "b"]
        assert (tmp_path / "run" / "a").read_text() == (tmp_path / "run" / "b").read_text()

    @pytest.mark.parametrize("kind", ["file", "link", "dangling link", "fifo", "empty folder"])
    def test_anything_under_the_name_is_replaced(self, tmp_path: Path, kind: str) -> None:
        final, other = tmp_path / "run", tmp_path / "other"
        other.mkdir()
        {
            "file": final.touch,
            "link": lambda: final.symlink_to(other),
            "dangling link": lambda: final.symlink_to(tmp_path / "nowhere"),
            "fifo": lambda: os.mkfifo(final),
            "empty folder": final.mkdir,
        }[kind]()
        with new_folder(final) as building:
            (building / "a").write_text("new")
        assert names(tmp_path) == ["other", "run"]
        assert names(final) == ["a"]
        assert not final.is_symlink()
        assert names(other) == []

    def test_a_file_in_the_place_of_the_parent(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="file"), new_folder(tmp_path / "file" / "run"):
            pass
        assert names(tmp_path) == ["file"]


class TestCheckOutput:
    """A user's output path is written to only where it is free, or what it seems to be."""

    @pytest.mark.parametrize("folder", [False, True])
    def test_a_free_path(self, tmp_path: Path, folder: bool) -> None:
        check_output(tmp_path / "free", folder=folder)
        check_output(tmp_path / "no" / "parent" / "yet", folder=folder)

    def test_what_would_be_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        check_output(tmp_path / "file")
        check_output(tmp_path, folder=True)
        (tmp_path / "parent").symlink_to(tmp_path)
        check_output(tmp_path / "parent" / "file")

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("to-file", "to-file is a symbolic link to .*file, .* delete the link"),
            ("to-nothing", "to-nothing is a symbolic link to .*nothing"),
            ("to-device", "to-device is a symbolic link to /dev/null"),
            ("folder", "folder is a folder; give the path of a new file"),
            ("fifo", r"fifo is a named pipe \(FIFO\); give the path of a new file"),
            ("socket", "socket is a socket"),
            ("/dev/null", "/dev/null is a device; give the path of a new file"),
            ("-", "'-' does not mean standard output here"),
        ],
    )
    def test_anything_else_is_refused(self, tmp_path: Path, name: str, reason: str) -> None:
        (tmp_path / "file").write_text("old")
        (tmp_path / "to-file").symlink_to(tmp_path / "file")
        (tmp_path / "to-nothing").symlink_to(tmp_path / "nothing")
        (tmp_path / "to-device").symlink_to("/dev/null")
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "fifo")
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.open(tmp_path, os.O_RDONLY)
            listener.bind(f"/proc/self/fd/{here}/socket")  # a socket's path has at most 107 bytes
            os.close(here)
        with pytest.raises(UsageError, match=reason):
            check_output(tmp_path / name)

    @pytest.mark.parametrize("name", ["file", "link", "/dev/null"])
    def test_a_folder_replaces_a_folder_only(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(UsageError, match="give the path of a new folder"):
            check_output(tmp_path / name, folder=True)


class TestReadJson:
    def read(self, tmp_path: Path, text: bytes, limit: int = 1 << 20) -> object:
        (tmp_path / "x.json").write_bytes(text)
        return read_json(tmp_path / "x.json", limit, RecordError)

    def test_value(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, b'{"a": [1, 2.5]}') == {"a": [1, 2.5]}

    def test_the_limit_is_the_last_size_that_is_read(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, b"[1, 2]", limit=6) == [1, 2]
        with pytest.raises(RecordError, match=r"x\.json is larger than 5 bytes$"):
            self.read(tmp_path, b"[1, 2]", limit=5)

    @pytest.mark.parametrize(
        "text",
        [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5000, b"[NaN]", b"[-Infinity]", b"[1e999]"],
        ids=lambda text: repr(text[:8]),
    )
    def test_not_json(self, tmp_path: Path, text: bytes) -> None:
        with pytest.raises(RecordError, match=r"x\.json is not valid JSON"):
            self.read(tmp_path, text)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"cannot read .*No such file"):
            read_json(tmp_path / "none.json", 10, DataError)


class TestSealed:
    RECORD: ClassVar = {"a": [1, 2.5], "name": 'é "sha256":"', "status": {"sha256": "0" * 64}}

    def read(self, path: Path, content: bytes) -> dict[str, Any]:
        path.write_bytes(content)
        return read_sealed(path, 1 << 20, RecordError)

    @pytest.mark.parametrize("end", [b"", b"\n"])
    def test_what_seal_wrote_is_not_encoded_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes
    ) -> None:
        content = seal(self.RECORD) + end
        monkeypatch.setattr(files, "digest_json", lambda _: pytest.fail("encoded"))
        assert self.read(tmp_path / "x.json", content) == self.RECORD

    def test_the_same_entries_in_another_form(self, tmp_path: Path) -> None:
        for record in (self.RECORD, {"a": 1}):  # in the second, the digest is the last entry
            sealed = json.loads(seal(record))
            other = dict(reversed(sealed.items()))
            content = json.dumps(other, indent=2, ensure_ascii=False).encode()
            assert self.read(tmp_path / "x.json", content) == record

    def test_every_change_of_a_byte_is_found(self, tmp_path: Path) -> None:
        content = seal(self.RECORD)
        for at, byte in enumerate(content):
            changed = content[:at] + bytes([byte ^ 1]) + content[at + 1 :]
            with pytest.raises(RecordError, match=r"checksum|not valid JSON"):
                self.read(tmp_path / "x.json", changed)

    @pytest.mark.parametrize("digest", [None, 3, "", "\ud800" * 64, "é" * 64, [["a"]], {"a": 1}])
    def test_a_digest_that_is_none(self, tmp_path: Path, digest: object) -> None:
        content = json.dumps({**self.RECORD, SEAL: digest, "z": 1}).encode()
        with pytest.raises(RecordError, match="does not match its checksum"):
            self.read(tmp_path / "x.json", content)


class TestMatchesDigest:
    def test_each_file_is_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"content")
        digest = digest_file(path)
        monkeypatch.setattr(files, "SETTLED_SECONDS", -1)
        assert matches_digest(path, digest)
        with monkeypatch.context() as patch:
            patch.delattr(hashlib, "file_digest")
            assert matches_digest(path, digest)
            assert not matches_digest(path, "0" * 64)
        path.write_bytes(b"c0ntent!")
        assert not matches_digest(path, digest)

    def test_a_change_right_after_the_last_one_is_seen(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"content")
        digest = digest_file(path)
        for _ in range(20):  # within one tick of the file system's clock
            path.write_bytes(b"content")
            assert matches_digest(path, digest)
            path.write_bytes(b"c0ntent")
            assert not matches_digest(path, digest)

    def test_nothing_to_read(self, tmp_path: Path) -> None:
        assert not matches_digest(tmp_path / "none", None)
        assert not matches_digest(tmp_path, None)


def test_reading_takes_no_more_memory_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bounded(tmp_path / "x", 1 << 50) == b"12345"
    assert read_bounded(tmp_path / "x", 5) == b"12345"
    assert read_bounded(tmp_path / "x", 3) == b"1234"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("kind", ["file", "folder", "temporary"])
def test_an_error_of_a_full_disk_names_the_path(tmp_path: Path, kind: str) -> None:
    place = {
        "file": atomic_path(tmp_path / "name"),
        "folder": new_folder(tmp_path / "name"),
        "temporary": temporary_folder(tmp_path),
    }[kind]

    def write() -> None:
        with place, Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(OSError, match="No space left") as failed:
        write()
    expected = tmp_path / ("htbench-" if kind == "temporary" else "name")
    assert str(failed.value.filename).startswith(str(expected))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that takes no files")
def test_an_error_of_a_temporary_file_names_the_path_that_was_asked_for() -> None:
    for path, write in (
        (Path("/proc/file"), lambda path: write_file(path, b"x")),
        (Path("/proc/folder"), lambda path: new_folder(path).__enter__()),
    ):
        with pytest.raises(OSError, match=f"'{path}'$") as error:
            write(path)
        assert error.value.filename == str(path)


def test_an_error_of_the_folder_to_build_in_names_that(tmp_path: Path) -> None:
    """As when another command has removed the temporary folder of a driver."""
    absent = tmp_path / "absent"
    with pytest.raises(FileNotFoundError) as error:
        new_folder(tmp_path / "final", building_in=absent).__enter__()
    assert error.value.filename == str(absent)


def test_an_error_of_the_last_rename_names_the_path_only(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"'{tmp_path}'$") as error:
        write_file(tmp_path, b"x")
    assert error.value.filename2 is None
