"""Which system calls the sandbox refuses: sockets, processes, and the rest of the rules."""

from __future__ import annotations

import os
import struct

import pytest

from benchmark.isolation import seccomp
from tests.benchmark.isolation.places import Places, needs_kernel


@needs_kernel
class TestNetwork:
    def test_no_socket_can_be_made(self, places: Places) -> None:
        places.passes("""
            import socket
            for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    assert refused(socket.socket, family, kind) == "EPERM"
            assert refused(socket.socketpair) == "EPERM"
            assert refused(socket.create_connection, ("127.0.0.1", 9)) == "EPERM"
        """)

    def test_a_socket_made_earlier_cannot_be_connected(self, places: Places) -> None:
        places.passes(
            """
            assert refused(early.connect, ("127.0.0.1", 9)) in ("EPERM", "EACCES")
            assert refused(early.bind, ("127.0.0.1", 0)) in ("EPERM", "EACCES")
            """,
            before="import socket; early = socket.socket()",
        )

    def test_an_inherited_pair_still_passes_a_descriptor(self, places: Places) -> None:
        """The harness sends the test images that way, after the lock."""
        places.passes(
            """
            _, (received,), _, _ = socket.recv_fds(child, 16, 1)
            assert os.read(received, 99) == b"labels"
            child.send(b"done")
            assert parent.recv(4) == b"done"
            """,
            before="""
                import socket
                parent, child = socket.socketpair()
                descriptor = os.open(outside / "labels.txt", os.O_RDONLY)
                socket.send_fds(parent, [b"test"], [descriptor])
                os.close(descriptor)
            """,
        )


@needs_kernel
class TestProcesses:
    def test_no_process_can_be_started(self, places: Places) -> None:
        places.passes("""
            import subprocess
            assert refused(os.fork) == "EPERM"
            assert refused(subprocess.run, ["/bin/true"]) == "EPERM"
            assert refused(os.execv, sys.executable, [sys.executable]) == "EPERM"
            assert refused(os.posix_spawn, "/bin/true", ["true"], {}) == "EPERM"
            assert os.system("true") != 0
        """)

    def test_threads_can(self, places: Places) -> None:
        places.passes("""
            seen = []
            threads = [threading.Thread(target=seen.append, args=(i,)) for i in range(8)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            assert sorted(seen) == list(range(8))
        """)

    def test_a_thread_is_locked_as_well(self, places: Places) -> None:
        places.passes("""
            seen = []
            work = lambda: seen.extend([refused(open, outside / "labels.txt"), refused(os.fork)])
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            assert seen == ["EACCES", "EPERM"]
        """)

    def test_no_other_process_can_be_signalled(self, places: Places) -> None:
        places.passes("""
            for target in (os.getppid(), 1, 0, -1, -os.getppid()):
                for number in (0, signal.SIGTERM):
                    assert refused(os.kill, target, number) == "EPERM"
            assert refused(os.killpg, os.getppid(), 0) == "EPERM"
            import fcntl, resource
            own = fcntl.F_SETOWN
            assert refused(fcntl.fcntl, 0, own, os.getppid()) == "EPERM"
            assert refused(resource.prlimit, os.getppid(), resource.RLIMIT_CPU) == "EPERM"
            assert resource.prlimit(0, resource.RLIMIT_CORE) == (0, 0)
        """)

    @pytest.mark.parametrize(
        ("death", "number"),
        [
            ("os.abort()", 6),
            ("os.kill(os.getpid(), signal.SIGTERM)", 15),
            ("signal.raise_signal(signal.SIGSEGV)", 11),
            ("ctypes.string_at(0)", 11),
        ],
    )
    def test_a_crash_still_looks_like_one(self, places: Places, death: str, number: int) -> None:
        assert places.run(death).returncode == -number


def judge(code: bytes, arch: int, number: int, arguments: tuple[int, ...]) -> int:
    """Run a filter over one system call, as the kernel would, on any machine."""
    call = struct.pack(
        "=iIQ6Q", number - (number >> 31 << 32), arch, 0, *arguments, *([0] * (6 - len(arguments)))
    )
    at = word = 0
    while True:
        operation, skip_if, skip_else, value = struct.unpack_from("=HBBI", code, at)
        at += 8
        if operation == 0x06:
            return int(value)
        if operation == 0x20:
            (word,) = struct.unpack_from("=I", call, value)
        elif operation == 0x54:
            word &= value
        else:
            holds = word == value if operation == 0x15 else word > value
            at += 8 * (skip_if if holds else skip_else)


