"""The seccomp filter: which system calls a sandboxed process may make.

Calls that reach around the file system fail: sockets, processes, tracing, signals, keyrings,
System V memory, io_uring, mounts and file attributes. So do calls by which a run could leave
something for another run, or watch one: file locks, leases, attributes of files behind ``ioctl``,
the page cache, memory without a path, priorities, wake-ups through shared files, and the clocks of
other processes. Some calls depend on their arguments; ``ioctl`` and ``fcntl`` are allow-lists.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from benchmark.isolation.kernel import check, system_call

# ------------------------------------------------------------------ system calls, <asm/unistd.h>


def _table(text: str) -> dict[str, tuple[int | None, int | None]]:
    """Parse ``name x86_64 aarch64`` triples; ``-`` means that the call does not exist."""
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
    # file locks, and what a process can learn of or do to the page cache of files that it reads
    flock 73 32
    mincore 27 232  cachestat 451 451  fadvise64 221 223  readahead 187 213
    sync_file_range 277 84  splice 275 76  tee 276 77  vmsplice 278 75
    getrusage 98 165  # its faults and blocks tell whether what was read came from the cache
    io_setup 206 0  io_destroy 207 1  io_getevents 208 4  io_submit 209 2  io_cancel 210 3
    io_pgetevents 333 292  # its requests carry flags behind a pointer
    # memory without a path, which no limit on files counts
    memfd_create 319 279  memfd_secret 447 447
    # priorities and processor sets: others can read what a process has set
    sched_setparam 142 118  sched_setscheduler 144 119  sched_setaffinity 203 122
    sched_setattr 314 274  setpriority 141 140  ioprio_set 251 30
    setpgid 109 154  setsid 112 157
    # what a process holds: capabilities can be lowered and raised, and others can read them
    capget 125 90  capset 126 91  lsm_set_self_attr 460 460
    # pages of other processes, and wake-ups across processes (futex is decided by its operation)
    migrate_pages 256 238  move_pages 279 239
    futex_waitv 449 449  futex_wake 454 454  futex_wait 455 455  futex_requeue 456 456
    # new processes (clone is decided by its flags)
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

_CONDITIONAL = _table("""
    clone 56 220  clone3 435 435  kill 62 129  tkill 200 130  tgkill 234 131
    rt_sigqueueinfo 129 138  rt_tgsigqueueinfo 297 240  prlimit64 302 261
    fcntl 72 25  ioctl 16 29  truncate 76 45  prctl 157 167
    fallocate 285 47  preadv2 327 286  pwritev2 328 287  madvise 28 233  futex 202 98
    getsockopt 55 209  setsockopt 54 208
    sched_getparam 143 121  sched_getscheduler 145 120  sched_rr_get_interval 148 127
    sched_getattr 315 275  sched_getaffinity 204 123  getpriority 140 141  ioprio_get 252 31
    getpgid 121 155  getsid 124 156
    get_robust_list 274 100  mbind 237 235  get_mempolicy 239 236
    clock_gettime 228 113  clock_getres 229 114  clock_nanosleep 230 115  timer_create 222 107
