# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH109, PTH116, PTH118, PTH123, PTH208
"""A method that hunts for labels: the test of isolation gives it every advantage.

It is told where everything is (``KNOWN``, which the test replaces: paths, processes, listeners) and
how to recognise what it looks for (digests of image ids, labels and pixels, which tell nothing of
the things themselves). It hunts when it is imported, in ``adapt`` and in its model's ``forward``,
prints a line for every attempt and otherwise is the source model. Run without a lock, it finds
nearly everything: the test checks that too.
"""

import array
import contextlib
import ctypes
import errno
import gc
import hashlib
import importlib
import json
import mmap
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from htbench import Method

KNOWN = json.loads("{}")
SECONDS = 2

REPORT = []


def report(stage, kind, lines):
    """Note what attempts came to; ``FOUND`` is what must not happen in a locked run."""
    REPORT.extend(f"{stage}|{kind} {line}" for line in lines)
    with contextlib.suppress(OSError):
        print(f"{stage}|{kind}|{'; '.join(lines)}", flush=True)


def attempts(stage, kind, tries):
    """Carry out attempts, each a name and an action that gives what it found, or nothing."""
    report(stage, kind, [f"{name}: {outcome(action)}" for name, action in tries])


def outcome(action):
    try:
        found = action()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except Exception as error:
        return type(error).__name__
    return f"FOUND {str(found)[:100]}" if found else "nothing"


# --- the file system ---------------------------------------------------------------------------


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
        attempts(stage, name, [
            ("read", lambda p=path: read(p)),
            ("by a path descriptor", lambda p=path: through_a_path_descriptor(p)),
            ("by a symbolic link", lambda p=path: through_a_link(p, os.symlink)),
            ("by a hard link", lambda p=path: through_a_link(p, os.link)),
        ])  # fmt: skip
    for name, path in {**KNOWN["files"], **KNOWN["readable"]}.items():
        attempts(stage, name, [
            ("append", lambda p=path: append(p)),
            ("move", lambda p=path: moved_here(p)),
            ("truncate", lambda p=path: os.truncate(p, os.stat(p).st_size) or "truncated"),
            ("mode", lambda p=path: os.chmod(p, 0o666) or "changed"),
            ("times", lambda p=path: os.utime(p) or "changed"),
            ("attribute", lambda p=path: os.setxattr(p, "user.x", b"x") or "changed"),
        ])  # fmt: skip
    for name, path in KNOWN["folders"].items():
        attempts(stage, name, [
            ("list", lambda p=path: os.listdir(p)),
            ("create", lambda p=path: create(os.path.join(p, "created"))),
            ("make a folder", lambda p=path: made(os.path.join(p, "made"))),
        ])  # fmt: skip


def made(path):
    os.mkdir(path)
    os.rmdir(path)
    return "made"


# --- other processes ---------------------------------------------------------------------------


def peek(pid):
    """Eight bytes of another process, at an address of this one: a fork has the same map."""

    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    own, other = ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)
    here = Vector(ctypes.addressof(own), 8)
    there = Vector(id(KNOWN) if pid == os.getppid() else ctypes.addressof(other), 8)
    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    if got < 0 and ctypes.get_errno() != errno.EFAULT:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return "memory can be asked for"


