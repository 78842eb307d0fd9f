# ruff: noqa: PTH208
"""Attempts on other processes, the network and the kernel."""

import ctypes
import errno
import os
import socket
import subprocess

from hunter_attempts import KNOWN, SECONDS, attempts
from hunter_files import read


def peek(pid):
    """Eight bytes of another process, at an address of this one: a fork has the same map."""

    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    own, other = ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)
    here = Vector(ctypes.addressof(own), 8)
    there = Vector(id(KNOWN) if pid == os.getppid() else ctypes.addressof(other), 8)
    libc = ctypes.CDLL(None, use_errno=True)
    count = libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    if count < 0 and ctypes.get_errno() != errno.EFAULT:
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
        tries += [
            (entry, lambda p=pid, e=entry: os.listdir(f"/proc/{p}/{e}"))
            for entry in ("fd", "root", "task")
        ]
        if isinstance(pid, int):
            tries += [
                ("signal", lambda p=pid: os.kill(p, 0) or "may be signalled"),
                ("group", lambda p=pid: os.killpg(p, 0) or "may be signalled"),
                ("memory", lambda p=pid: peek(p)),
                ("descriptor", lambda p=pid: os.close(os.pidfd_open(p)) or "opened"),
                ("trace", lambda p=pid, n=name: (stage, n) != ("control", "parent") and trace(p)),
            ]
        attempts(stage, f"process {name}", *tries)
    near = range(max(2, os.getppid() - 100), os.getppid() + 100)  # the driver is among these
    attempts(
        stage,
        "processes",
        ("list", lambda: os.listdir("/proc")),
        ("near", lambda: [p for p in near if p != os.getpid() and may_signal(p)]),
        ("fork", fork),
        ("subprocess", lambda: subprocess.run(["/bin/true"], check=True)),
        ("spawn", lambda: os.posix_spawn("/bin/true", ["true"], {})),
        ("shell", lambda: os.system("true") == 0 and "ran"),
        ("signal all", lambda: stage != "control" and (os.kill(-1, 0) or "may be signalled")),
    )


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
    attempts(
        stage,
        "network",
        ("tcp", lambda: connect(socket.AF_INET, ("127.0.0.1", port))),
        ("tcp6", lambda: connect(socket.AF_INET6, ("::ffff:127.0.0.1", port))),
        ("udp", lambda: connect(socket.AF_INET, ("127.0.0.1", port), socket.SOCK_DGRAM)),
        ("unix", lambda: connect(socket.AF_UNIX, path)),
        ("abstract", lambda: connect(socket.AF_UNIX, abstract)),
        ("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close() or "made"),
        ("listen", lambda: socket.create_server(("127.0.0.1", 0)).close() or "listening"),
        ("pair", lambda: [s.close() for s in socket.socketpair()]),
        (
            "names",
            lambda: (
                socket.getaddrinfo("localhost", 80) and connect(socket.AF_INET, ("localhost", port))
            ),
        ),
        ("shared memory", lambda: os.listdir("/dev/shm")),
    )
    x86 = os.uname().machine == "x86_64"
    attempts(
        stage,
        "kernel",
        ("System V memory", lambda: call(29 if x86 else 194, 0, 4096, 0o1600)),
        ("io_uring", lambda: call(425, 4, id(bytearray(256)))),
        ("keyring", lambda: call(250 if x86 else 219, 0, -4, 0)),
        ("watch", lambda: call(294 if x86 else 26, 0)),
        ("death of the parent", lambda: call(157 if x86 else 167, 1, 0, 0, 0, 0)),
        ("handle", lambda: call(303 if x86 else 264, -100, 0, 0, 0, 0)),
        ("namespace", lambda: stage != "control" and call(272 if x86 else 97, 0x10000000)),
    )
