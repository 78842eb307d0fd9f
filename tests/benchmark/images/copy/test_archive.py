"""Members of an archive are taken or named; none is written anywhere but to an image's path."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.errors import DataError, HTBenchError, StorageError, UsageError
from benchmark.images.copy import archive as module
from benchmark.images.copy.archive import list_members, unpack
from benchmark.images.copy.placing import placing
from benchmark.images.copy.remarks import Remarks

BLOCK = 512
LIMIT = 20_000  # members
Make = Callable[[Path, dict[str, bytes]], Path]


def a_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def a_tar(path: Path, files: dict[str, bytes], kind: Any = "w:gz") -> Path:
    with tarfile.open(path, kind, format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def special(path: Path, kind: bytes, name: str = "odd.png", target: str = "/etc/passwd") -> Path:
    """A tar with one image and one member of another type."""
    with tarfile.open(path, "w") as tar:
        for info in (tarfile.TarInfo("a.png"), tarfile.TarInfo(name)):
            if info.name == "a.png":
                info.size = 3
            else:
                info.type, info.linkname = kind, target
            tar.addfile(info, io.BytesIO(b"one"))
    return path


def names(archive: Path) -> list[str]:
    return [member.name for member in list_members(archive, Remarks(), LIMIT)]


def remarks(archive: Path) -> list[str]:
    counted = Remarks()
    list_members(archive, counted, LIMIT)
    return list(counted.lines())


def take(archive: Path, into: Path, place: Callable[[str], str] = lambda name: name) -> int:
    """Extract every member to the path that its name is given."""
    members = list_members(archive, Remarks(), LIMIT)
    places: dict[int, list[str]] = {}
    for member in members:
        places.setdefault(member.number, []).append(place(member.name))
    with placing(into) as writer:
        return unpack(archive, members, places, writer, LIMIT)


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "make",
    [a_zip, *(lambda p, f, k=k: a_tar(p, f, k) for k in ("w", "w:gz", "w:bz2", "w:xz"))],
    ids=["zip", "tar", "gz", "bz2", "xz"],
)
def test_the_chosen_files_are_extracted(tmp_path: Path, make: Make) -> None:
    files = {"set/a/1.png": b"one", "set/a/2.png": b"two", "set/ö.txt": b"three", "set/e.png": b""}
    archive = make(tmp_path / "no-suffix", files)
    members = list_members(archive, Remarks(), LIMIT)
    assert [member.name for member in members] == list(files)
    calls: list[tuple[int, int]] = []
    chosen = {m.number: [m.name.removeprefix("set/")] for m in members if "png" in m.name}
    with placing(tmp_path / "out") as writer:
        count = unpack(
            archive, members, chosen, writer, LIMIT, lambda n, total: calls.append((n, total))
        )
    assert count == 3
    assert files_in(tmp_path / "out") == {"a/1.png": b"one", "a/2.png": b"two", "e.png": b""}
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert remarks(archive) == []


@pytest.mark.parametrize("make", [a_zip, a_tar])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/data/Art/a.png", "/data/Art/a.png"),
        ("Art\\a.png", "Art/a.png"),
        ("C:\\Art\\a.png", "C:/Art/a.png"),
        ("./Art/a.png", "./Art/a.png"),
        ("../a.png", None),
        ("a/../../b.png", None),
        ("..\\b.png", None),
        ("y" * 5000, None),
    ],
)
def test_names_of_other_systems(
    tmp_path: Path, make: Make, name: str, expected: str | None
) -> None:
    archive = make(tmp_path / "x", {name: b"x", "good.png": b"y"})
    assert names(archive) == [*([expected] if expected else []), "good.png"]
    assert len(remarks(archive)) == (expected is None)
    assert all(len(line) < 300 for line in remarks(archive))


def test_a_name_of_a_hundred_thousand_characters(tmp_path: Path) -> None:
    archive = a_tar(tmp_path / "x", {"z" * 100_000: b"x", "good.png": b"y"})
    assert names(archive) == ["good.png"]
    assert "1 member whose name has more than 4096 characters: 'zz" in remarks(archive)[0]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "1 symbolic link: "),
        (tarfile.LNKTYPE, "1 hard link to a later or absent file: "),
        (tarfile.CHRTYPE, "1 special member ("),
        (tarfile.BLKTYPE, "1 special member ("),
        (tarfile.FIFOTYPE, "1 special member ("),
        (b"Z", "1 special member ("),
    ],
)
def test_special_members_of_a_tar_are_named(tmp_path: Path, kind: bytes, words: str) -> None:
    archive = special(tmp_path / "x.tar", kind)
    assert names(archive) == ["a.png"]
    assert [line.startswith(words) for line in remarks(archive)] == [True]
    assert take(archive, tmp_path / "out") == 1
    assert files_in(tmp_path / "out") == {"a.png": b"one"}


def test_hard_links_are_taken(tmp_path: Path) -> None:
    archive = special(tmp_path / "x.tar", tarfile.LNKTYPE, "b.png", "a.png")
    assert take(archive, tmp_path / "out") == 2
    assert files_in(tmp_path / "out") == {"a.png": b"one", "b.png": b"one"}
    members = list_members(archive, Remarks(), LIMIT)
    with placing(tmp_path / "link-only") as writer:  # the file itself is not wanted
        unpack(archive, members, {members[1].number: ["b.png"]}, writer, LIMIT)
    assert files_in(tmp_path / "link-only") == {"b.png": b"one"}


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o020644, 0o140644])
def test_special_members_of_a_zip_are_named(tmp_path: Path, mode: int) -> None:
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w") as file:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = mode << 16
        file.writestr(info, "/etc/passwd")
        file.writestr("a.png", b"one")
    assert names(archive) == ["a.png"]
    assert len(remarks(archive)) == 1


def test_zip64_and_other_modes(tmp_path: Path) -> None:
    """Files are readable for others, whatever the archive and the umask say."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        info = zipfile.ZipInfo("a.png")
        info.external_attr = 0o100000 << 16
        with file.open(info, "w", force_zip64=True) as member:
            member.write(b"one")
    before = os.umask(0o077)
    try:
        assert take(tmp_path / "x.zip", tmp_path / "out") == 1
    finally:
        os.umask(before)
    assert (tmp_path / "out" / "a.png").stat().st_mode == 0o100644


