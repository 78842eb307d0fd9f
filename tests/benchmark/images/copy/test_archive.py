"""Archives are extracted below the target folder and nowhere else."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmark.errors import DataError
from benchmark.images.copy import archive as module
from benchmark.images.copy.archive import list_members, unpack


def a_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def a_tar(path: Path, files: dict[str, bytes], kind: str = "w:gz") -> Path:
    with tarfile.open(path, kind) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("make", [a_zip, a_tar, lambda p, f: a_tar(p, f, "w:xz")])
def test_the_chosen_files_are_extracted(tmp_path, make):
    files = {"set/a/1.png": b"one", "set/a/2.png": b"two", "set/ö.txt": b"three"}
    archive = make(tmp_path / "no-suffix", files)
    assert list_members(archive) == list(files)
    calls = []
    count = unpack(
        archive,
        tmp_path / "out",
        lambda name: name.removeprefix("set/") if name.endswith("png") else None,
        lambda count, total: calls.append((count, total)),
    )
    assert count == 2
    assert files_in(tmp_path / "out") == {"a/1.png": b"one", "a/2.png": b"two"}
    assert calls == [(1, 2), (2, 2)]


@pytest.mark.parametrize("name", ["../out.png", "/abs.png", "a/../../b.png", "..\\b.png", "C:\\x"])
@pytest.mark.parametrize("make", [a_zip, a_tar])
def test_an_unsafe_path_is_refused(tmp_path, make, name):
    archive = make(tmp_path / "bad", {name: b"x"})
    with pytest.raises(DataError, match="unsafe path"):
        unpack(archive, tmp_path / "out", lambda name: name)
    assert not files_in(tmp_path / "out") if (tmp_path / "out").exists() else True
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["bad"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_never_extracted(tmp_path, kind):
    archive = tmp_path / "bad.tar"
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo("link.png")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    assert list_members(archive) == []
    assert unpack(archive, tmp_path / "out", lambda name: name) == 0
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_link_in_a_zip_is_never_extracted(tmp_path):
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w") as file:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    assert list_members(archive) == []


def test_a_decompression_bomb_is_refused(tmp_path):
    archive = a_zip(tmp_path / "bomb.zip", {"a.png": b"\0" * (8 << 20)})
    with pytest.raises(DataError, match="expands to more than"):
        unpack(archive, tmp_path / "out", lambda name: name)
    assert files_in(tmp_path / "out") == {}


@pytest.mark.parametrize("size", [3, 5000])
def test_sizes_in_the_archive_are_not_trusted(tmp_path, size):
    archive = a_zip(tmp_path / "lie.zip", {"a.png": b"abcdefgh"}, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02") + 24  # the uncompressed size in the directory
    data[at : at + 4] = size.to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(DataError):
        unpack(archive, tmp_path / "out", lambda name: name)
    assert files_in(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html><title>Sign in</title>", "a web page"),
        (b"", "empty"),
        (b"nothing known", "another kind of file"),
    ],
)
def test_a_file_that_is_not_an_archive_is_described(tmp_path, data, words):
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(DataError, match=f"not a zip or tar archive: it is {words}"):
        list_members(tmp_path / "x.zip")


def test_a_truncated_archive_leaves_complete_files_only(tmp_path):
    files = {f"{number}.bin": bytes([number]) * 200_000 for number in range(4)}
    archive = a_tar(tmp_path / "cut.tar", files, "w")
    archive.write_bytes(archive.read_bytes()[:500_000])
    with pytest.raises(DataError, match=r"truncated|cannot be unpacked"):
        unpack(archive, tmp_path / "out", lambda name: name)
    contents = files_in(tmp_path / "out")
    assert all(files[name] == data for name, data in contents.items())
    zipped = a_zip(tmp_path / "cut.zip", files, zipfile.ZIP_STORED)
    zipped.write_bytes(zipped.read_bytes()[:500_000])
    with pytest.raises(DataError):
        list_members(zipped)


def test_an_encrypted_member_is_refused(tmp_path):
    archive = a_zip(tmp_path / "x.zip", {"a.png": b"abc"}, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        unpack(archive, tmp_path / "out", lambda name: name)


def test_caps(tmp_path, monkeypatch):
    archive = a_zip(tmp_path / "x.zip", {"a": b"1234", "b": b"5678"})
    monkeypatch.setattr(module, "MAX_MEMBERS", 1)
    with pytest.raises(DataError, match="more than 1 files"):
        list_members(archive)
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_MEMBER_BYTES", 3)
    with pytest.raises(DataError, match="too large for an image"):
        unpack(archive, tmp_path / "out", lambda name: name)
    monkeypatch.undo()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("U", (), {"free": 5}))
    with pytest.raises(DataError, match="free some space"):
        unpack(archive, tmp_path / "out", lambda name: name)