X86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers are x86-64's")


# Each is allowed before the lock and refused after it: (what it does, the answer, its code).
BETWEEN_RUNS = [
    ("reads a file's generation", "EPERM", "fcntl.ioctl(file, 0x80087601, bytearray(8))"),
    ("reads a file's attributes", "EPERM", "fcntl.ioctl(file, 0x80086601, bytearray(8))"),
    ("locks a file", "EPERM", "fcntl.flock(file, fcntl.LOCK_SH)"),
    ("locks a range of a file", "EPERM", "fcntl.lockf(file, fcntl.LOCK_SH, 1)"),
    ("asks for a lock of an open file", "EPERM", "fcntl.fcntl(file, 36, record)"),
    ("takes a lock of an open file", "EPERM", "fcntl.fcntl(file, 37, record)"),
    ("takes a lease", "EPERM", "fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)"),
    ("reads a lease", "EPERM", "fcntl.fcntl(file, fcntl.F_GETLEASE)"),
    ("asks to be told of changes", "EPERM", "fcntl.fcntl(folder, fcntl.F_NOTIFY, 1)"),
    ("sets a hint of a file's use", "EPERM", "fcntl.fcntl(own, 1036, bytes(8))"),
    ("sets a pipe's size", "EPERM", "fcntl.fcntl(os.pipe()[0], 1031, 4096)"),
    ("asks which pages are cached", "EPERM", "mincore()"),
    ("counts cached pages", "EPERM", "raw(451, file, buffer, buffer, 0)"),
    ("reads only what is cached", "EPERM", "os.preadv(file, [bytearray(4)], 0, os.RWF_NOWAIT)"),
    ("drops pages of a file", "EPERM", "os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)"),
    ("reads ahead", "EPERM", "raw(187, file, 0, 4096)"),
    ("loads pages of a mapping", "EPERM", "mapping.madvise(mmap.MADV_WILLNEED)"),
    ("evicts pages of a mapping", "EPERM", "mapping.madvise(21)"),
    ("makes memory without a path", "EPERM", "os.memfd_create('x')"),
    ("takes blocks past a file's end", "EPERM", "raw(285, own, 1, 0, 4096)"),
    ("gives itself a processor set", "EPERM", "os.sched_setaffinity(0, os.sched_getaffinity(0))"),
    ("gives another one a processor set", "EPERM", "os.sched_setaffinity(parent, {0, 1})"),
    ("reads another's processor set", "ENOSYS", "os.sched_getaffinity(parent)"),
    ("sets a priority", "EPERM", "os.setpriority(os.PRIO_PROCESS, parent, 0)"),
    ("reads another's priority", "EPERM", "os.getpriority(os.PRIO_PROCESS, parent)"),
    ("sets a scheduler", "EPERM", "os.sched_setscheduler(parent, 0, os.sched_param(0))"),
    ("reads another's scheduler", "EPERM", "os.sched_getscheduler(parent)"),
    ("sets the priority of input and output", "EPERM", "raw(251, 1, 0, 2 << 13 | 4)"),
    ("reads another's", "EPERM", "raw(252, 1, parent, 0)"),
    ("opens the process at the other end", "EPERM", "pair.getsockopt(1, 77, 4)"),
    ("names the process at the other end", "EPERM", "pair.getsockopt(1, 17, 12)"),
    ("sets an option of a socket", "EPERM", "pair.setsockopt(1, 16, 1)"),
    ("waits for another process in a file", "EAGAIN", "futex(0, 0)"),
    ("reads the clock of another process", "EPERM", "time.clock_gettime(~parent << 3 | 2)"),
    ("reads another's group", "EPERM", "os.getpgid(parent)"),
    ("reads another's session", "EPERM", "os.getsid(parent)"),
    ("counts the blocks it has read", "EPERM", "resource.getrusage(resource.RUSAGE_SELF)"),
    ("hands requests to the kernel", "EPERM", "raw(206, 1, zeros)"),
    ("moves a file into a pipe", "EPERM", "os.splice(file, os.pipe()[1], 4)"),
    ("copies between pipes", "EPERM", "raw(276, full, os.pipe()[1], 1, 0)"),
    ("writes pages of a file out", "EPERM", "raw(277, own, 0, 0, 2)"),
    ("reads the capabilities of another", "EPERM", "raw(125, header, buffer)"),
    ("reads another's list of locks", "EPERM", "raw(274, parent, buffer, buffer)"),
    ("asks which memory node has a page", "EPERM", "raw(239, buffer, 0, 0, page, 3)"),
    ("moves a page to a memory node", "EPERM", "raw(237, page, 4096, 0, 0, 0, 2)"),
    ("asks where its pages are", "EPERM", "raw(279, 0, 0, 0, 0, 0, 0)"),
]
SETUP = """
    import fcntl, mmap, resource, socket, time
    file = os.open(allowed, os.O_RDONLY)
    folder = os.open(allowed.parent, os.O_RDONLY)
    own = os.open(scratch / "own", os.O_RDWR | os.O_CREAT)
    os.ftruncate(own, 8192)
    record = bytes([fcntl.F_RDLCK, 0, 0, 0]) + bytes(28)
    mapping = mmap.mmap(own, 8192)
    pair, other = socket.socketpair()
    parent = os.getppid()
    memory = [ctypes.create_string_buffer(4096) for _ in range(3)]
    buffer, zeros, header = map(ctypes.addressof, memory)
    memory[2].raw = (0x20080522).to_bytes(4, sys.byteorder) + parent.to_bytes(4, sys.byteorder)
    full, end = os.pipe()
    os.write(end, b"x")
    page = ctypes.addressof(ctypes.c_char.from_buffer(mapping))

    def raw(number, *arguments):
        if error := call(number, *arguments):
            raise OSError(getattr(errno, error), error)

    def mincore():
        raw(27, page, 4096, buffer)

    timeout = ctypes.create_string_buffer(bytes(8) + (10**6).to_bytes(8, sys.byteorder), 16)

    def futex(operation, value):
        try:  # allowed, it waits for 1 ms in vain
            raw(202, page, operation, value, ctypes.addressof(timeout), 0, 0)
        except TimeoutError:
            pass

    def action():
        CODE

    try:
        action()
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            sys.exit(UNSUPPORTED)
        raise
"""
UNSUPPORTED = 77


