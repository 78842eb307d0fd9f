"""Memory and disk of a process, against what is known to be taken."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.isolation import measure

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MIB = 1 << 20


def used(folder: Path) -> int:
    """What this process takes in a folder."""
    return measure.disk(folder, os.getpid())


def test_a_file_counts_by_its_blocks(tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(os.urandom(MIB))
    os.sync()
    assert MIB <= used(tmp_path) < 1.1 * MIB


def test_a_hole_counts_nothing(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert used(tmp_path) < MIB


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(os.urandom(MIB))
    os.link(tmp_path / "one", tmp_path / "two")
    os.sync()
    assert used(tmp_path) < 1.1 * MIB


def test_many_empty_files_count_something(tmp_path: Path) -> None:
    for i in range(500):
        (tmp_path / str(i)).touch()
    assert used(tmp_path) >= 500 * 4096


@LINUX
def test_blocks_past_the_end_of_a_file_count(tmp_path: Path) -> None:
    with (tmp_path / "short").open("wb") as file:
        done = subprocess.run(
            [
                "fallocate",
                "--keep-size",
                "--length",
                str(8 * MIB),
                f"/proc/self/fd/{file.fileno()}",
            ],
            pass_fds=[file.fileno()],
            capture_output=True,
        )
        if done.returncode:
            pytest.skip("this file system cannot do it")
        assert os.fstat(file.fileno()).st_size == 0
        assert used(tmp_path) >= 8 * MIB
        assert measure.bytes_taken(os.fstat(file.fileno())) >= 8 * MIB


def unlinked(path: Path) -> int:
    """A descriptor of a deleted file of 4 MiB."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(descriptor, os.urandom(4 * MIB))
    os.fsync(descriptor)
    path.unlink()
    return descriptor


@LINUX
def test_a_deleted_file_counts_while_it_is_open(tmp_path: Path) -> None:
    descriptor = unlinked(tmp_path / "gone")
    copy = os.dup(descriptor)
    assert 4 * MIB <= used(tmp_path) < 5 * MIB
    os.close(descriptor)
    os.close(copy)
    assert used(tmp_path) < MIB


@LINUX
def test_a_deleted_file_counts_while_it_is_mapped(tmp_path: Path) -> None:
    descriptor = unlinked(tmp_path / "gone")
    mapping = mmap.mmap(descriptor, 4 * MIB)
    os.close(descriptor)
    for link in Path("/proc/self/fd").iterdir():  # Python's mapping keeps a descriptor
        if link.is_symlink() and str(tmp_path / "gone") in str(link.readlink()):
            os.close(int(link.name))
    assert 4 * MIB <= used(tmp_path) < 5 * MIB
    del mapping


@LINUX
@pytest.mark.parametrize("flags", [mmap.MAP_PRIVATE, mmap.MAP_SHARED])
def test_memory_counts_whether_it_is_shared_or_not(flags: int) -> None:
    before = measure.memory(os.getpid())
    size = 64 * MIB
    with mmap.mmap(-1, size, flags=flags | mmap.MAP_ANONYMOUS) as block:
        block.write(b"x" * size)
        assert measure.memory(os.getpid()) - before > 60 * MIB


@LINUX
def test_a_mapped_file_does_not_count(tmp_path: Path) -> None:
    size = 64 * MIB
    (tmp_path / "images").write_bytes(b"x" * size)
    before = measure.memory(os.getpid())
    with (
        (tmp_path / "images").open("rb") as file,
        mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as block,
    ):
        assert sum(block[::4096]) == ord("x") * size // 4096
        assert measure.memory(os.getpid()) - before < 8 * MIB


def test_the_default_limit_is_a_share_of_the_memory_of_the_machine_or_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.get)
    assert measure.default_memory(None) == measure.default_memory(1 << 60) == 3_276_800
    assert measure.default_memory(1_000_000) == 800_000


@pytest.mark.parametrize("measured", [measure.memory, lambda pid: measure.disk(Path("/x"), pid)])
def test_a_process_that_is_gone_takes_nothing(measured: Callable[[int], int]) -> None:
    assert measured(2**22 + 1) == 0
