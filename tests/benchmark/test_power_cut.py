"""A simulated power cut: what was not written to the disk is gone, and what remains is whole.

A disk keeps the data of a file as it was at its last ``fsync``, or nothing. Names may be on the
disk as they were at the last ``fsync`` of their folder, or as they are now, because a file system
may write names earlier than data. Both are looked at after every step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.files import new_folder, write_file

Tree = dict[str, Any]  # name to content: bytes, or a tree


class Disk:
    """What a disk holds of a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.is_folder: dict[int, bool] = {}
        self.seen: list[Tree] = []
        for path in (root, *root.rglob("*")):
            self.synced(path)

    def synced(self, path: Path) -> None:
        """A file's data, or a folder's names, are on the disk now."""
        number = path.stat().st_ino
        self.is_folder[number] = path.is_dir()
        if path.is_dir():
            self.names[number] = {p.name: p.lstat().st_ino for p in path.iterdir()}
        else:
            self.data[number] = path.read_bytes()

    def cut(self) -> None:
        """Remember what a power cut would leave now, in both ways."""
        self.seen.append(self.after(self.root.stat().st_ino))
        self.seen.append(self.with_new_names(self.root))

    def after(self, folder: int) -> Tree:
        """With the names of the last sync."""
        return {
            name: self.after(number) if self.is_folder.get(number) else self.data.get(number, b"")
            for name, number in self.names.get(folder, {}).items()
        }

    def with_new_names(self, folder: Path) -> Tree:
        """With the names of now."""
        return {
            path.name: self.with_new_names(path)
            if path.is_dir()
            else self.data.get(path.stat().st_ino, b"")
            for path in folder.iterdir()
        }


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Disk]]:
    """Starts to watch; every later sync and rename below the folder is a step."""

    def start() -> Disk:
        watched = Disk(tmp_path)

        def step(original: Callable[..., None]) -> Callable[..., None]:
            def call(*arguments: Any, **options: Any) -> None:
                watched.cut()
                original(*arguments, **options)
                if original is real_sync:
                    watched.synced(Path(os.readlink(f"/proc/self/fd/{arguments[0]}")))  # noqa: PTH115
                watched.cut()

            return call

        real_sync = os.fsync
        for name in ("fsync", "rename", "replace"):
            monkeypatch.setattr(os, name, step(getattr(os, name)))
        return watched

    return start


OLD, NEW = b"old" * 5000, b"new" * 9000


@pytest.mark.parametrize("exists", [False, True])
def test_a_file_is_the_old_one_or_the_new_one(
    tmp_path: Path, disk: Callable[[], Disk], exists: bool
) -> None:
    if exists:
        (tmp_path / "file").write_bytes(OLD)
    watched = disk()
    write_file(tmp_path / "file", NEW)
    contents = [tree.get("file") for tree in watched.seen]
    assert set(contents) == {OLD if exists else None, NEW}
    assert contents[-2:] == [NEW, NEW], "it is on the disk when the call returns"


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_is_the_old_one_or_the_new_one_or_missing(
    tmp_path: Path, disk: Callable[[], Disk], exists: bool
) -> None:
    old, new = {"a": OLD, "code": {"b": OLD}}, {"a": NEW, "code": {"b": NEW}}

    def fill(folder: Path, content: bytes) -> None:
        (folder / "code").mkdir()
        (folder / "a").write_bytes(content)
        (folder / "code" / "b").write_bytes(content)

    if exists:
        (tmp_path / "run").mkdir()
        fill(tmp_path / "run", OLD)
    watched = disk()
    with new_folder(tmp_path / "run") as building:
        fill(building, NEW)
    states = [tree.get("run") for tree in watched.seen]
    assert all(state in ((old,) if exists else ()) + (new, None) for state in states)
    assert states[-2:] == [new, new], "it is on the disk when the call returns"
    assert not exists or states[0] == old


def test_new_parents_are_on_the_disk(tmp_path: Path, disk: Callable[[], Disk]) -> None:
    watched = disk()
    write_file(tmp_path / "a" / "b" / "file", NEW)
    assert watched.seen[-2]["a"]["b"]["file"] == NEW


def test_without_the_syncs_it_would_not_hold(
    tmp_path: Path, disk: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(OLD)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    watched = disk()
    monkeypatch.setattr(watched, "synced", lambda path: None)
    write_file(tmp_path / "file", NEW)
    assert b"" in [tree.get("file") for tree in watched.seen]