class TestBetweenRuns:
    """What one run could leave for another, or see of it."""

    @needs_kernel
    @X86_64
    @pytest.mark.parametrize(("code", "answer"), [(c, a) for _, a, c in BETWEEN_RUNS])
    def test_allowed_without_the_lock_and_refused_with_it(
        self, places: Places, code: str, answer: str
    ) -> None:
        before = SETUP.replace("CODE", code).replace("UNSUPPORTED", str(UNSUPPORTED))
        process = places.run(f"assert refused(action) == {answer!r}", before=before)
        if process.returncode == UNSUPPORTED:
            pytest.skip("this kernel or file system does not have it")
        assert process.returncode == 0, process.stderr

    @needs_kernel
    def test_a_process_may_still_ask_about_itself(self, places: Places) -> None:
        # The answers differ between machines (a session may be 0 in a namespace, a scheduler
        # "batch"), so each is compared with what it was before the lock.
        questions = """
            import time

            def about_itself():
                me = os.getpid()
                return [
                    (os.sched_getaffinity(who), os.getpriority(os.PRIO_PROCESS, who),
                     os.sched_getscheduler(who), os.getpgid(who), os.getsid(who))
                    for who in (0, me)
                ] + [os.getpgrp(), os.isatty(0)]

            answers = about_itself()
        """
        body = """
            assert about_itself() == answers, (about_itself(), answers)
            assert time.process_time() > 0 and time.thread_time() > 0
            os.set_blocking(os.pipe()[0], False)
            with open(scratch / "file", "w") as file:
                os.posix_fallocate(file.fileno(), 0, 4096)
        """
        places.passes(body, before=questions)


