"""Lock a process in, for good, before it imports code that nobody has reviewed.

Threat model. A run executes a method's Python file, which can do all that Python, ``ctypes`` and
native code can do. It must not reach test labels, other runs or the results: not on disk, not
through ``/proc``, another process, shared memory or a socket. The kernel enforces this on the
calling thread and on all that it starts later, and no call takes it back:

    Landlock     a path can be opened or changed only if it stands on an allow-list
    seccomp      calls that lead around the file system (sockets, processes, tracing, signals,
                 keyrings, System V memory, io_uring, mounts, file attributes) fail

Not covered: descriptors and memory that the process already has (a fork inherits both, so the
parent of a locked child must never have held a label); that a file exists, its size and times
(``stat`` stays possible); timing, processor caches and the memory of a shared GPU; how much time,
memory or disk is used; faults of the kernel and of device drivers. An inherited socket keeps
working: let it be a connected stream or seqpacket pair, since a datagram socket can send anywhere.

Linux on x86-64 and AArch64, by ``ctypes`` alone. Elsewhere nothing is enforced, and said so.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import stat
import struct
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import RunError, first
from benchmark.folders import PRIVATE_PACKAGES, private_packages

# ------------------------------------------------------------------ the facts that lock() reports

NO_NEW_PRIVILEGES = "no-new-privileges"  # no set-user-id program or file capability takes effect
NO_CAPABILITIES = "no-capabilities"  # of root's powers only the bypass of file modes is left
NO_FILESYSTEM = "no-filesystem"  # Landlock: nothing off the allow-list can be opened or changed
NO_NETWORK = "no-network"  # seccomp: no socket can be connected, nor (CUDA's own aside) created
NO_PROCESSES = "no-processes"  # seccomp: no fork and no exec; threads only
NO_INSPECTION = "no-inspection"  # seccomp: no tracing, signalling or sharing memory with others

# What keeps a method from the labels; where one is absent a row is open to doubt.
FULL_ISOLATION = (NO_FILESYSTEM, NO_NETWORK, NO_PROCESSES, NO_INSPECTION)


def landlock_fact(abi: int) -> str:
    """Name the Landlock interface in force: ``landlock-abi-7``."""
    return f"landlock-abi-{abi}"


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

# A rule on anything but a directory may carry these only; more is an error of its own.
_RIGHTS_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_READ = _READ_FILE | _READ_DIR
_LIST = _READ_DIR
_DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV
_OWN_PROC = _READ | _WRITE_FILE | _TRUNCATE
# No execute, symbolic link, socket, fifo or device node. REFER: files may move inside a scratch.
_SCRATCH = (
    _READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER
)


def _handled(abi: int) -> tuple[int, bytes]:
    """All file system rights of an interface version, and the ruleset that governs all it can."""
    rights = _ALL_OF_ABI_1
    rights |= _REFER if abi >= 2 else 0
    rights |= _TRUNCATE if abi >= 3 else 0
    rights |= _IOCTL_DEV if abi >= 5 else 0
    fields = [rights]
    fields += [_NET_BIND_AND_CONNECT_TCP] if abi >= 4 else []
    fields += [_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS] if abi >= 6 else []
    return rights, struct.pack(f"={len(fields)}Q", *fields)


# ------------------------------------------------------------------ system calls, <asm/unistd.h>


def _table(text: str) -> dict[str, tuple[int | None, int | None]]:
    """Parse ``name x86_64 aarch64`` triples; ``-`` stands for a call that a machine lacks."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    words = " ".join(lines).split()
    x86_64, aarch64 = ([None if w == "-" else int(w) for w in words[i::3]] for i in (1, 2))
    return dict(zip(words[::3], zip(x86_64, aarch64, strict=True), strict=True))


