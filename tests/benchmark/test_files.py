"""Files and folders appear complete or not at all, and invalid JSON is refused."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from benchmark.errors import DataError, RecordError
from benchmark.files import (
    atomic_path,
    canonical_json,
    digest_file,
    digest_json,
    new_folder,
    read_json,
    write_file,
)


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