""")

_SECCOMP = _table("seccomp 317 277")["seccomp"]

# Calls newer than the tables get the answer of a kernel that does not have them. So do the x32
# calls of x86-64, numbered from 0x40000000.
_LAST_KNOWN_CALL = 466

_CLONE_THREAD, _CLONE_NEW_NAMESPACE = 0x00010000, 0x7E020000
# Not the locks, leases, notifications, owners, pipe sizes, seals and hints.
_FCNTL = {
    "F_DUPFD": 0,
    "F_GETFD": 1,
    "F_SETFD": 2,
    "F_GETFL": 3,
    "F_SETFL": 4,
    "F_DUPFD_CLOEXEC": 1030,
}
# What Python and the C library ask of a descriptor: is it a terminal, how wide, how much is there
# to read, do not block, close at exec. Nothing that reads or sets attributes of a file.
_IOCTL = {
    "TCGETS": 0x5401,
    "TCGETS2": 0x802C542A,
    "TIOCGWINSZ": 0x5413,
    "FIONREAD": 0x541B,
    "FIONBIO": 0x5421,
    "FIONCLEX": 0x5450,
    "FIOCLEX": 0x5451,
}
# NVIDIA's devices: their common commands are of type F, those of unified memory are small numbers
# and two large ones; WSL's device is of type G. From the headers of NVIDIA's open kernel modules.
_CUDA_TYPES = (0x4600, 0x4700)
_CUDA_LAST_SMALL = 0xFF
_CUDA_UVM_INITIALIZE, _CUDA_UVM_DEINITIALIZE = 0x30000001, 0x30000002
# What a process may set of itself. Not the death signal (a process that clears it outlives its
# parent), tracers, sharing of equal pages or of processor cores.
_PRCTL = {
    "PR_GET_PDEATHSIG": 2,
    "PR_GET_DUMPABLE": 3,
    "PR_SET_DUMPABLE": 4,
    "PR_SET_NAME": 15,
    "PR_GET_NAME": 16,
    "PR_GET_SECCOMP": 21,
    "PR_CAPBSET_READ": 23,
    "PR_SET_TIMERSLACK": 29,
    "PR_GET_TIMERSLACK": 30,
    "PR_SET_NO_NEW_PRIVS": 38,
    "PR_GET_NO_NEW_PRIVS": 39,
    "PR_GET_TID_ADDRESS": 40,
    "PR_SET_THP_DISABLE": 41,
    "PR_GET_THP_DISABLE": 42,
    "PR_SVE_SET_VL": 50,
    "PR_SVE_GET_VL": 51,
    "PR_GET_SPECULATION_CTRL": 52,
    "PR_GET_TAGGED_ADDR_CTRL": 56,
    "PR_SME_SET_VL": 63,
    "PR_SME_GET_VL": 64,
    "PR_SET_VMA": 0x53564D41,
}
# Advice on a process's mappings. Not the advice that loads pages of a file, evicts them, or merges
# equal pages of several processes.
_MADVISE = {
    "MADV_NORMAL": 0,
    "MADV_RANDOM": 1,
    "MADV_SEQUENTIAL": 2,
    "MADV_DONTNEED": 4,
    "MADV_FREE": 8,
    "MADV_DONTFORK": 10,
    "MADV_DOFORK": 11,
    "MADV_HUGEPAGE": 14,
    "MADV_NOHUGEPAGE": 15,
    "MADV_DONTDUMP": 16,
    "MADV_DODUMP": 17,
    "MADV_GUARD_INSTALL": 102,
    "MADV_GUARD_REMOVE": 103,
}
# A futex in a page of a file that two processes map is shared by them, and waking tells how many
# wait. Threads use private ones, but C++ also waits for its static variables and futures on shared
# ones, and joins threads on them: such a wait returns at once ("the value has changed"), so that it
# becomes a loop that looks again, and such a wake wakes nobody. Refusing either deadlocks.
_FUTEX_PRIVATE, _FUTEX_COMMAND = 128, 0xFFFFFFFF & ~256  # 256 chooses the clock
_FUTEX_WAIT, _FUTEX_WAKE, _FUTEX_WAIT_BITSET, _FUTEX_WAKE_BITSET = 0, 1, 9, 10
_MPOL_F_MEMS_ALLOWED = 4
_SOL_SOCKET = 1
_SOCKET_OPTIONS = {"SO_TYPE": 3, "SO_ERROR": 4, "SO_PROTOCOL": 38, "SO_DOMAIN": 39}
_SO_PASSCRED = 16
_PRIO_PROCESS, _IOPRIO_WHO_PROCESS = 0, 1
_LAST_POSITIVE = 0x7FFFFFFF  # as a clock, a negative number is that of some process or thread
_AF_UNIX, _SOCK_SEQPACKET, _SOCK_TYPE_MASK = 1, 5, 0xF


@dataclass(frozen=True)
class _Machine:
    """How a processor architecture names itself to a filter, and its column of the tables."""

    audit_arch: int
    column: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}


def _machine() -> _Machine | None:
    """This machine, if the tables know it (a 32-bit interpreter makes other calls)."""
    return _MACHINES.get(platform.machine()) if sys.maxsize > 2**32 else None


# ------------------------------------------------------------------ the filter, assembled

# A filter is a program over one system call: load a word (of the number, the architecture or an
# argument), compare, return a verdict. Each instruction is 8 bytes.
_LOAD, _AND, _JUMP_IF_EQUAL, _JUMP_IF_ABOVE, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGUMENTS = 0, 4, 16
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS
_AGAIN = 0x00050000 | errno.EAGAIN
_NOTHING = 0x00050000  # the call returns 0 and does nothing


def _op(code: int, value: int, skip_if: int = 0, skip_else: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if, skip_else, value)


def _return(action: int) -> bytes:
    return _op(_RETURN, action)


def _argument(index: int, mask: int | None = None) -> bytes:
    """Load an argument's low word: every argument decided here is an ``int`` to the kernel."""
    load = _op(_LOAD, _OFFSET_ARGUMENTS + 8 * index)
    return load if mask is None else load + _op(_AND, mask)


