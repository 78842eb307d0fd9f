"""What a process takes from the machine: memory and disk, measured from outside."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

# Of the machine's memory for one run, by default: one that takes more would take down the others.
MEMORY_SHARE = 0.8
_BLOCK = 512  # bytes in a unit of st_blocks, whatever the file system
_PAGE = 4096  # what a file takes at least: its inode, and its name in a folder
_UNLINKED = " (deleted)"


def memory(pid: int) -> int:
    """Bytes of a process in memory, shared memory included, or swapped out; 0 if unknown.

    Pages of mapped files do not count: the kernel takes them back when it needs memory.
    """
    sizes: dict[str, int] = {}
    with contextlib.suppress(OSError, IndexError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text("ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "RssShmem", "VmSwap"):
                sizes[name] = int(value.split()[0]) << 10
    return sum(sizes.values())


def default_memory(group_limit: int | None) -> int:
    """Bytes that one run may take by default: a share of this machine's memory.

    Args:
        group_limit: bytes that the control group of this process may take; None for no limit.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(MEMORY_SHARE * min(physical, group_limit or physical))


def bytes_taken(status: os.stat_result) -> int:
    """Bytes that a file takes on disk, or its length where that is more."""
    return max(status.st_size, status.st_blocks * _BLOCK)


def disk(folder: Path, pid: int | None) -> int:
    """Bytes on disk of a process's files: those beneath its folder, and those without a name.

    A file with several names counts once. It is counted by its blocks, so holes count nothing and
    blocks beyond its end count. Symbolic links count as files of one page.

    Args:
        folder: the only folder in which the process can create files.
        pid: the process, or None if it has ended.

    Raises:
        OSError: a folder cannot be listed.
    """
    taken: dict[tuple[int, int], int] = {}
    for status in _files_below(folder):
        taken[status.st_dev, status.st_ino] = max(_PAGE, status.st_blocks * _BLOCK)
    if pid is not None:
        for status in _open_without_a_name(pid):
            taken[status.st_dev, status.st_ino] = max(_PAGE, status.st_blocks * _BLOCK)
        for key, size in _mapped_without_a_name(pid, folder).items():
            taken.setdefault(key, size)
    return sum(taken.values())


def _files_below(folder: Path) -> Iterator[os.stat_result]:
    """Everything beneath a folder, without recursion: a child may nest folders deeply."""
    folders = [os.fspath(folder)]
    while folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                with contextlib.suppress(FileNotFoundError):  # the child removed it meanwhile
                    yield entry.stat(follow_symlinks=False)


def _open_without_a_name(pid: int) -> Iterator[os.stat_result]:
    """Open regular files of a process that have been deleted."""
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                status = descriptor.stat()
                if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                    yield status


def _mapped_without_a_name(pid: int, folder: Path) -> dict[tuple[int, int], int]:
    """Deleted files of a folder that a process has mapped, and the bytes up to the mapping's end.

    Their blocks cannot be asked for without a privilege, so the mapping's end is taken for them.
    """
    sizes: dict[tuple[int, int], int] = {}
    prefix = f"{folder}/"
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/maps").read_text("utf-8", errors="replace").splitlines():
            addresses, _, offset, device, inode, *path = line.split(maxsplit=5)
            if not path or not path[0].startswith(prefix) or not path[0].endswith(_UNLINKED):
                continue
            start, end = (int(text, 16) for text in addresses.split("-"))
            major, minor = (int(text, 16) for text in device.split(":"))
            key = os.makedev(major, minor), int(inode)
            sizes[key] = max(sizes.get(key, _PAGE), int(offset, 16) + end - start)
    return sizes
