"""The kernel calls behind the sandbox, by ``ctypes``: Landlock, privileges, and their errors."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat
import struct
import sys

from benchmark.errors import RunError

# ------------------------------------------------------------------ system calls


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library, with ``errno`` kept per thread."""
    return ctypes.CDLL(None, use_errno=True)


def system_call(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call; bytes are passed by address.

    Returns:
        What the call returns, or minus the error number.
    """
    # The C function is variadic: each argument has to be given its full width here.
    wide = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    result: int = libc().syscall(ctypes.c_long(number), *wide)
    return result if result >= 0 else -ctypes.get_errno()


def check(result: int, step: str) -> int:
    """Return the result of a system call that must not fail.

    Raises:
        RunError: it failed; this process must not run untrusted code.
    """
    if result < 0:
        reason = os.strerror(-result)
        raise RunError(f"cannot sandbox this process: {step}: {reason}; run `htbench doctor`")
    return result


def _check_zero(result: int, step: str) -> None:
    """The same for functions of the C library, which report the error number in ``errno``."""
    check(0 if result == 0 else -(ctypes.get_errno() or errno.EPERM), step)


# ------------------------------------------------------------------ Landlock, <linux/landlock.h>

_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_ALL_OF_ABI_1 = (1 << 13) - 1
_NET_BIND_AND_CONNECT_TCP = 0b11
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

# A rule on anything but a directory may have these only; any other right is an error.
_RIGHTS_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

READ = _READ_FILE | _READ_DIR
LIST = _READ_DIR
DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV
OWN_PROC = READ | _WRITE_FILE | _TRUNCATE
# No execute, symbolic link, socket, fifo or device node. REFER: files may move inside a scratch.
SCRATCH = (
    READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER
)


def handled_rights(abi: int) -> tuple[int, bytes]:
    """The file system rights of an interface version, and a ruleset that governs all it can."""
    rights = _ALL_OF_ABI_1
    rights |= _REFER if abi >= 2 else 0
    rights |= _TRUNCATE if abi >= 3 else 0
    rights |= _IOCTL_DEV if abi >= 5 else 0
    fields = [rights]
    fields += [_NET_BIND_AND_CONNECT_TCP] if abi >= 4 else []
    fields += [_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS] if abi >= 6 else []
    return rights, struct.pack(f"={len(fields)}Q", *fields)


def landlock_version() -> int:
    """The version of the kernel's Landlock interface, or minus the error number."""
    return system_call(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)


def create_ruleset(attributes: bytes) -> int:
    """A new Landlock ruleset (its descriptor) from what :func:`handled_rights` gives."""
    created = system_call(_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    return check(created, "Landlock ruleset")


def add_rule(ruleset: int, path: str, rights: int, *, optional: bool = False) -> None:
    """Allow access to a path, and to everything beneath it.

    Args:
        ruleset: see :func:`create_ruleset`.
        path: a file or folder.
        rights: such as ``READ``, limited to those that the interface handles.
        optional: skip a path that does not exist.

    Raises:
        RunError: the path cannot be opened, or the kernel refuses the rule.
    """
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if optional:
            return
        raise RunError(f"cannot give a run access to {path!r}: {error.strerror}") from error
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _RIGHTS_OF_A_FILE
        rule = struct.pack("=Qi", rights, descriptor)
        added = system_call(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_RULE_PATH_BENEATH, rule, 0)
        check(added, f"adding a Landlock rule for {path}")
    finally:
        os.close(descriptor)


def restrict_self(ruleset: int) -> None:
    """Apply a ruleset to this thread and to all that it starts later, for good; close it."""
    check(system_call(_LANDLOCK_RESTRICT_SELF, ruleset, 0), "Landlock")
    os.close(ruleset)


# ------------------------------------------------------------------ threads and privileges

_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1 << 1  # root reads files that another owner keeps private: images often are


def require_one_thread() -> None:
    """Landlock binds the calling thread only: another thread would stay unrestricted.

    Raises:
        RunError: there is another thread, or they cannot be counted.
    """
    try:
        threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 (only the count is needed)
    except OSError as error:
        reason = "it is already sandboxed, or /proc is not mounted"
        raise RunError(f"cannot sandbox this process: {reason}") from error
    if threads != 1:
        raise RunError(
            f"cannot sandbox this process: it must have exactly one thread, but has {threads}"
        )


def drop_privileges() -> None:
    """Give up core files, new privileges and all capabilities but the bypass of file modes.

    Raises:
        RunError: the kernel refuses one of these.
    """
    import resource  # not on every system

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    arguments = [ctypes.c_ulong(value) for value in (1, 0, 0, 0)]
    _check_zero(libc().prctl(_PR_SET_NO_NEW_PRIVS, *arguments), "setting no_new_privs")
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)  # effective, permitted, inheritable: low, then high
    _check_zero(libc().capget(header, sets), "reading capabilities")
    kept = struct.unpack("=6I", sets.raw)[1] & _CAP_DAC_OVERRIDE
    fewer = struct.pack("=6I", kept, kept, 0, 0, 0, 0)
    _check_zero(libc().capset(header, fewer), "dropping capabilities")


_CLONE_NEWNS = 0x00020000
_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTRIBUTE_NOATIME, _ATTRIBUTES_OF_ATIME = 0x10, 0x70
_MS_SLAVE, _NO_SUID_DEVICE_OR_EXEC = 1 << 19, 0b1110


def separate_mounts() -> bool:
    """Stop access times, and hide processes from children, where this process may.

    Landlock leaves ``stat`` open: a child would see when others have read a file, and how many
    threads and open files another process has. A mount namespace takes the privileges of a
    system administrator; without them nothing changes. Call it before any thread is started.

    Returns:
        Whether both are in force.
    """
    if sys.platform != "linux" or libc().unshare(_CLONE_NEWNS) != 0:
        return False
    slave_noatime = struct.pack("=4Q", _ATTRIBUTE_NOATIME, _ATTRIBUTES_OF_ATIME, _MS_SLAVE, 0)
    changed = system_call(_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, slave_noatime, 32)
    if changed != 0:  # older than Linux 5.12, or a file system without access times
        return False
    # Processes that a child may not trace, which Landlock decides, do not exist in this /proc.
    flags = ctypes.c_ulong(_NO_SUID_DEVICE_OR_EXEC)
    mounted: int = libc().mount(b"proc", b"/proc", b"proc", flags, b"hidepid=ptraceable")
    return mounted == 0