def _if_one_of(values: Iterable[int], then: int, otherwise: int) -> bytes:
    """One verdict if the loaded word is one of the values, else the other."""
    tests = (_op(_JUMP_IF_EQUAL, value, 0, 1) + _return(then) for value in values)
    return b"".join(tests) + _return(otherwise)


def _allow_only(index: int, values: Iterable[int]) -> bytes:
    """Allow the call if an argument is one of the values, else refuse it."""
    return _argument(index) + _if_one_of(values, _ALLOW, _REFUSE)


def _refuse_unless(index: int, value: int) -> bytes:
    """Refuse the call unless an argument is the value; otherwise go on with what follows."""
    return _argument(index) + _op(_JUMP_IF_EQUAL, value, 1, 0) + _return(_REFUSE)


def _verdicts(pid: int, cuda: bool, truncate_is_governed: bool) -> dict[str, bytes]:
    """The programs of the calls that are neither allowed nor refused outright."""
    to_itself, of_itself = _allow_only(0, [pid]), _allow_only(0, [0, pid])
    verdicts = {
        "clone": _argument(0, _CLONE_THREAD | _CLONE_NEW_NAMESPACE)
        + _if_one_of([_CLONE_THREAD], _ALLOW, _REFUSE),
        # Its flags lie behind a pointer, where a filter cannot look; C libraries then use clone.
        "clone3": _return(_UNKNOWN),
        # A process may still raise and abort: a crash has to look like one.
        "kill": to_itself,
        "tkill": to_itself,
        "tgkill": to_itself,
        "rt_sigqueueinfo": to_itself,
        "rt_tgsigqueueinfo": to_itself,
        "prlimit64": of_itself,
        "sched_getparam": of_itself,
        "sched_getscheduler": of_itself,
        "get_robust_list": of_itself,
        "sched_rr_get_interval": of_itself,
        "sched_getattr": of_itself,
        "getpgid": of_itself,
        "getsid": of_itself,
        "fcntl": _allow_only(1, _FCNTL.values()),
        "ioctl": (_cuda_ioctls() if cuda else b"") + _allow_only(1, _IOCTL.values()),
        "prctl": _allow_only(0, _PRCTL.values()),
        # With a mode it takes blocks that a file's size does not show.
        "fallocate": _allow_only(1, [0]),
        # With flags it tells whether a page is in the cache.
        "preadv2": _allow_only(5, [0]),
        "pwritev2": _allow_only(5, [0]),
        # The memory node of a page of a file is what the first process that moves it chooses.
        "mbind": _allow_only(5, [0]),
        "get_mempolicy": _allow_only(4, [0, _MPOL_F_MEMS_ALLOWED]),
        "madvise": _allow_only(2, _MADVISE.values()),
        "futex": _futex(),
        "getsockopt": _socket_options(_SOCKET_OPTIONS.values()),
        "setsockopt": _socket_options([_SO_PASSCRED]) if cuda else _return(_REFUSE),
        # A thread's number is not known beforehand; the C library takes ENOSYS for "no such thing".
        "sched_getaffinity": _argument(0) + _if_one_of([0, pid], _ALLOW, _UNKNOWN),
        "getpriority": _refuse_unless(0, _PRIO_PROCESS) + _allow_only(1, [0, pid]),
        "ioprio_get": _refuse_unless(0, _IOPRIO_WHO_PROCESS) + _allow_only(1, [0, pid]),
    }
    for call in ("clock_gettime", "clock_getres", "clock_nanosleep", "timer_create"):
        verdicts[call] = (
            _argument(0)
            + _op(_JUMP_IF_ABOVE, _LAST_POSITIVE, 0, 1)
            + _return(_REFUSE)
            + _return(_ALLOW)
        )
    if not truncate_is_governed:  # an old Landlock lets any writable file be cut by its path
        verdicts["truncate"] = _return(_REFUSE)
    if cuda:
        # libcuda does not start without a listening socket of its own (an abstract name, by
        # which CUDA hands memory to other processes). None can connect to it from in here.
        verdicts["socket"] = (
            _refuse_unless(0, _AF_UNIX)
            + _argument(1, _SOCK_TYPE_MASK)
            + _if_one_of([_SOCK_SEQPACKET], _ALLOW, _REFUSE)
        )
        verdicts |= dict.fromkeys(("bind", "listen", "accept", "accept4"), _return(_ALLOW))
    return verdicts


