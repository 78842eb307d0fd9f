"""What untrusted code can and cannot do in a locked process; each test locks a fresh one."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmark.errors import RunError
from benchmark.folders import ROOT
from benchmark.runs import sandbox
from benchmark.runs.sandbox import Sandbox, available, interpreter_paths

offer = available()
needs_kernel = pytest.mark.skipif(bool(offer.missing), reason="; ".join(offer.missing))

# Runs before the body of a test: locks, then hands the body a few short names.
PREAMBLE = """
import ctypes, errno, os, signal, sys, threading
from pathlib import Path
from benchmark.runs.sandbox import Sandbox

allowed, outside, scratch = (Path(name) for name in sys.argv[1:4])

def refused(action, *arguments):
    '''The error's name, or None if the action went through.'''
    try:
        action(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]

def call(number, *arguments):
    '''A raw system call: the error's name, or None.'''
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments))
    return errno.errorcode[ctypes.get_errno()] if answer < 0 else None
"""
LOCK = "facts = Sandbox(cuda={cuda}).lock(read=[allowed], write=[scratch])\n"


@dataclass(frozen=True)
class Places:
    """A file to read, a folder that is nobody's business, and a folder to write."""

    allowed: Path
    outside: Path
    scratch: Path

    def run(
        self, body: str, *, before: str = "", cuda: bool = False, fds: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run ``before``, lock, run ``body``, each in the names of the preamble."""
        lock = LOCK.format(cuda=cuda)
        script = PREAMBLE + textwrap.dedent(before) + "\n" + lock + textwrap.dedent(body)
        root = ROOT
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, (self.allowed, self.outside, self.scratch))],
            env={"PYTHONPATH": str(root), "OMP_WAIT_POLICY": "passive"},
            pass_fds=fds,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def passes(
        self, body: str, *, before: str = "", cuda: bool = False, fds: tuple[int, ...] = ()
    ) -> None:
        """The same, for a body of assertions that hold."""
        done = self.run(body, before=before, cuda=cuda, fds=fds)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def places(tmp_path: Path) -> Places:
    allowed, outside, scratch = (tmp_path / name for name in ("allowed.txt", "outside", "scratch"))
    outside.mkdir()
    scratch.mkdir()
    allowed.write_text("images")
    (outside / "labels.txt").write_text("labels")
    return Places(allowed, outside, scratch)


@needs_kernel
class TestFiles:
    def test_only_what_is_listed_can_be_read(self, places: Places) -> None:
        places.passes("""
            assert allowed.read_text() == "images"
            assert refused(open, outside / "labels.txt") == "EACCES"
            assert refused(os.listdir, outside) == "EACCES"
            assert refused(os.listdir, "/") == "EACCES"
            assert refused(open, allowed, "a") == "EACCES"
        """)

    def test_a_listed_folder_can_be_read_as_a_whole(self, places: Places) -> None:
        before = "allowed = outside"
        places.passes(
            """
            assert os.listdir(allowed) == ["labels.txt"]
            assert (allowed / "labels.txt").read_text() == "labels"
            assert refused(open, allowed / "new.txt", "w") == "EACCES"
            """,
            before=before,
        )

    def test_an_open_descriptor_goes_on_reading_but_cannot_be_opened_again(
        self, places: Places
    ) -> None:
        places.passes(
            """
            assert labels.read() == "labels"
            assert refused(open, f"/proc/self/fd/{labels.fileno()}") == "EACCES"
            assert refused(open, f"/dev/fd/{labels.fileno()}") == "EACCES"
            """,
            before='labels = open(outside / "labels.txt")',
        )

    def test_proc_is_closed(self, places: Places) -> None:
        places.passes("""
            parent = os.getppid()
            for name in ["self/maps", "self/environ", "self/mem", f"{parent}/environ",
                         f"{parent}/maps", f"{parent}/cmdline", "self/mountinfo", "net/tcp"]:
                assert refused(open, "/proc/" + name) == "EACCES", name
            assert refused(os.listdir, "/proc") == "EACCES"
            assert refused(os.readlink, f"/proc/{parent}/cwd") == "EACCES"
            assert "processor" in Path("/proc/cpuinfo").read_text()
        """)

    def test_the_scratch_folder_can_be_used_freely(self, places: Places) -> None:
        places.passes("""
            (scratch / "a").mkdir()
            (scratch / "b").mkdir()
            (scratch / "a" / "x.txt").write_text("one")
            os.replace(scratch / "a" / "x.txt", scratch / "b" / "x.txt")
            assert (scratch / "b" / "x.txt").read_text() == "one"
            os.truncate(scratch / "b" / "x.txt", 0)
            (scratch / "b" / "x.txt").unlink()
            (scratch / "a").rmdir()
            assert os.listdir(scratch) == ["b"]
        """)

    def test_nothing_outside_the_scratch_folder_can_be_changed(self, places: Places) -> None:
        places.passes("""
            labels, mine = outside / "labels.txt", scratch / "mine.txt"
            mine.write_text("mine")
            assert refused((outside / "new.txt").write_text, "x") == "EACCES"
            assert refused((outside / "new").mkdir) == "EACCES"
            assert refused(os.truncate, labels, 0) in ("EACCES", "EPERM")
            assert refused(labels.unlink) == "EACCES"
            assert refused(os.rename, mine, outside / "mine.txt") in ("EACCES", "EXDEV")
            assert refused(os.rename, labels, scratch / "labels.txt") in ("EACCES", "EXDEV")
            assert refused(os.link, mine, outside / "mine.txt") in ("EACCES", "EXDEV")
            assert refused(os.link, labels, scratch / "labels.txt") in ("EACCES", "EXDEV")
            assert refused(os.chmod, labels, 0o777) == "EPERM"
            assert refused(os.utime, labels) == "EPERM"
            assert refused(os.setxattr, labels, "user.note", b"x") == "EPERM"
        """)
        assert (places.outside / "labels.txt").read_text() == "labels"

    def test_links_lead_nowhere(self, places: Places) -> None:
        (places.scratch / "old").symlink_to(places.outside / "labels.txt")
        places.passes("""
            assert refused(open, scratch / "old") == "EACCES"
            assert refused(os.symlink, outside / "labels.txt", scratch / "new") == "EACCES"
            assert refused(os.mkfifo, scratch / "pipe") == "EACCES"
        """)

    def test_writing_to_the_null_device_works(self, places: Places) -> None:
        places.passes("""
            with open(os.devnull, "w") as null:
                null.write("x")
            assert len(os.urandom(8)) == len(open("/dev/urandom", "rb").read(8)) == 8
        """)


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

    def test_an_inherited_pair_still_brings_a_descriptor(self, places: Places) -> None:
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


class TestSystemCalls:
    @needs_kernel
    @X86_64
    def test_the_ways_around_are_closed(self, places: Places) -> None:
        """Numbers written out anew, so that a wrong one in the table is seen."""
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
            number = (sandbox._REFUSED | sandbox._JUDGED)[call][column]
            assert number is not None
            return judge(code, arch, number, arguments)

        allow, refuse, unknown = sandbox._ALLOW, sandbox._REFUSE, sandbox._UNKNOWN
        arch, column = sandbox._MACHINES[machine].audit_arch, sandbox._MACHINES[machine].column
        code = sandbox._filter(sandbox._MACHINES[machine], sandbox._judges(4711, cuda, False))
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
        assert answer("ioctl", 0, 0x5412) == refuse, "TIOCSTI"
        assert answer("ioctl", 0, 0x5401) == allow, "TCGETS"
        assert answer("truncate") == refuse
        assert answer("socket", 1, 5 | 0x80000) == (allow if cuda else refuse)
        assert answer("socket", 1, 1) == answer("socket", 2, 5) == answer("connect") == refuse
        assert judge(code, arch, 0x40000000, ()) == judge(code, arch, 2**32 - 1, ()) == unknown
        assert judge(code, 0x40000003, 0, ()) == refuse, "a 32-bit call"

    def test_no_number_stands_twice(self) -> None:
        for column in (0, 1):
            table = sandbox._REFUSED | sandbox._JUDGED
            numbers = [number for n in table.values() if (number := n[column]) is not None]
            assert len(numbers) == len(set(numbers))
            assert max(numbers) <= sandbox._LAST_KNOWN_CALL


class TestImports:
    @needs_kernel
    def test_what_was_not_imported_yet_can_be(self, places: Places) -> None:
        places.passes("""
            late = {"json", "decimal", "xml.dom.minidom", "numpy", "pandas", "click", "rich.table"}
            assert late.isdisjoint(sys.modules)
            import importlib, importlib.metadata, zoneinfo
            importlib.invalidate_caches()
            for name in late:
                importlib.import_module(name)
            assert importlib.metadata.version("numpy")
        """)

    def test_the_packages_of_the_labels_stay_closed(self, tmp_path: Path) -> None:
        """An installed wheel puts them beside every other package."""
        site = tmp_path / "lib" / "site-packages"
        for package in ("data_manifests", "leaderboard", "numpy"):
            (site / package).mkdir(parents=True)
        (site / "six.py").touch()
        (site / "checkout.pth").write_text("/somewhere")
        assert {p.name for p in sandbox._packages(site, ())} == {"numpy", "six.py"}

    @needs_kernel
    def test_a_neighbour_of_those_packages_can_be_imported(self, places: Places) -> None:
        site = places.outside / "site-packages"
        for package in ("data_manifests", "neighbour"):
            (site / package).mkdir(parents=True)
            (site / package / "__init__.py").write_text("label = 1")
        places.passes(
            """
            import neighbour
            assert neighbour.label == 1
            assert refused(open, outside / "site-packages/data_manifests/__init__.py") == "EACCES"
            assert refused(open, outside / "labels.txt") == "EACCES"
            """,
            before='sys.path.append(str(outside / "site-packages"))',
        )

    def test_a_link_from_site_packages_to_a_closed_folder_is_not_followed(
        self, tmp_path: Path
    ) -> None:
        cache, site = tmp_path / "cache", tmp_path / "site-packages"
        for folder in (cache / "labels", cache / "innocent", site):
            folder.mkdir(parents=True)
        (site / "labels").symlink_to(cache / "labels")
        (site / "all").symlink_to(cache)
        assert list(sandbox._packages(site, [cache / "labels"])) == [cache / "innocent"]
        assert list(sandbox._packages(site, [cache])) == []


class TestPaths:
    def test_no_path_covers_a_folder_that_holds_more_than_code(self) -> None:
        paths = interpreter_paths()
        checkout = ROOT
        forbidden = [Path("/"), Path.home(), Path("/tmp"), Path("/proc"), Path("/etc"), checkout]
        forbidden += [
            Path(sys.prefix),
            Path(sys.base_prefix),
            Path("/usr"),
            *sandbox._site_folders(),
        ]
        for folder in forbidden:
            assert not [path for path in paths if folder.is_relative_to(path)], folder

    def test_a_closed_folder_is_left_out_and_its_neighbours_are_not(self) -> None:
        import json

        package = Path(json.__file__).parent.resolve()
        paths = interpreter_paths(never=[package])
        assert not [path for path in paths if package.is_relative_to(path)]
        assert package.parent / "decimal.py" in paths

    def test_asking_changes_nothing(self) -> None:
        assert available() == offer
        assert bool(offer.missing) == (offer.landlock == 0 or not offer.seccomp)


class TestMistakes:
    def test_a_path_that_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"nowhere.*no such file"):
            Sandbox().lock(read=[tmp_path / "nowhere"])

    def test_a_path_that_holds_a_closed_folder_is_refused(self, tmp_path: Path) -> None:
        cache = tmp_path / "cache"
        cache.mkdir()
        with pytest.raises(RunError, match="which a run must not see"):
            Sandbox(never=[cache]).lock(read=[tmp_path])

    def test_the_checkout_cannot_be_opened_as_a_whole(self) -> None:
        with pytest.raises(RunError, match=r"data_manifests.*must not see"):
            Sandbox().lock(read=[ROOT])

    @needs_kernel
    def test_a_process_with_threads_is_not_locked(self, places: Places) -> None:
        done = places.run(
            "", before="threading.Thread(target=threading.Event().wait, daemon=True).start()"
        )
        assert "it has 2 threads and must have one" in done.stderr

    @needs_kernel
    def test_a_second_lock_cannot_widen_the_first(self, places: Places) -> None:
        places.passes("""
            from benchmark.errors import RunError
            try:
                Sandbox().lock(read=[outside])
            except RunError as error:
                assert "locked already" in str(error)
            assert refused(open, outside / "labels.txt") == "EACCES"
        """)


@needs_kernel
class TestFacts:
    def test_the_facts_name_what_is_in_force(self, places: Places) -> None:
        done = places.run("print(*facts)")
        assert done.stdout.split() == [
            "no-new-privileges",
            "no-capabilities",
            f"landlock-abi-{offer.landlock}",
            "no-filesystem",
            "no-network",
            "no-processes",
            "no-inspection",
        ]

    def test_no_fact_is_claimed_for_what_the_kernel_lacks(self, places: Places) -> None:
        without = "import benchmark.runs.sandbox as s; s.available = lambda: s.Availability({})"
        done = places.run("print(*facts)", before=without.format("0, True, ()"))
        assert "no-filesystem" not in done.stdout
        assert "no-network" in done.stdout
        done = places.run("print(*facts)", before=without.format(f"{offer.landlock}, False, ()"))
        assert "no-filesystem" in done.stdout
        assert "no-network" not in done.stdout

    @pytest.mark.parametrize("abi", range(1, offer.landlock + 1))
    def test_an_older_landlock_is_used_as_far_as_it_goes(self, places: Places, abi: int) -> None:
        places.passes(
            """
            assert allowed.read_text() == "images"
            assert refused(open, outside / "labels.txt") == "EACCES"
            assert refused(os.truncate, outside / "labels.txt", 0) in ("EACCES", "EPERM")
            (scratch / "x.txt").write_text("x")
            """,
            before="import benchmark.runs.sandbox as s;"
            f"s.available = lambda: s.Availability({abi}, True, ())",
        )


@needs_kernel
class TestCuda:
    """What a GPU's driver needs, as far as it can be tried without one."""

    def test_its_listening_socket_can_be_made_and_nothing_connected(self, places: Places) -> None:
        places.passes(
            """
            import socket
            own = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            own.bind(b"\\0test-" + str(os.getpid()).encode())
            own.listen()
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
                assert refused(other.connect, own.getsockname()) == "EPERM"
                assert refused(other.bind, str(scratch / "socket")) == "EACCES"
            assert refused(socket.socket, socket.AF_UNIX, socket.SOCK_DGRAM) == "EPERM"
            assert refused(socket.socket, socket.AF_INET, socket.SOCK_SEQPACKET) == "EPERM"
            assert refused(socket.socket) == "EPERM"
            """,
            cuda=True,
        )

    def test_it_names_its_threads_and_sees_no_other_process(self, places: Places) -> None:
        places.passes(
            """
            def name():
                Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("cuda")
                names.append(Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/comm")
                             .read_text())
            names = []
            thread = threading.Thread(target=name)
            thread.start()
            thread.join()
            assert names == ["cuda\\n"]
            assert refused(open, f"/proc/{os.getppid()}/environ") == "EACCES"
            assert refused(open, f"/proc/self/fd/{labels.fileno()}") == "EACCES"
            assert refused(open, f"/proc/self/root{outside}/labels.txt") == "EACCES"
            assert refused(open, f"/proc/self/cwd/x", "w") == "EACCES"
            """,
            before='labels = open(outside / "labels.txt")',
            cuda=True,
        )


@needs_kernel
def test_torch_trains_and_answers_through_an_open_file(places: Places) -> None:
    """On one thread and on two, in children forked from a process that only imported it."""
    answer = os.open(places.outside / "answer", os.O_RDWR | os.O_CREAT)
    places.passes(
        f"""
        torch.set_num_threads(threads)
        assert torch.get_num_threads() == threads
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten()]
        model = torch.nn.Sequential(*layers, torch.nn.Linear(8 * 30 * 30, 4))
        images, labels = torch.randn(64, 3, 32, 32), torch.arange(64) % 4
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        losses = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        assert torch.linalg.svd(torch.randn(64, 64)).S.isfinite().all()
        import safetensors.torch
        logits = model(images).detach()
        os.write({answer}, safetensors.torch.save({{f"logits{{threads}}": logits}}))
        torch.save(logits, scratch / "logits.pt")
        """,
        before="""
            os.environ["TMPDIR"] = str(scratch)  # torch._dynamo makes a cache folder there
            import torch, torch._dynamo
            for threads in (1, 2):
                child = os.fork()
                if not child:
                    break
                if status := os.waitpid(child, 0)[1]:
                    sys.exit(os.waitstatus_to_exitcode(status))
            else:
                sys.exit(0)
        """,
        fds=(answer,),
    )
    answers = os.pread(answer, 10_000, 0)
    os.close(answer)
    assert b"logits1" in answers
    assert b"logits2" in answers
