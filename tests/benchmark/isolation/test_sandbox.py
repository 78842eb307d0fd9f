"""What untrusted code can and cannot do with files, imports and devices in the sandbox."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pytest

from benchmark.errors import RunError
from benchmark.folders import ROOT
from benchmark.isolation import allowlist
from benchmark.isolation.allowlist import _Closed
from benchmark.isolation.sandbox import Sandbox
from tests.benchmark.isolation.places import Places, needs_kernel, offer


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


def is_open(path: Path, opened: list[Path]) -> bool:
    """Whether a path is one of the opened ones, or inside one."""
    return any(path.resolve().is_relative_to(root) for root in opened)


SEPARATE = """
from benchmark.isolation.kernel import separate_mounts
if not separate_mounts():
    sys.exit(77)
"""


@needs_kernel
class TestOtherProcesses:
    """What ``stat`` tells of others, which Landlock lets through."""

    BODY = """
        aged = allowed.stat().st_atime_ns
        assert allowed.read_text() == "images"
        read_shows = allowed.stat().st_atime_ns != aged
        others_show = Path(f"/proc/{os.getppid()}/fd").exists()
        assert Path("/proc/self/fd").exists()
        print(read_shows, others_show)
    """

    def test_they_are_seen_without_separate_mounts(self, places: Places) -> None:
        os.utime(places.allowed, (0, 0))
        read_shows, others_show = places.run(self.BODY).stdout.split()
        assert others_show == "True"
        if read_shows == "False":
            pytest.skip("this file system does not keep access times")

    def test_they_are_not_seen_with_separate_mounts(self, places: Places) -> None:
        os.utime(places.allowed, (0, 0))
        process = places.run(self.BODY, before=SEPARATE)
        if process.returncode == 77:
            pytest.skip("a mount namespace takes privileges that this user does not have")
        assert process.stdout.split() == ["False", "False"], process.stderr


class TestImports:
    @needs_kernel
    def test_what_was_not_imported_yet_can_be(self, places: Places) -> None:
        places.passes("""
            late = {"plistlib", "decimal", "xml.dom.minidom", "numpy", "pandas", "click"}
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
        assert {p.name for p in allowlist._packages(site, _Closed(()))} == {"numpy", "six.py"}

    def test_so_do_they_in_an_egg(self, tmp_path: Path) -> None:
        for package in ("leaderboard", "other"):
            (tmp_path / "bench-1.0.egg" / package).mkdir(parents=True)
        egg = tmp_path / "bench-1.0.egg"
        assert list(allowlist._packages(tmp_path, _Closed(()))) == [egg / "other"]

    @pytest.mark.parametrize("is_layered", [False, True])
    @pytest.mark.parametrize(
        "site",
        [
            "lib/python3.11/site-packages",  # pyenv, uv, conda and python.org
            "lib/python3/dist-packages",  # Debian
            "lib/python3.11/dist-packages",
            "lib/pypy3.11/site-packages",
            "lib/other/python3.12/site-packages",
            "lib/tool/bundled/unix/lib/python3.12/site-packages",
        ],
    )
    def test_the_packages_of_the_interpreter_below_are_closed_or_opened_one_by_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str, is_layered: bool
    ) -> None:
        """In a virtual environment they are not imported, unless it includes the system's."""
        base = tmp_path / "base"
        for name in ("lib/python3.11/json", f"{site}/leaderboard", f"{site}/numpy"):
            (base / name).mkdir(parents=True)
        roots = [str(base / "lib" / "python3.11"), str(base / "lib")]
        monkeypatch.setattr(allowlist, "_standard_library", lambda: roots)
        sites = [base / site] if is_layered else []
        monkeypatch.setattr(allowlist, "_site_folders", lambda: sites)
        paths = allowlist.interpreter_paths()
        opened = {name for name in ("leaderboard", "numpy") if is_open(base / site / name, paths)}
        assert opened == ({"numpy"} if is_layered else set())
        assert is_open(base / "lib/python3.11/json", paths)

    def test_copies_of_the_private_packages_are_closed_wherever_they_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("tool/app/leaderboard", "tool/app/other", "data_manifests"):
            (tmp_path / name).mkdir(parents=True)
        monkeypatch.setattr(allowlist, "_standard_library", lambda: [str(tmp_path)])
        paths = allowlist.interpreter_paths()
        assert is_open(tmp_path / "tool/app/other", paths)
        assert not is_open(tmp_path / "tool/app/leaderboard", paths)
        assert not is_open(tmp_path / "data_manifests", paths)

    def test_this_interpreters_own_layout_leaves_them_closed(self) -> None:
        paths = allowlist.interpreter_paths()
        for folder in map(Path, {*sys.path, sys.base_prefix, sysconfig.get_path("stdlib")}):
            for private in folder.glob("**/data_manifests"):
                assert not is_open(private, paths)

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
        inside = allowlist._packages(site, _Closed([cache / "labels"]))
        assert list(inside) == [cache / "innocent"]
        assert list(allowlist._packages(site, _Closed([cache]))) == []