def trace(pid):
    """Be allowed to trace: SEIZE stops nothing, and DETACH undoes it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(ctypes.c_long(0x4206), ctypes.c_long(pid), None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    libc.ptrace(ctypes.c_long(17), ctypes.c_long(pid), None, None)
    return "traced"


def processes(stage):
    entries = ("environ", "maps", "mem", "cmdline", "status", "mountinfo", "auxv")
    for name, pid in {**KNOWN["processes"], "self": "self", "parent": os.getppid()}.items():
        tries = [(entry, lambda p=pid, e=entry: read(f"/proc/{p}/{e}")) for entry in entries]
        tries += [(entry, lambda p=pid, e=entry: os.listdir(f"/proc/{p}/{e}"))
                  for entry in ("fd", "root", "task")]  # fmt: skip
        if isinstance(pid, int):
            tries += [
                ("signal", lambda p=pid: os.kill(p, 0) or "may be signalled"),
                ("group", lambda p=pid: os.killpg(p, 0) or "may be signalled"),
                ("memory", lambda p=pid: peek(p)),
                ("descriptor", lambda p=pid: os.close(os.pidfd_open(p)) or "opened"),
                ("trace", lambda p=pid, n=name: (stage, n) != ("control", "parent") and trace(p)),
            ]
        attempts(stage, f"process {name}", tries)
    near = range(max(2, os.getppid() - 100), os.getppid() + 100)  # the driver is among these
    attempts(stage, "processes", [
        ("list", lambda: os.listdir("/proc")),
        ("near", lambda: [p for p in near if p != os.getpid() and may_signal(p)]),
        ("fork", fork),
        ("subprocess", lambda: subprocess.run(["/bin/true"], check=True)),
        ("spawn", lambda: os.posix_spawn("/bin/true", ["true"], {})),
        ("shell", lambda: os.system("true") == 0 and "ran"),
        ("signal all", lambda: stage != "control" and (os.kill(-1, 0) or "may be signalled")),
    ])  # fmt: skip


def may_signal(pid):
    try:
        return os.kill(pid, 0) is None
    except OSError:
        return False


def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "forked"


# --- the network and other names that processes share -------------------------------------------


def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as client:
        client.settimeout(SECONDS)
        client.connect(address)
    return "connected"


def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments))
    if answer < 0:
        raise OSError(ctypes.get_errno(), "syscall")
    return f"answer {answer}"


def network(stage):
    port, path, abstract = KNOWN["port"], KNOWN["unix"], "\0" + KNOWN["abstract"]
    attempts(stage, "network", [
        ("tcp", lambda: connect(socket.AF_INET, ("127.0.0.1", port))),
        ("tcp6", lambda: connect(socket.AF_INET6, ("::ffff:127.0.0.1", port))),
        ("udp", lambda: connect(socket.AF_INET, ("127.0.0.1", port), socket.SOCK_DGRAM)),
        ("unix", lambda: connect(socket.AF_UNIX, path)),
        ("abstract", lambda: connect(socket.AF_UNIX, abstract)),
        ("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close() or "made"),
        ("listen", lambda: socket.create_server(("127.0.0.1", 0)).close() or "listening"),
        ("pair", lambda: [s.close() for s in socket.socketpair()]),
        ("names", lambda: socket.getaddrinfo("localhost", 80) and connect(
            socket.AF_INET, ("localhost", port))),
        ("shared memory", lambda: os.listdir("/dev/shm")),
    ])  # fmt: skip
    x86 = os.uname().machine == "x86_64"
    attempts(stage, "kernel", [
        ("System V memory", lambda: call(29 if x86 else 194, 0, 4096, 0o1600)),
        ("io_uring", lambda: call(425, 4, id(bytearray(256)))),
        ("keyring", lambda: call(250 if x86 else 219, 0, -4, 0)),
        ("watch", lambda: call(294 if x86 else 26, 0)),
        ("death of the parent", lambda: call(157 if x86 else 167, 1, 0, 0, 0, 0)),
        ("handle", lambda: call(303 if x86 else 264, -100, 0, 0, 0, 0)),
        ("namespace", lambda: stage != "control" and call(272 if x86 else 97, 0x10000000)),
    ])  # fmt: skip


# --- what the process already has --------------------------------------------------------------


def descriptors(stage):
    """Every open descriptor, what it is, and whether anything can be read from it."""
    for fd in range(1024):
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            continue
        kind = next(name for name, test in (
            ("file", stat.S_ISREG), ("folder", stat.S_ISDIR), ("socket", stat.S_ISSOCK),
            ("pipe", stat.S_ISFIFO), ("device", stat.S_ISCHR), ("other", lambda mode: True),
        ) if test(mode))  # fmt: skip
        tries = {
            "file": [("pread", lambda f=fd: os.pread(f, 64, 0)),
                     ("map", lambda f=fd: len(mmap.mmap(f, 0, access=mmap.ACCESS_READ)))],
            "folder": [("list", lambda f=fd: os.listdir(f)),
                       ("open within", lambda f=fd: os.open(".", os.O_RDONLY, dir_fd=f))],
            "socket": [("receive", lambda f=fd: receive(f))],
            "pipe": [("read", lambda f=fd: os.set_blocking(f, False) or os.read(f, 64))],
        }.get(kind, [])  # fmt: skip
        if kind != "device":  # the null device may be opened by its name
            again = f"/proc/self/fd/{fd}"
            tries.append(("open again", lambda p=again: os.close(os.open(p, os.O_RDONLY)) or p))
        attempts(stage, f"descriptor {fd} ({kind})", tries)


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
    attempts(stage, "environment", [
        ("data folder", lambda: ctypes.CDLL(None).getenv(b"HTBENCH_DATA")),
        ("paths", lambda: [n for n, text in texts.items() if any(p in text for p in needles)]),
        ("secrets", lambda: [n for n in os.environ if KNOWN["secret"] in os.environ[n]]),
    ])  # fmt: skip


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def strings_of(thing):
    """The texts in a container, one level deep."""
    things = [*thing.keys(), *thing.values()] if isinstance(thing, dict) else thing
    return [t for t in things if isinstance(t, str) and 3 < len(t) < 200]


def numbers_of(thing):
    """Whole numbers in a container or an array of one dimension, if that is what it holds."""
    kind = type(thing)
    if kind is torch.Tensor:
        whole = thing.dim() == 1 and not thing.is_floating_point() and not thing.is_complex()
        return thing.tolist() if whole else None
    if kind is np.ndarray:
        return thing.tolist() if thing.ndim == 1 and thing.dtype.kind in "iu" else None
    if kind in (bytes, bytearray, array.array, list, tuple) and len(thing) == KNOWN["count"]:
        return list(thing) if all(type(t) is int for t in thing) else None
    return None


def memory(stage):
    """Look at all that Python knows of, at the frames below, and at the heap."""
    ids, labels, pixels = (set(KNOWN[name]) for name in ("ids", "labels", "missing"))
    if stage != "forward":
        pixels.update(KNOWN["test"])
    found = {"ids": set(), "labels": 0, "pixels": 0}
    frames, frame = [], sys._getframe()
    while frame is not None:
        frames.append(dict(frame.f_locals))
        frame = frame.f_back
    known = {id(thing) for thing in (ids, labels, pixels, KNOWN, *KNOWN.values())}
    for thing in [*gc.get_objects(), *frames]:
        if id(thing) in known:
            continue
        with contextlib.suppress(Exception):
            kind = type(thing)
            inner = thing.values() if kind is dict else thing if kind in (list, tuple) else ()
            for each in [thing, *inner]:
                look(each, found, labels, pixels)
            if kind in (dict, list, tuple, set, frozenset):
                texts = strings_of(thing)
                found["ids"].update(t for t in texts if "/" in t and digest(t.encode()) in ids)
    attempts(stage, "memory", [(name, lambda n=name: found[n]) for name in found])
    if stage in ("adapt", "control"):  # at import it is what it will be then
        attempts(stage, "memory", [("heap", lambda: in_the_heap(ids))])


def look(each, found, labels, pixels):
    if type(each) is torch.Tensor and each.dtype == torch.uint8 and each.dim() == 4:
        found["pixels"] += sum(digest(image.numpy().tobytes()) in pixels for image in each)
    numbers = numbers_of(each)
    if numbers and len(numbers) == KNOWN["count"]:
        found["labels"] += digest(json.dumps(numbers).encode()) in labels


def in_the_heap(ids):
    """Image ids in the C heap and around everything that Python knows of."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sbrk.restype = ctypes.c_void_p
    libc.write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    arenas = {id(thing) >> 20 << 20 for thing in gc.get_objects()}  # 1 MiB each
    path = os.path.join(os.getcwd(), "heap")
    with open(path, "wb") as file:
        end = libc.sbrk(0) & ~4095
        heap = range(end - (1 << 29), end)
        places = [(a, a + (1 << 20)) for a in sorted(arenas) if a not in heap]
        # The kernel looks where a process must not: it says EFAULT, and nobody crashes. It writes
        # what comes before such a place; the page there is passed over.
        for start, stop in [(heap.start, heap.stop), *places]:
            while start < stop:
                written = libc.write(file.fileno(), start, min(stop - start, 1 << 20))
                start += max(written, 4096)
    data = Path(path).read_bytes()
    os.unlink(path)
    found = set()
    for slash in re.finditer(rb"/[a-z0-9-]{2,60}", data):
        before = re.search(rb"[a-z0-9-]{2,40}$", data[max(0, slash.start() - 40) : slash.start()])
        if before and digest(word := before[0] + slash[0]) in ids:
            found.add(word.decode())
    return sorted(found)


