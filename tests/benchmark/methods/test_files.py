"""A method's files are read with care, compared when a run ends, and kept with the run."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from benchmark.errors import MethodError
from benchmark.folders import ROOT
from benchmark.methods import files as files_module
from benchmark.methods.files import (
    OwnFile,
    is_kept,
    keep_code,
    read_own_file,
    unchanged_contents,
)


def own(path: Path, name: str | None = None) -> OwnFile:
    return OwnFile(name or path.name, path, sha256(path.read_bytes()).hexdigest())


class TestReading:
    def test_a_link_to_a_regular_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"abc")
        (tmp_path / "link").symlink_to("file")
        assert read_own_file(tmp_path / "link") == b"abc"

    @pytest.mark.parametrize("name", ["/dev/zero", "pipe", ".", "to-device"])
    def test_a_device_or_a_pipe_is_refused_at_once(self, tmp_path: Path, name: str) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "to-device").symlink_to("/dev/zero")
        with pytest.raises(OSError, match="is not a regular file"):
            read_own_file(tmp_path / name)

    def test_a_file_that_is_too_large(self, tmp_path: Path) -> None:
        with (tmp_path / "file").open("wb") as file:
            file.truncate(1 << 40)  # sparse
        with pytest.raises(OSError, match="larger than 1 MiB"):
            read_own_file(tmp_path / "file", 1 << 20)


class TestAfterARun:
    def test_unchanged_files_are_kept(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text("x = 1\n")
        files = [own(tmp_path / "mine.py", "pk/mine.py")]
        contents = unchanged_contents(files)
        keep_code(contents, tmp_path / "run")
        copy = tmp_path / "run" / "code" / "pk" / "mine.py"
        assert copy.read_text() == "x = 1\n"
        assert is_kept(tmp_path / "run", "pk/mine.py", files[0].sha256)
        copy.write_text("x = 2\n")
        assert not is_kept(tmp_path / "run", "pk/mine.py", files[0].sha256)
        assert not is_kept(tmp_path / "run", "nowhere.py", files[0].sha256)

    @pytest.mark.parametrize("name", ["../secret", "{folder}/secret", "a\0b", "", "link"])
    def test_a_name_in_a_record_leads_nowhere(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "secret").write_text("x")
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "link").symlink_to("../secret")
        assert not is_kept(tmp_path, name.format(folder=tmp_path), sha256(b"x").hexdigest())

    @pytest.mark.parametrize("change", ["edited", "gone", "pipe"])
    def test_a_file_that_changed(self, tmp_path: Path, change: str) -> None:
        path = tmp_path / "prompts.json"
        path.write_text("{}")
        files = [own(path)]
        path.unlink()
        if change == "edited":
            path.write_text("{ }")
        elif change == "pipe":
            os.mkfifo(path)
        with pytest.raises(MethodError, match=r"prompts\.json is not among .* edited after the"):
            unchanged_contents(files)

    def test_how_much_is_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files_module, "MAX_KEPT_FILE", 100)
        monkeypatch.setattr(files_module, "MAX_KEPT", 150)
        for name, size in (("a", 101), ("b", 100), ("c", 60), ("d", 50)):
            (tmp_path / name).write_bytes(b"x" * size)
        contents = unchanged_contents(own(tmp_path / name) for name in "abcd")
        assert list(contents) == ["b", "d"]

    def test_the_suites_own_files_are_not_kept(self) -> None:
        assert unchanged_contents([own(ROOT / "baselines" / "finetune.py")]) == {}

    def test_two_files_whose_names_collide(self, tmp_path: Path) -> None:
        keep_code({"lib": b"file", "lib/inner.py": b"module"}, tmp_path)
        assert (tmp_path / "code" / "lib").read_bytes() == b"file"