_REFUSED = _table("""
    # other processes: their memory, descriptors, registers
    ptrace 101 117  process_vm_readv 310 270  process_vm_writev 311 271  kcmp 312 272
    process_madvise 440 440  process_mrelease 448 448  pidfd_open 434 434  pidfd_getfd 438 438
    pidfd_send_signal 424 424  perf_event_open 298 241  bpf 321 280  userfaultfd 323 282
    # names that processes share outside the file system: keyrings, System V, message queues
    add_key 248 217  request_key 249 218  keyctl 250 219
    shmget 29 194  shmctl 31 195  shmat 30 196
    semget 64 190  semctl 66 191  semop 65 193  semtimedop 220 192
    msgget 68 186  msgctl 71 187  msgrcv 70 188  msgsnd 69 189  mq_open 240 180  mq_unlink 241 181
    # work handed to the kernel where no filter sees it
    io_uring_setup 425 425  io_uring_enter 426 426  io_uring_register 427 427
    # mounts, namespaces, files without a path
    mount 165 40  umount2 166 39  pivot_root 155 41  chroot 161 51  unshare 272 97  setns 308 268
    open_tree 428 428  move_mount 429 429  fsopen 430 430  fsconfig 431 431  fsmount 432 432
    fspick 433 433  mount_setattr 442 442  statmount 457 457  listmount 458 458
    name_to_handle_at 303 264  open_by_handle_at 304 265  quotactl 179 60  quotactl_fd 443 443
    # watching what others do to files, which Landlock lets through
    inotify_init 253 -  inotify_init1 294 26  inotify_add_watch 254 27
    fanotify_init 300 262  fanotify_mark 301 263
    # owner, mode, times and attributes of any path, which Landlock lets through
    chmod 90 -  fchmod 91 52  fchmodat 268 53  fchmodat2 452 452
    chown 92 -  fchown 93 55  lchown 94 -  fchownat 260 54
    utime 132 -  utimes 235 -  futimesat 261 -  utimensat 280 88
    setxattr 188 5  lsetxattr 189 6  fsetxattr 190 7  setxattrat 463 463
    removexattr 197 14  lremovexattr 198 15  fremovexattr 199 16  removexattrat 466 466
    # new processes (clone is judged by its flags)
    fork 57 -  vfork 58 -  execve 59 221  execveat 322 281
    # sockets; an inherited one can be read and written all the same
    socket 41 198  socketpair 53 199  connect 42 203  bind 49 200  listen 50 201
    accept 43 202  accept4 288 242
    # the machine itself
    init_module 175 105  finit_module 313 273  delete_module 176 106  reboot 169 142
    kexec_load 246 104  kexec_file_load 320 294  swapon 167 224  swapoff 168 225
    syslog 103 116  acct 163 89  iopl 172 -  ioperm 173 -  uselib 134 -  vhangup 153 58
    settimeofday 164 170  clock_settime 227 112  clock_adjtime 305 266  adjtimex 159 171
    sethostname 170 161  setdomainname 171 162
""")

_JUDGED = _table("""
    clone 56 220  clone3 435 435  kill 62 129  tkill 200 130  tgkill 234 131
    rt_sigqueueinfo 129 138  rt_tgsigqueueinfo 297 240  prlimit64 302 261
    fcntl 72 25  ioctl 16 29  truncate 76 45  prctl 157 167
""")

_SECCOMP = _table("seccomp 317 277")["seccomp"]

# Calls younger than the tables get the answer of a kernel that does not have them. So do the x32
# calls of x86-64, numbered from 0x40000000.
_LAST_KNOWN_CALL = 466

_CLONE_THREAD, _CLONE_NEW_NAMESPACE = 0x00010000, 0x7E020000
_F_SETOWN, _F_SETOWN_EX = 8, 15  # asynchronous I/O then sends any signal to any process
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902  # the same for a socket
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # type into the terminal
_PR_SET_PDEATHSIG = 1  # whoever sets it to nothing outlives the process that looks after it
_AF_UNIX, _SOCK_SEQPACKET, _SOCK_TYPE_MASK = 1, 5, 0xF


@dataclass(frozen=True)
class _Machine:
    """How a processor architecture names itself to a filter, and its column of the tables."""

    audit_arch: int
    column: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}


def _machine() -> _Machine | None:
    """This machine, if the tables know it (a 32-bit interpreter speaks another language)."""
    return _MACHINES.get(platform.machine()) if sys.maxsize > 2**32 else None


# ------------------------------------------------------------------ a seccomp filter, assembled

# A filter is a program over one system call: load a word (of the number, the architecture or an
# argument), compare, return a verdict. Each instruction is 8 bytes.
_LOAD, _AND, _JUMP_IF_EQUAL, _JUMP_IF_ABOVE, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGUMENTS = 0, 4, 16
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS


def _op(code: int, value: int, skip_if: int = 0, skip_else: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if, skip_else, value)


def _verdict(answer: int) -> bytes:
    return _op(_RETURN, answer)


