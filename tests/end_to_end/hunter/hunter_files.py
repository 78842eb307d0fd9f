# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH109, PTH116, PTH118, PTH123, PTH208
"""Attempts on files, open descriptors and the environment."""

import contextlib
import ctypes
import mmap
import os
import socket
import stat
import sys
from pathlib import Path

from hunter_attempts import KNOWN, attempts


def read(path):
    with open(path, "rb") as file:
        return f"{len(file.read(64))} bytes"


def append(path):
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    return "opened for writing"


def create(path):
    with open(path, "xb"):
        pass
    Path(path).unlink()
    return "created"


def through_a_path_descriptor(path):
    descriptor = os.open(path, os.O_PATH)
    try:
        with contextlib.suppress(OSError):
            return read(f"/proc/self/fd/{descriptor}")
        return os.read(descriptor, 64)
    finally:
        os.close(descriptor)


def through_a_link(path, make):
    link = os.path.join(os.getcwd(), "link")
    make(path, link)
    try:
        return read(link)
    finally:
        os.unlink(link)


def moved_here(path):
    here = os.path.join(os.getcwd(), "moved")
    os.rename(path, here)
    os.rename(here, path)
    return "moved"


def files(stage):
    for name, path in KNOWN["files"].items():
        attempts(
            stage,
            name,
            ("read", lambda p=path: read(p)),
            ("by a path descriptor", lambda p=path: through_a_path_descriptor(p)),
            ("by a symbolic link", lambda p=path: through_a_link(p, os.symlink)),
            ("by a hard link", lambda p=path: through_a_link(p, os.link)),
        )
    for name, path in {**KNOWN["files"], **KNOWN["readable"]}.items():
        attempts(
            stage,
            name,
            ("append", lambda p=path: append(p)),
            ("move", lambda p=path: moved_here(p)),
            ("truncate", lambda p=path: os.truncate(p, os.stat(p).st_size) or "truncated"),
            ("mode", lambda p=path: os.chmod(p, 0o666) or "changed"),
            ("times", lambda p=path: os.utime(p) or "changed"),
            ("attribute", lambda p=path: os.setxattr(p, "user.x", b"x") or "changed"),
        )
    for name, path in KNOWN["folders"].items():
        attempts(
            stage,
            name,
            ("list", lambda p=path: os.listdir(p)),
            ("create", lambda p=path: create(os.path.join(p, "created"))),
            ("make a folder", lambda p=path: make_folder(os.path.join(p, "made"))),
        )


def make_folder(path):
    os.mkdir(path)
    os.rmdir(path)
    return "created"


def descriptors(stage):
    """Every open descriptor, what it is, and whether anything can be read from it."""
    for fd in range(1024):
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            continue
        kind = next(
            name
            for name, test in (
                ("file", stat.S_ISREG),
                ("folder", stat.S_ISDIR),
                ("socket", stat.S_ISSOCK),
                ("pipe", stat.S_ISFIFO),
                ("device", stat.S_ISCHR),
                ("other", lambda mode: True),
            )
            if test(mode)
        )
        tries = {
            "file": [
                ("pread", lambda f=fd: os.pread(f, 64, 0)),
                ("map", lambda f=fd: len(mmap.mmap(f, 0, access=mmap.ACCESS_READ))),
            ],
            "folder": [
                ("list", lambda f=fd: os.listdir(f)),
                ("open within", lambda f=fd: os.open(".", os.O_RDONLY, dir_fd=f)),
            ],
            "socket": [("receive", lambda f=fd: receive(f))],
            "pipe": [("read", lambda f=fd: os.set_blocking(f, False) or os.read(f, 64))],
        }.get(kind, [])
        if kind != "device":  # the null device may be opened by its name
            again = f"/proc/self/fd/{fd}"
            tries.append(("open again", lambda p=again: os.close(os.open(p, os.O_RDONLY)) or p))
        attempts(stage, f"descriptor {fd} ({kind})", *tries)


def receive(fd):
    """What already lies in a socket, descriptors included, without taking it away."""
    with socket.socket(fileno=os.dup(fd)) as channel:
        flags = socket.MSG_DONTWAIT | socket.MSG_PEEK
        data, told, _, _ = channel.recvmsg(65536, socket.CMSG_SPACE(256), flags)
    return f"{len(data)} bytes, {len(told)} descriptors"


def environment(stage):
    ctypes.CDLL(None).getenv.restype = ctypes.c_char_p
    needles = [os.fspath(path) for path in KNOWN["folders"].values()]
    texts = {**os.environ, "argv": " ".join(sys.argv), "path": " ".join(sys.path)}
    texts = {name: text for name, text in texts.items() if text != os.getcwd()}  # the scratch
    attempts(
        stage,
        "environment",
        ("data folder", lambda: ctypes.CDLL(None).getenv(b"HTBENCH_DATA")),
        ("paths", lambda: [n for n, text in texts.items() if any(p in text for p in needles)]),
        ("secrets", lambda: [n for n in os.environ if KNOWN["secret"] in os.environ[n]]),
    )
