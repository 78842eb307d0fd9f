"""Temporary folders, and what is left of those of killed processes."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import NoReturn

import pytest

from benchmark import temporary
from benchmark.temporary import locked_folder, temporary_folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def killed_process() -> Path:
    """The folder that a process leaves which is killed in its use."""
    reading, writing = os.pipe()
    if not (process := os.fork()):
        with temporary_folder() as folder:
            (folder / "scratch").mkdir()
            os.write(writing, os.fsencode(folder))
            os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
    os.close(writing)
    folder = Path(os.fsdecode(os.read(reading, 4096)))
    os.close(reading)
    assert (folder / "scratch").is_dir()
    return folder


def test_what_a_killed_process_left_is_removed_and_nothing_else(place: Path) -> None:
    left = killed_process()
    (target := place / "target").mkdir()
    (target / "file").touch()
    link = left.with_name(f"{left.name}-link")
    link.symlink_to(target)
    (elsewhere := place / "htbench-run-00000000-x").mkdir()  # of another host
    with temporary_folder() as folder, temporary_folder() as other:
        kept = {target, link, elsewhere, folder, other}
        assert set(place.iterdir()) == kept
    assert set(place.iterdir()) == kept - {folder, other}
    assert (target / "file").exists()


def test_what_another_user_owns_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = killed_process()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with temporary_folder():
        assert left.exists()


def test_a_file_system_without_locks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.ENOLCK, "No locks available")

    left = killed_process()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with temporary_folder() as folder:
        assert set(place.iterdir()) == {left, folder}
    assert list(place.iterdir()) == [left]


@pytest.mark.parametrize("is_removed", [True, False])
def test_a_folder_that_another_process_takes_for_left_is_replaced(
    place: Path, monkeypatch: pytest.MonkeyPatch, is_removed: bool
) -> None:
    """Between its creation and its lock."""
    opened, others = temporary._opened, []

    def slow(folder: Path) -> int:
        if not others:
            others.append(opened(folder))
            fcntl.flock(others[0], fcntl.LOCK_EX)
            if is_removed:
                folder.rmdir()
        return opened(folder)

    monkeypatch.setattr(temporary, "_opened", slow)
    folder, descriptor = locked_folder("run")
    assert folder.is_dir()
    with pytest.raises(BlockingIOError):
        fcntl.flock(opened(folder), fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(others[0])
    os.close(descriptor)
    with temporary_folder():
        assert len(list(place.iterdir())) == 1