def _argument(index: int, mask: int | None = None) -> bytes:
    """Load an argument's low word: every argument judged here is an ``int`` to the kernel."""
    load = _op(_LOAD, _OFFSET_ARGUMENTS + 8 * index)
    return load if mask is None else load + _op(_AND, mask)


def _if_one_of(values: Iterable[int], then: int, otherwise: int) -> bytes:
    """One verdict if the loaded word is one of the values, else the other."""
    tests = (_op(_JUMP_IF_EQUAL, value, 0, 1) + _verdict(then) for value in values)
    return b"".join(tests) + _verdict(otherwise)


def _judges(pid: int, cuda: bool, truncate_is_governed: bool) -> dict[str, bytes]:
    """The programs of the calls that are neither allowed nor refused outright."""
    to_itself = _argument(0) + _if_one_of([pid], _ALLOW, _REFUSE)
    judges = {
        "clone": _argument(0, _CLONE_THREAD | _CLONE_NEW_NAMESPACE)
        + _if_one_of([_CLONE_THREAD], _ALLOW, _REFUSE),
        # Its flags lie behind a pointer, where a filter cannot look; C libraries then use clone.
        "clone3": _verdict(_UNKNOWN),
        # A process may still raise and abort: a crash has to look like one.
        "kill": to_itself,
        "tkill": to_itself,
        "tgkill": to_itself,
        "rt_sigqueueinfo": to_itself,
        "rt_tgsigqueueinfo": to_itself,
        "prlimit64": _argument(0) + _if_one_of([0, pid], _ALLOW, _REFUSE),
        "fcntl": _argument(1) + _if_one_of([_F_SETOWN, _F_SETOWN_EX], _REFUSE, _ALLOW),
        "ioctl": _argument(1)
        + _if_one_of([_FIOSETOWN, _SIOCSPGRP, _TIOCSTI, _TIOCLINUX], _REFUSE, _ALLOW),
        "prctl": _argument(0) + _if_one_of([_PR_SET_PDEATHSIG], _REFUSE, _ALLOW),
    }
    if not truncate_is_governed:  # an old Landlock lets any writable file be cut by its path
        judges["truncate"] = _verdict(_REFUSE)
    if cuda:
        # libcuda does not start without a listening socket of its own (an abstract name, by
        # which CUDA hands memory to other processes). None can connect to it from in here.
        judges["socket"] = (
            _argument(0)
            + _op(_JUMP_IF_EQUAL, _AF_UNIX, 1, 0)
            + _verdict(_REFUSE)
            + _argument(1, _SOCK_TYPE_MASK)
            + _if_one_of([_SOCK_SEQPACKET], _ALLOW, _REFUSE)
        )
        judges |= dict.fromkeys(("bind", "listen", "accept", "accept4"), _verdict(_ALLOW))
    return judges