class TestMistakes:
    def test_a_path_that_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"nowhere.*does not exist"):
            Sandbox().enter(read=[tmp_path / "nowhere"])

    def test_a_path_that_holds_a_closed_folder_is_refused(self, tmp_path: Path) -> None:
        cache = tmp_path / "cache"
        cache.mkdir()
        with pytest.raises(RunError, match="which runs must not read"):
            Sandbox(never=[cache]).enter(read=[tmp_path])

    @pytest.mark.parametrize("read", ["leaderboard", "leaderboard/scores.py", "."])
    def test_neither_can_a_copy_of_our_private_packages(self, tmp_path: Path, read: str) -> None:
        package = tmp_path / "leaderboard"
        package.mkdir()
        for name in ("__init__.py", "scores.py"):
            (package / name).touch()
        with pytest.raises(RunError, match=r"leaderboard.*must not read"):
            Sandbox().enter(read=[tmp_path / read])

    def test_the_checkout_cannot_be_opened_as_a_whole(self) -> None:
        with pytest.raises(RunError, match=r"data_manifests.*must not read"):
            Sandbox().enter(read=[ROOT])

    @needs_kernel
    def test_a_process_with_threads_is_not_locked(self, places: Places) -> None:
        process = places.run(
            "", before="threading.Thread(target=threading.Event().wait, daemon=True).start()"
        )
        assert "it must have exactly one thread, but has 2" in process.stderr

    @needs_kernel
    def test_a_second_lock_cannot_widen_the_first(self, places: Places) -> None:
        places.passes("""
            from benchmark.errors import RunError
            try:
                Sandbox().enter(read=[outside])
            except RunError as error:
                assert "already sandboxed" in str(error)
            assert refused(open, outside / "labels.txt") == "EACCES"
        """)


@needs_kernel
class TestFacts:
    def test_the_facts_name_what_is_in_force(self, places: Places) -> None:
        process = places.run("print(*facts)")
        assert process.stdout.split() == [
            "no-new-privileges",
            "no-capabilities",
            f"landlock-abi-{offer.landlock}",
            "no-filesystem",
            "no-network",
            "no-processes",
            "no-inspection",
        ]

    def test_no_fact_is_claimed_for_what_the_kernel_lacks(self, places: Places) -> None:
        without = (
            "import benchmark.isolation.sandbox as s; s.available = lambda: s.Availability({})"
        )
        process = places.run("print(*facts)", before=without.format("0, True, ()"))
        assert "no-filesystem" not in process.stdout
        assert "no-network" in process.stdout
        process = places.run("print(*facts)", before=without.format(f"{offer.landlock}, False, ()"))
        assert "no-filesystem" in process.stdout
        assert "no-network" not in process.stdout

    @pytest.mark.parametrize("abi", range(1, offer.landlock + 1))
    def test_an_older_landlock_is_used_as_far_as_it_goes(self, places: Places, abi: int) -> None:
        places.passes(
            """
            assert allowed.read_text() == "images"
            assert refused(open, outside / "labels.txt") == "EACCES"
            assert refused(os.truncate, outside / "labels.txt", 0) in ("EACCES", "EPERM")
            (scratch / "x.txt").write_text("x")
            """,
            before="import benchmark.isolation.sandbox as s;"
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