def _futex() -> bytes:
    """Allow private ones; of shared ones, waiting is interrupted and waking does nothing."""
    return (
        _argument(1, _FUTEX_PRIVATE)
        + _op(_JUMP_IF_EQUAL, _FUTEX_PRIVATE, 0, 1)
        + _return(_ALLOW)
        + _argument(1, _FUTEX_COMMAND)
        + _op(_JUMP_IF_EQUAL, _FUTEX_WAIT, 1, 0)
        + _op(_JUMP_IF_EQUAL, _FUTEX_WAIT_BITSET, 0, 1)
        + _return(_AGAIN)
        + _if_one_of([_FUTEX_WAKE, _FUTEX_WAKE_BITSET], _NOTHING, _REFUSE)
    )


def _socket_options(options: Iterable[int]) -> bytes:
    """Allow some options of the socket level; others reveal the process at the other end."""
    return _refuse_unless(1, _SOL_SOCKET) + _allow_only(2, options)


def _cuda_ioctls() -> bytes:
    """Allow the commands of NVIDIA's devices; anything else falls through to the next test."""
    by_type = (_op(_JUMP_IF_EQUAL, kind, 0, 1) + _return(_ALLOW) for kind in _CUDA_TYPES)
    large = (_CUDA_UVM_INITIALIZE, _CUDA_UVM_DEINITIALIZE)
    return (
        _argument(1, 0xFF00)
        + b"".join(by_type)
        + _argument(1)
        + b"".join(_op(_JUMP_IF_EQUAL, value, 0, 1) + _return(_ALLOW) for value in large)
        + _op(_JUMP_IF_ABOVE, _CUDA_LAST_SMALL, 1, 0)
        + _return(_ALLOW)
    )


def _filter(machine: _Machine, verdicts: dict[str, bytes]) -> bytes:
    """The whole filter: foreign architecture, unknown call, then call by call."""
    program = [
        _op(_LOAD, _OFFSET_ARCH),
        _op(_JUMP_IF_EQUAL, machine.audit_arch, 1, 0),
        _return(_REFUSE),
        _op(_LOAD, _OFFSET_NUMBER),
        _op(_JUMP_IF_ABOVE, _LAST_KNOWN_CALL, 0, 1),
        _return(_UNKNOWN),
    ]
    for call, numbers in (_REFUSED | _CONDITIONAL).items():
        number = numbers[machine.column]
        verdict = verdicts.get(call, _return(_REFUSE) if call in _REFUSED else _return(_ALLOW))
        if number is not None:
            program += [_op(_JUMP_IF_EQUAL, number, 0, len(verdict) // 8), verdict]
    return b"".join([*program, _return(_ALLOW)])


# ------------------------------------------------------------------ installing it

_SECCOMP_SET_MODE_FILTER = 1
# Without this flag kernels before 5.16 slow the process down, to protect it from itself.
_SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4


def problem() -> str:
    """Why a filter cannot be installed on this machine; empty if it can."""
    machine = _machine()
    number = None if machine is None else _SECCOMP[machine.column]
    if number is None:
        return f"seccomp: sandboxing is not supported on {platform.machine()} processors"
    # There is no filter at address 0: EFAULT means that all checks before reading it passed.
    result = system_call(number, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_SPEC_ALLOW, None)
    return "" if result == -errno.EFAULT else f"seccomp: {os.strerror(-result)}"


def install(*, cuda: bool, truncate_is_governed: bool) -> None:
    """Install the filter on this process, for good.

    Args:
        cuda: let an NVIDIA driver open its listening socket.
        truncate_is_governed: whether Landlock (version 3 or later) checks ``truncate``.

    Raises:
        RunError: the kernel refuses the filter.
    """
    machine = _machine()
    assert machine is not None, "the caller asks problem() first"
    verdicts = _verdicts(os.getpid(), cuda, truncate_is_governed)
    code = _filter(machine, verdicts)
    program = ctypes.create_string_buffer(code, len(code))
    handle = struct.pack("@HP", len(code) // 8, ctypes.addressof(program))
    flags = _SECCOMP_FILTER_FLAG_SPEC_ALLOW
    number = _SECCOMP[machine.column]
    assert number is not None, "both machines have the call"
    check(system_call(number, _SECCOMP_SET_MODE_FILTER, flags, handle), "seccomp filter")