def _filter(machine: _Machine, judges: dict[str, bytes]) -> bytes:
    """The whole filter: foreign architecture, unknown call, then call by call."""
    program = [
        _op(_LOAD, _OFFSET_ARCH),
        _op(_JUMP_IF_EQUAL, machine.audit_arch, 1, 0),
        _verdict(_REFUSE),
        _op(_LOAD, _OFFSET_NUMBER),
        _op(_JUMP_IF_ABOVE, _LAST_KNOWN_CALL, 0, 1),
        _verdict(_UNKNOWN),
    ]
    for call, numbers in (_REFUSED | _JUDGED).items():
        number = numbers[machine.column]
        judge = judges.get(call, _verdict(_REFUSE) if call in _REFUSED else _verdict(_ALLOW))
        if number is not None:
            program += [_op(_JUMP_IF_EQUAL, number, 0, len(judge) // 8), judge]
    return b"".join([*program, _verdict(_ALLOW)])


# ------------------------------------------------------------------ calling the kernel

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
# Without this flag kernels before 5.16 slow the process down, to guard it against itself.
_SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1 << 1  # root reads files that another owner keeps private: images often are


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _answer(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call; its answer, or minus the error number. Bytes are passed by address."""
    # The C function is variadic: each argument has to be given its full width here.
    wide = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    answer: int = _libc().syscall(ctypes.c_long(number), *wide)
    return answer if answer >= 0 else -ctypes.get_errno()


def _must(answer: int, step: str) -> int:
    """Pass an answer on.

    Raises:
        RunError: the step failed; this process must not go on to untrusted code.
    """
    if answer < 0:
        reason = os.strerror(-answer)
        raise RunError(f"cannot lock this process: {step}: {reason}; see 'htbench doctor'")
    return answer


def _must_be_zero(answer: int, step: str) -> None:
    """The same for functions of the C library, which leave the error number aside."""
    _must(0 if answer == 0 else -(ctypes.get_errno() or errno.EPERM), step)


@dataclass(frozen=True)
class Availability:
    """What this machine's kernel can enforce.

    Attributes:
        landlock: version of the Landlock interface, 0 if there is none.
        seccomp: whether a seccomp filter can be installed.
        missing: for each of the two that is not there, a sentence that says why.
    """

    landlock: int
    seccomp: bool
    missing: tuple[str, ...]


def available() -> Availability:
    """Ask the kernel what it offers. Changes nothing and raises nothing, on any system."""
    if sys.platform != "linux":
        return Availability(0, False, (f"{platform.system()} has neither Landlock nor seccomp",))
    landlock, no_landlock = _probe_landlock()
    no_seccomp = _probe_seccomp()
    return Availability(landlock, not no_seccomp, tuple(filter(None, (no_landlock, no_seccomp))))


def _probe_landlock() -> tuple[int, str]:
    abi = _answer(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    if abi > 0:
        return abi, ""
    reasons = {
        errno.ENOSYS: "this kernel does not have it (Linux 5.13 and later can)",
        errno.EOPNOTSUPP: "it is switched off; name it in the lsm= option of the kernel",
        errno.EPERM: "the container around this process forbids it",
    }
    return 0, f"Landlock: {reasons.get(-abi, os.strerror(-abi))}"


def _probe_seccomp() -> str:
    machine = _machine()
    number = None if machine is None else _SECCOMP[machine.column]
    if number is None:
        return f"seccomp: no table of system calls for {platform.machine()}"
    # No filter stands at address 0: EFAULT says that everything before reading it was accepted.
    answer = _answer(number, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_SPEC_ALLOW, None)
    return "" if answer == -errno.EFAULT else f"seccomp: {os.strerror(-answer)}"


# ------------------------------------------------------------------ the allow-list

_SYSTEM_PATHS = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
]
_DEVICES = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"]
_CUDA_PATHS = [
    "/proc/driver/nvidia",
    "/proc/driver/nvidia-uvm",
    "/proc/devices",
    "/proc/sys/vm/mmap_min_addr",
    "/sys/devices/system/memory/block_size_bytes",
    "/sys/module/nvidia",
    "/usr/local/cuda/lib64",
    "/usr/local/nvidia/lib",
    "/usr/local/nvidia/lib64",
]


def interpreter_paths(never: Iterable[Path] = ()) -> list[Path]:
    """What Python, torch and installed packages have to read while locked.

    That is the standard library, each entry of each site-packages folder on its own, shared
    libraries, the time zone and what the machine says of its processors. Landlock cannot
    subtract, so a folder that holds something forbidden is replaced by its other entries.

    Args:
        never: folders that must stay closed, such as a data cache. Name those themselves, not a
            checkout around them: a virtual environment inside a named folder is closed as well.
            The packages ``data_manifests`` and ``leaderboard`` are closed in any case.

    Returns:
        Resolved paths of files and folders, each of which may be read as a whole.
    """
    sites = _site_folders()
    closed = {*private_packages(), *(path.resolve() for path in never)}
    paths = dict.fromkeys(path for site in sites for path in _packages(site, closed))
    closed |= {*sites, *_unused_sites()}
    roots = [Path(path) for path in (*_standard_library(), *_SYSTEM_PATHS)]
    roots += _libraries_of_the_interpreter()
    for root in roots:
        paths.update(dict.fromkeys(_without(root.resolve(), closed)))
    return list(paths)


def _standard_library() -> list[str]:
    names = ("stdlib", "platstdlib")
    zipped = [entry for entry in sys.path if entry.endswith(".zip")]
    # In a virtual environment platstdlib is the parent of site-packages and holds nothing else.
    return [*zipped, *(sysconfig.get_path(name) for name in names)]


def _libraries_of_the_interpreter() -> list[Path]:
    """The interpreter's own shared libraries, as of conda, where they stand beside other things."""
    return sorted((Path(sys.base_prefix) / "lib").glob("lib*.so*"))


def _site_folders() -> list[Path]:
    """Where installed packages lie. Other entries of ``sys.path`` are checkouts: not allowed."""
    entries = [*sys.path, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    folders = (Path(e).resolve() for e in entries if e.endswith(("site-packages", "dist-packages")))
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _unused_sites() -> Iterator[Path]:
    """Package folders of interpreters other than this one, among the shared libraries."""
    for root in ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"):
        for name in ("site-packages", "dist-packages"):
            yield from (path.resolve() for path in Path(root).glob(f"python3*/{name}"))


def _packages(site: Path, closed: Collection[Path]) -> Iterator[Path]:
    """The entries of a site-packages folder, behind links, without the private and the closed."""
    for entry in sorted(site.iterdir()):
        path = entry.resolve()
        if {entry.name, path.name}.isdisjoint(PRIVATE_PACKAGES) and entry.suffix != ".pth":
            yield from _without(path, closed)


def _without(path: Path, closed: Collection[Path]) -> Iterator[Path]:
    """The path, or as much of it as leaves out the closed folders; nothing if it is missing."""
    if any(path.is_relative_to(folder) for folder in closed) or not path.exists():
        return
    if not any(folder.is_relative_to(path) for folder in closed):
        yield path
        return
    for child in sorted(path.iterdir()):
        # A link is not followed: it may lead anywhere, and what it leads to inside is listed.
        if not child.is_symlink():
            yield from _without(child, closed)


def _listed_folders() -> list[Path]:
    """Folders whose file names may be seen: an import begins with listing its folder.

    The right reaches down to excluded packages too: their file names, never their contents.
    """
    return [*_site_folders(), *(Path(p).resolve() for p in _standard_library() if Path(p).is_dir())]


def _cuda_devices() -> list[Path]:
    nodes = [*Path("/dev").glob("nvidia*"), *Path("/dev").glob("nvidia-caps/*"), Path("/dev/dxg")]
    return [node for node in nodes if node.is_char_device()]


# ------------------------------------------------------------------ the lock


class Sandbox:
    """What a locked process may open: worked out once, applied in every child.

    Example:
        >>> sandbox = Sandbox(never=[data_cache])            # in the forkserver, once
        >>> facts = sandbox.lock(read=[plugin], write=[scratch])  # in the child, before the plugin
    """

    def __init__(self, *, never: Iterable[Path] = (), cuda: bool = False) -> None:
        """Work out the allow-list.

        Args:
            never: see ``interpreter_paths``; no path given to ``lock`` may contain one of these.
            cuda: also let an NVIDIA GPU be used: its device nodes, the process's own ``/proc``
                entry (the driver names its threads there) and one kind of socket.
        """
        self._never = (*sorted(private_packages()), *(path.resolve() for path in never))
        self._cuda = cuda
        reads = [*interpreter_paths(self._never), *(_CUDA_PATHS if cuda else ())]
        devices = [*_DEVICES, *(_cuda_devices() if cuda else ())]
        self._rules = [
            *((os.fspath(path), _READ) for path in reads),
            *((os.fspath(path), _LIST) for path in _listed_folders()),
            *((os.fspath(path), _DEVICE) for path in devices),
        ]

    def lock(
        self,
        *,
        read: Iterable[Path] = (),
        listed: Iterable[Path] = (),
        write: Iterable[Path] = (),
    ) -> tuple[str, ...]:
        """Give up everything else, for good. Call it once, while the process has one thread.

        Args:
            read: further files, or folders with all that they hold, that may be read.
            listed: folders whose file names may be seen (an import needs that), not the contents.
            write: folders in which files and folders may also be made, changed and removed.

        Returns:
            The facts in force, in a fixed order. What the kernel lacks is absent; the caller
            decides whether that will do (``available`` says it beforehand).

        Raises:
            RunError: a path is missing, would open a ``never`` folder or (to read) lies in one,
                there is more than one thread, or the kernel refused a step that it offers. The
                process may be locked in part by then: it has to end.
        """
        reads, writes = [Path(p) for p in read], [Path(p) for p in write]
        self._check(reads, writes)
        private = [(p, _READ) for p in reads] + [(p, _SCRATCH) for p in writes]
        if sys.platform != "linux":
            return ()
        _require_one_thread()
        offer = available()
        private += [(path, _LIST) for path in listed]
        ruleset = self._ruleset(offer.landlock, private) if offer.landlock else None
        _drop_privileges()
        facts = [NO_NEW_PRIVILEGES, NO_CAPABILITIES]
        if ruleset is not None:
            _must(_answer(_LANDLOCK_RESTRICT_SELF, ruleset, 0), "Landlock")
            os.close(ruleset)
            facts += [landlock_fact(offer.landlock), NO_FILESYSTEM]
        machine = _machine()
        if offer.seccomp and machine is not None:
            _install_filter(machine, _judges(os.getpid(), self._cuda, offer.landlock >= 3))
            facts += [NO_NETWORK, NO_PROCESSES, NO_INSPECTION]
        return tuple(facts)

    def _check(self, reads: Iterable[Path], writes: Iterable[Path]) -> None:
        """Nothing that is opened may hold a closed folder, nor, behind a link, lie in one.

        A scratch folder may lie in one: it is new, and holds what the process itself puts there.
        """
        for path, is_read in [*((p, True) for p in reads), *((p, False) for p in writes)]:
            if not path.exists():
                raise RunError(f"cannot open {str(path)!r} to a run: there is no such file")
            real = path.resolve()
            inside = [str(p) for p in self._never if p.is_relative_to(real)]
            around = [str(p) for p in self._never if is_read and real.is_relative_to(p)]
            if inside or around:
                which = f"it holds {first(inside)}" if inside else f"it lies in {first(around)}"
                raise RunError(
                    f"cannot open {str(path)!r} to a run: {which}, which a run must not see; "
                    "move one of the two"
                )

    def _ruleset(self, abi: int, private: Iterable[tuple[Path, int]]) -> int:
        """A Landlock ruleset with every rule, ready to be applied."""
        handled, attributes = _handled(abi)
        created = _answer(_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
        ruleset = _must(created, "Landlock ruleset")
        for path, rights in self._rules:
            _allow(ruleset, path, rights & handled, optional=True)
        for own, rights in private:
            _allow(ruleset, os.fspath(own), rights & handled)
        if self._cuda:
            # A rule lasts as long as the kernel's entry for its path does, and those of /proc
            # come and go. This descriptor keeps it, so it stays open on purpose.
            os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)
            _allow(ruleset, "/proc/self", _OWN_PROC & handled)
        return ruleset


def _allow(ruleset: int, path: str, rights: int, *, optional: bool = False) -> None:
    """Add a path, and all beneath it, to a ruleset."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if optional:  # the interpreter's list names what most machines have; absent means closed
            return
        raise RunError(f"cannot open {path!r} to a run: {error.strerror}") from error
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _RIGHTS_OF_A_FILE
        rule = struct.pack("=Qi", rights, descriptor)
        added = _answer(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_RULE_PATH_BENEATH, rule, 0)
        _must(added, f"Landlock rule for {path}")
    finally:
        os.close(descriptor)


def _require_one_thread() -> None:
    """Landlock binds the calling thread only: another thread would stay free, and be usable."""
    try:
        threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 (names are all it takes)
    except OSError as error:
        why = "it is locked already, or /proc is missing"
        raise RunError(f"cannot lock this process: {why}") from error
    if threads != 1:
        raise RunError(f"cannot lock this process: it has {threads} threads and must have one")


def _drop_privileges() -> None:
    """No new privileges, no capabilities, no core file."""
    import resource  # not on every system

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    arguments = [ctypes.c_ulong(value) for value in (1, 0, 0, 0)]
    _must_be_zero(_libc().prctl(_PR_SET_NO_NEW_PRIVS, *arguments), "no new privileges")
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)  # effective, permitted, inheritable: low, then high
    _must_be_zero(_libc().capget(header, sets), "reading capabilities")
    kept = struct.unpack("=6I", sets.raw)[1] & _CAP_DAC_OVERRIDE
    fewer = struct.pack("=6I", kept, kept, 0, 0, 0, 0)
    _must_be_zero(_libc().capset(header, fewer), "dropping capabilities")


def _install_filter(machine: _Machine, judges: dict[str, bytes]) -> None:
    code = _filter(machine, judges)
    program = ctypes.create_string_buffer(code, len(code))
    handle = struct.pack("@HP", len(code) // 8, ctypes.addressof(program))
    flags = _SECCOMP_FILTER_FLAG_SPEC_ALLOW
    number = _SECCOMP[machine.column]
    assert number is not None, "both machines have the call"
    _must(_answer(number, _SECCOMP_SET_MODE_FILTER, flags, handle), "seccomp filter")