@needs_kernel
class TestSharedWaits:
    """Futexes that are not private: C and C++ use them between threads as well."""

    @X86_64
    def test_two_threads_that_wait_so_do_not_hang(self, places: Places) -> None:
        """As the C++ library does for a static variable that two threads need at once."""
        places.passes("""
            word = (ctypes.c_int * 1)(1)

            def wait():
                while word[0] == 1:
                    call(202, ctypes.addressof(word), 0, 1, 0, 0, 0)

            threads = [threading.Thread(target=wait) for _ in range(2)]
            [thread.start() for thread in threads]
            word[0] = 2
            assert call(202, ctypes.addressof(word), 1, 2**31 - 1, 0, 0, 0) is None
            [thread.join(timeout=20) for thread in threads]
            assert not any(thread.is_alive() for thread in threads)
        """)

    def test_a_thread_of_the_c_library_is_joined(self, places: Places) -> None:
        places.passes(
            """
            libc = ctypes.CDLL(None)
            work = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: time.sleep(0.2))
            thread = ctypes.c_ulong()
            assert libc.pthread_create(ctypes.byref(thread), None, work, None) == 0
            assert libc.pthread_join(thread, None) == 0
        """,
            before="import time",
        )


class TestSystemCalls:
    @needs_kernel
    @X86_64
    def test_the_ways_around_are_closed(self, places: Places) -> None:
        """A second copy of the numbers, so that a wrong one in the table is found."""
        places.passes("""
            numbers = {
                "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
                "pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424,
                "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
                "shmget": 29, "shmat": 30, "semget": 64, "msgget": 68, "mq_open": 240,
                "add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321,
                "perf_event_open": 298, "userfaultfd": 323, "unshare": 272, "setns": 308,
                "mount": 165, "umount2": 166, "chroot": 161, "pivot_root": 155, "open_tree": 428,
                "name_to_handle_at": 303, "open_by_handle_at": 304, "inotify_add_watch": 254,
                "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "kexec_load": 246,
                "init_module": 175, "finit_module": 313, "reboot": 169, "swapon": 167,
                "rt_sigqueueinfo": 129, "tkill": 200,
            }
            for name, number in numbers.items():
                assert call(number, 0, 0, 0, 0, 0) == "EPERM", name
            assert call(56, signal.SIGCHLD) == "EPERM", "clone of a process"
            assert call(56, 0x00010000 | 0x10000000) == "EPERM", "clone into a namespace"
            assert call(435, 0, 0) == "ENOSYS", "clone3"
            assert call(0x40000000 + 39) == "ENOSYS", "getpid of the x32 kind"
            assert call(470) == "ENOSYS", "a call of the future"
            assert call(39) is None, "getpid"
        """)

    @pytest.mark.parametrize("cuda", [False, True])
    @pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
    def test_arguments_decide_on_both_architectures(self, machine: str, cuda: bool) -> None:
        def answer(call: str, *arguments: int) -> int:
            number = (seccomp._REFUSED | seccomp._CONDITIONAL)[call][column]
            assert number is not None
            return judge(code, arch, number, arguments)

        allow, refuse, unknown = seccomp._ALLOW, seccomp._REFUSE, seccomp._UNKNOWN
        arch, column = seccomp._MACHINES[machine].audit_arch, seccomp._MACHINES[machine].column
        code = seccomp._filter(seccomp._MACHINES[machine], seccomp._verdicts(4711, cuda, False))
        assert {answer(call, 4711) for call in ("kill", "tgkill", "rt_sigqueueinfo")} == {allow}
        assert {answer(call, 4712) for call in ("kill", "tgkill", "rt_sigqueueinfo")} == {refuse}
        assert answer("clone", 0x003D0F00) == allow, "what pthread_create passes"
        assert answer("clone", 0x00004111) == refuse, "what posix_spawn passes"
        assert answer("clone", 0x003D0F00 | 0x40000000) == refuse, "a thread with its own network"
        assert answer("clone3") == unknown
        assert answer("prlimit64", 0) == allow
        assert answer("prlimit64", 1) == refuse
        assert answer("fcntl", 0, 8) == refuse, "F_SETOWN"
        assert answer("fcntl", 0, 3) == allow, "F_GETFL"
        for command in (5, 6, 7, 9, 16, 36, 37, 38, 1024, 1025, 1026, 1031, 1032, 1033, 1036):
            assert answer("fcntl", 0, command) == refuse, f"fcntl {command}"
        assert answer("ioctl", 0, 0x5401) == allow, "TCGETS"
        for command in (0x5412, 0x541C, 0x8901, 0x80087601, 0x40087602, 0x40086602, 0x40049409):
            assert answer("ioctl", 0, command) == refuse, f"ioctl {command:#x}"
        for command in (0xC020462A, 0xC0104629, 0x30000001, 0x30000002, 0x17, 0x4B):
            assert answer("ioctl", 0, command) == (allow if cuda else refuse), f"{command:#x}"
        assert answer("fallocate", 3, 0) == allow
        assert {answer("fallocate", 3, mode) for mode in (1, 2, 3, 8, 16, 32)} == {refuse}
        assert answer("preadv2", 3, 0, 1, 0, 0, 0) == allow
        assert answer("preadv2", 3, 0, 1, 0, 0, 8) == refuse, "RWF_NOWAIT"
        assert {answer("madvise", 0, 0, a) for a in (0, 1, 2, 4, 8, 14)} == {allow}
        assert {answer("madvise", 0, 0, a) for a in (3, 9, 12, 20, 21, 22, 23, 25)} == {refuse}
        assert {answer("prctl", option) for option in (3, 4, 15, 16, 38, 0x53564D41)} == {allow}
        assert {answer("prctl", option) for option in (1, 62, 67, 0x59616D61)} == {refuse}
        assert answer("get_robust_list", 0) == answer("mbind", 0, 0, 0, 0, 0, 0) == allow
        assert answer("mbind", 0, 0, 0, 0, 0, 2) == refuse, "MPOL_MF_MOVE"
        assert answer("get_mempolicy", 0, 0, 0, 0, 0) == allow
        assert answer("get_mempolicy", 0, 0, 0, 0, 3) == refuse, "the node of a page"
        private = (0, 1, 3, 4, 5, 9, 10)
        assert {answer("futex", 0, op | 128) for op in private} == {allow}
        again, nothing = 0x00050000 | 11, 0x00050000
        assert {answer("futex", 0, op) for op in (0, 9, 9 | 256, 256)} == {again}, "waiting"
        assert {answer("futex", 0, op) for op in (1, 10)} == {nothing}, "waking others"
        assert {answer("futex", 0, op) for op in (3, 4, 5, 6, 7, 11, 12)} == {refuse}
        assert answer("getsockopt", 3, 1, 3) == allow, "SO_TYPE"
        assert answer("getsockopt", 3, 1, 77) == refuse, "SO_PEERPIDFD"
        assert answer("getsockopt", 3, 1, 17) == refuse, "SO_PEERCRED"
        assert answer("setsockopt", 3, 1, 76) == refuse, "SO_PASSPIDFD"
        for call in ("sched_getscheduler", "sched_getattr", "getpgid", "getsid"):
            assert answer(call, 0) == answer(call, 4711) == allow
            assert answer(call, 4712) == refuse
        assert answer("sched_getaffinity", 0) == answer("sched_getaffinity", 4711) == allow
        assert answer("sched_getaffinity", 4712) == unknown
        assert answer("getpriority", 0, 0) == answer("getpriority", 0, 4711) == allow
        assert answer("getpriority", 0, 4712) == answer("getpriority", 1, 0) == refuse
        assert answer("ioprio_get", 1, 0) == allow
        assert answer("ioprio_get", 1, 4712) == answer("ioprio_get", 2, 0) == refuse
        for call in ("clock_gettime", "clock_getres", "clock_nanosleep", "timer_create"):
            assert {answer(call, clock) for clock in (0, 1, 2, 3, 7)} == {allow}
            assert answer(call, (~4712 << 3 | 2) & 0xFFFFFFFF) == refuse, "a process's clock"
        assert answer("truncate") == refuse
        assert answer("socket", 1, 5 | 0x80000) == (allow if cuda else refuse)
        assert answer("socket", 1, 1) == answer("socket", 2, 5) == answer("connect") == refuse
        assert judge(code, arch, 0x40000000, ()) == judge(code, arch, 2**32 - 1, ()) == unknown
        assert judge(code, 0x40000003, 0, ()) == refuse, "a 32-bit call"

    def test_no_number_stands_twice(self) -> None:
        for column in (0, 1):
            table = seccomp._REFUSED | seccomp._CONDITIONAL
            numbers = [number for n in table.values() if (number := n[column]) is not None]
            assert len(numbers) == len(set(numbers))
            assert max(numbers) <= seccomp._LAST_KNOWN_CALL