def test_a_sparse_member(tmp_path: Path) -> None:
    """As GNU tar stores a file with a hole: it is taken, unless it is a bomb."""
    for size, words in ((4096, None), (100 << 20, "expands to more than 200 times")):
        info = tarfile.TarInfo("a.png")
        data = f"1\n0\n{BLOCK}\n".encode().ljust(BLOCK, b"\0") + b"x" * BLOCK
        info.size = len(data)
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "a.png",
            "GNU.sparse.realsize": str(size),
        }
        with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            tar.addfile(info, io.BytesIO(data))
        if words is None:
            assert take(tmp_path / "x.tar", tmp_path / "out") == 1
            expected = b"x" * BLOCK + bytes(size - BLOCK)
            assert files_in(tmp_path / "out") == {"a.png": expected}
        else:
            with pytest.raises(DataError, match=words):
                take(tmp_path / "x.tar", tmp_path / "out")


class TestLimits:
    def test_a_decompression_bomb_is_refused(self, tmp_path: Path) -> None:
        archive = a_zip(tmp_path / "bomb.zip", {"a.png": b"\0" * (8 << 20)})
        with pytest.raises(DataError, match="expands to more than"):
            take(archive, tmp_path / "out")
        assert files_in(tmp_path / "out") == {}

    @pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
    def test_a_compressed_tar_that_never_ends(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
    ) -> None:
        monkeypatch.setattr(module, "TAR_SLACK", 1 << 20)
        info = tarfile.TarInfo("a.png")
        info.size = 64 << 20
        (tmp_path / "x").write_bytes(pack(info.tobuf() + bytes(info.size)))
        with pytest.raises(DataError, match="expands to more than 50 times its size"):
            list_members(tmp_path / "x", Remarks(), LIMIT)

    @pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
    def test_a_header_of_a_gigabyte(self, tmp_path: Path, kind: bytes) -> None:
        info = tarfile.TarInfo("header")
        info.type, info.size = kind, 1 << 30
        (tmp_path / "x.tar").write_bytes(gzip.compress(info.tobuf() + bytes(2 << 20)))
        tracemalloc.start()
        with pytest.raises(DataError, match="has a header of more than 1048576 bytes"):
            list_members(tmp_path / "x.tar", Remarks(), LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
        tracemalloc.stop()

    @pytest.mark.parametrize("records", [0, 100])
    def test_an_archive_of_headers_is_refused_early(
        self, tmp_path: Path, records: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Names or records, of which a few bytes of gzip make millions that take minutes."""
        member = tarfile.TarInfo("a.png")
        member.pax_headers = {f"key-{number}": "" for number in range(records)}
        block = member.tobuf(tarfile.PAX_FORMAT)
        count = (4 << 20) // len(block)
        data = gzip.compress(block * count + bytes(2 * BLOCK))
        (tmp_path / "x").write_bytes(data)
        assert len(list_members(tmp_path / "x", Remarks(), LIMIT)) == count
        monkeypatch.setattr(module, "HEADER_SLACK", 1 << 20)
        (tmp_path / "x").write_bytes(data[: len(data) // 2])  # the end is not reached
        with pytest.raises(DataError, match="its headers expand to more than 8 times its size"):
            list_members(tmp_path / "x", Remarks(), LIMIT)

    def test_a_tar_of_tiny_images_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "HEADER_SLACK", 0)
        files = {f"Art/ü{number}.png": os.urandom(300) for number in range(2000)}
        assert len(names(a_tar(tmp_path / "x", files, "w:xz"))) == 2000

    def test_headers_of_headers(self, tmp_path: Path) -> None:
        info = tarfile.TarInfo("header")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
        (tmp_path / "x.tar").write_bytes((info.tobuf() + b"a".ljust(BLOCK, b"\0")) * 3000)
        with pytest.raises(DataError):
            list_members(tmp_path / "x.tar", Remarks(), LIMIT)

    def test_many_members_are_counted_before_they_take_memory(self, tmp_path: Path) -> None:
        entry = struct.pack("<4s24xH16x1s", b"PK\1\2", 1, b"a")  # in the directory, of no data
        count = 40_000
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, count * len(entry), 0, 0)
        (tmp_path / "x.zip").write_bytes(entry * count + end)
        tracemalloc.start()
        with pytest.raises(DataError, match="more than 20000 files"):
            list_members(tmp_path / "x.zip", Remarks(), LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()

    @pytest.mark.parametrize("make", [a_zip, a_tar])
    def test_caps(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
        archive = make(tmp_path / "x.zip", {"a": b"1234", "b": b"5678"})
        with pytest.raises(DataError, match="more than 1 files"):
            list_members(archive, Remarks(), 1)
        monkeypatch.setattr(module, "MAX_FILE_BYTES", 3)
        with pytest.raises(DataError, match="too large for an image"):
            take(archive, tmp_path / "out")
        monkeypatch.undo()
        usage = lambda path: type("U", (), {"free": 5})  # noqa: E731
        monkeypatch.setattr("benchmark.folders.shutil.disk_usage", usage)
        with pytest.raises(StorageError, match="free some space"):
            take(archive, tmp_path / "out")

    def test_overlapping_members(self, tmp_path: Path) -> None:
        """Many entries of one directory point at the same data."""
        archive = a_zip(tmp_path / "x.zip", {"a.png": os.urandom(4000)}, zipfile.ZIP_STORED)
        data = archive.read_bytes()
        start = data.index(b"PK\1\2")
        entry, end = data[start : data.index(b"PK\5\6")], bytearray(data[data.index(b"PK\5\6") :])
        end[8:12] = struct.pack("<2H", 9, 9)
        end[12:16] = struct.pack("<L", 9 * len(entry))
        entries = b"".join(entry.replace(b"a.png", b"%d.png" % number) for number in range(9))
        archive.write_bytes(data[:start] + entries + end)
        with pytest.raises(DataError, match="overlap"):
            take(archive, tmp_path / "out")


class TestDamage:
    @pytest.mark.parametrize("size", [3, 5000])
    def test_sizes_in_the_archive_are_not_trusted(self, tmp_path: Path, size: int) -> None:
        archive = a_zip(tmp_path / "lie.zip", {"a.png": b"abcdefgh"}, zipfile.ZIP_STORED)
        data = bytearray(archive.read_bytes())
        at = data.index(b"PK\x01\x02") + 24  # the uncompressed size in the directory
        data[at : at + 4] = size.to_bytes(4, "little")
        archive.write_bytes(data)
        with pytest.raises(DataError):
            take(archive, tmp_path / "out")
        assert files_in(tmp_path / "out") == {}

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"<html><title>Sign in</title>", "a web page"),
            (b"", "empty"),
            (b"nothing known", "another kind of file"),
            (b"Rar!\x1a\x07", "a RAR archive"),
            (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
            (
                gzip.compress(b"path,label\n" * 100, mtime=0),
                "a compressed file that is not a tar archive",
            ),
            (b"PK\3\4" + bytes(100), "a zip archive, truncated"),
            (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        ],
    )
    def test_a_file_that_is_not_an_archive_is_described(
        self, tmp_path: Path, data: bytes, words: str
    ) -> None:
        (tmp_path / "x.zip").write_bytes(data)
        with pytest.raises(DataError, match=f"not a zip or tar archive: it is {words}"):
            list_members(tmp_path / "x.zip", Remarks(), LIMIT)

    def test_special_files_are_refused_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.zip")
        for path in (tmp_path / "x.zip", Path("/dev/zero")):
            with pytest.raises(UsageError, match="neither a folder nor a regular file"):
                list_members(path, Remarks(), LIMIT)

    def test_a_truncated_archive_leaves_complete_files_only(self, tmp_path: Path) -> None:
        files = {f"{number}.bin": bytes([number]) * 200_000 for number in range(4)}
        archive = a_tar(tmp_path / "cut.tar", files, "w")
        members = list_members(archive, Remarks(), LIMIT)
        archive.write_bytes(archive.read_bytes()[:500_000])
        with pytest.raises(DataError, match="truncated"):
            list_members(archive, Remarks(), LIMIT)
        writing = placing(tmp_path / "out")
        with pytest.raises(DataError, match="truncated"), writing as writer:
            unpack(archive, members, {m.number: [m.name] for m in members}, writer, LIMIT)
        assert files_in(tmp_path / "out") == {"0.bin": files["0.bin"], "1.bin": files["1.bin"]}
        assert not list(tmp_path.glob(".*.importing"))
        zipped = a_zip(tmp_path / "cut.zip", files, zipfile.ZIP_STORED)
        zipped.write_bytes(zipped.read_bytes()[:500_000])
        with pytest.raises(DataError):
            list_members(zipped, Remarks(), LIMIT)

    def test_a_tar_that_ends_between_two_files_is_named(self, tmp_path: Path) -> None:
        archive = a_tar(tmp_path / "x.tar", {"a": b"1" * BLOCK, "b": b"2" * BLOCK}, "w")
        archive.write_bytes(archive.read_bytes()[: 2 * BLOCK])
        assert names(archive) == ["a"]
        assert "files at the end may be missing" in remarks(archive)[0]

    def test_a_tar_with_a_damaged_header_in_the_middle(self, tmp_path: Path) -> None:
        archive = a_tar(tmp_path / "x.tar", {"a": b"1" * BLOCK, "b": b"2" * BLOCK}, "w")
        data = bytearray(archive.read_bytes())
        data[2 * BLOCK] ^= 1
        archive.write_bytes(data)
        with pytest.raises(DataError, match="damaged in the middle"):
            list_members(archive, Remarks(), LIMIT)

    def test_tars_one_after_the_other(self, tmp_path: Path) -> None:
        parts = [a_tar(tmp_path / name, {name: b"1"}, "w").read_bytes() for name in "ab"]
        (tmp_path / "x.tar").write_bytes(b"".join(parts))
        assert names(tmp_path / "x.tar") == ["a"]
        assert "1 archive followed by another that is not read; " in remarks(tmp_path / "x.tar")[0]

    def test_a_tar_that_ends_in_a_zip_is_a_tar(self, tmp_path: Path) -> None:
        inner = a_zip(tmp_path / "i.zip", {"inner.png": b"1"}).read_bytes()
        assert names(a_tar(tmp_path / "x.tar", {"i.zip": inner}, "w")) == ["i.zip"]

    def test_a_zip_after_a_program(self, tmp_path: Path) -> None:
        archive = a_zip(tmp_path / "x.exe", {"a.png": b"1"})
        archive.write_bytes(b"#!/bin/sh\n" + archive.read_bytes() + b"\0" * 100)
        assert take(archive, tmp_path / "out") == 1

    def test_an_encrypted_member_is_refused(self, tmp_path: Path) -> None:
        archive = a_zip(tmp_path / "x.zip", {"a.png": b"abc"}, zipfile.ZIP_STORED)
        data = bytearray(archive.read_bytes())
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1
        archive.write_bytes(data)
        with pytest.raises(DataError, match=r"'a\.png' is encrypted; decrypt it"):
            take(archive, tmp_path / "out")

    def test_an_unsupported_compression_method(self, tmp_path: Path) -> None:
        archive = a_zip(tmp_path / "x.zip", {"a.png": b"abc"}, zipfile.ZIP_STORED)
        data = bytearray(archive.read_bytes())
        data[8] = data[data.index(b"PK\x01\x02") + 10] = 9
        archive.write_bytes(data)
        with pytest.raises(DataError, match="compression method 9, which Python cannot read"):
            take(archive, tmp_path / "out")


@given(
    st.sampled_from(["zip", "tar", "gz"]),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=5),
    st.integers(1, 5000),
)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_damaged_archives_are_read_or_refused(
    tmp_path: Path, kind: str, edits: list[tuple[int, int]], length: int
) -> None:
    files = {f"Art/{number}.png": bytes([number]) * 100 * number for number in range(4)}
    path = tmp_path / "x"
    make = a_zip if kind == "zip" else lambda p, f: a_tar(p, f, "w" if kind == "tar" else "w:gz")
    damaged = bytearray(make(path, files).read_bytes())
    for place, value in edits:
        damaged[place % len(damaged)] = value
    path.write_bytes(bytes(damaged[:length]))
    folder = tmp_path / "out"
    try:
        take(path, folder, lambda name: f"{abs(hash(name))}.png")
    except HTBenchError as error:
        text = str(error)
    else:
        text = ""
    assert len(text) < 1000
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("x", "out", ".out.lock")] == []