# --- code ----------------------------------------------------------------------------------------


def code(stage):
    def packaged():
        import importlib.resources

        root = importlib.resources.files("data_manifests")
        return [p.name for p in (root / "icons" / "1.0").iterdir()]

    def manifest():
        from benchmark.manifest.catalogue import load_manifest

        return load_manifest("icons@1.0").digest

    def store():
        from benchmark.images.store.store import DomainStore

        root = Path(KNOWN["files"]["index of the store"]).parent
        return json.loads((root / "index.json").read_text()) and DomainStore

    attempts(stage, "import", [
        *((name, lambda n=name: importlib.import_module(n).__file__)
          for name in ("leaderboard", "leaderboard.scoring", "data_manifests")),
        ("packaged files", packaged),
        ("manifest", manifest),
        ("store", store),
    ])  # fmt: skip


def hunt(stage):
    """All of it."""
    # A signal that should not have been possible would otherwise end the hunt.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if stage == "import":  # nothing is left of another run, and nothing is left for another
        attempts(stage, "scratch", [("list", lambda: os.listdir("."))])
        Path("left").write_text(stage)
    for part in (descriptors, environment, code, files, processes, network, memory):
        part(stage)
    report(stage, "hunt", ["ended"])


if KNOWN:
    hunt("import")


class Hunting(nn.Module):
    """The source model, and a hunt at its first batch."""

    def __init__(self, model):
        super().__init__()
        self.model, self.hunted = model, False

    def forward(self, images):
        if not self.hunted:
            self.hunted = True
            hunt("forward")
        return self.model(images)


def found(lines):
    return [line for line in lines if "|FOUND" in line]


@dataclass(frozen=True)
class Hunter(Method):
    __doc__ = f"Attempts: {len(REPORT)}, found: {'; '.join(found(REPORT))}"

    name = "hunter"

    def adapt(self, source, target, run):
        hunt("adapt")
        seen = set(target.labels.tolist())
        attempts("adapt", "target", [
            ("classes not seen", lambda: [c for c in seen if not bool(target.seen[c])]),
            ("images of missing classes",
             lambda: sum(digest(i.numpy().tobytes()) in KNOWN["missing"] for i in target.images)),
            ("more than its fields", lambda: target.missing or target.features),
        ])  # fmt: skip
        run.log(attempts=len(REPORT), found=len(found(REPORT)))
        return Hunting(source.copy())
