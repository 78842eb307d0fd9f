"""Control groups for runs, on a folder that looks like the kernel's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.executors.local import slots
from benchmark.isolation import cgroup
from benchmark.pool import POOL_FROM, worker_count


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The group of a service that is handed to this process, which is alone in it."""
    base = tmp_path / "user.slice" / "bench.scope"
    base.mkdir(parents=True)
    (base / "cgroup.controllers").write_text("cpu memory pids\n")
    (base / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (base / "cgroup.subtree_control").write_text("")
    (tmp_path / "own").write_text("1:name=old:/\n0::/user.slice/bench.scope\n")
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    monkeypatch.setattr(cgroup, "OWN", tmp_path / "own")
    return base


class TestMemoryLimit:
    def test_the_smallest_of_all_groups_above(self, tree: Path) -> None:
        assert cgroup.memory_limit() is None
        (tree / "memory.max").write_text("max\n")
        (tree.parent / "memory.max").write_text("3000\n")
        (cgroup.ROOT / "memory.max").write_text("4000\n")
        assert cgroup.memory_limit() == 3000

    def test_version_1_in_a_container(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cgroup, "ROOT_V1", tree)
        cgroup.OWN.write_text("4:cpu,memory:/docker/of-the-host\n1:name=old:/\n")
        (tree / "memory.limit_in_bytes").write_text("5000\n")
        assert cgroup.memory_limit() == 5000

    def test_none_on_other_systems(self, tree: Path) -> None:
        cgroup.OWN.unlink()
        assert cgroup.memory_limit() is None


class TestCores:
    @pytest.fixture(autouse=True)
    def _sixteen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda who: set(range(16)), raising=False)

    @pytest.mark.parametrize(
        ("quotas", "count"),
        [
            (("max 100000\n", "max 100000\n"), 16),
            (("max 100000\n", "400000 100000\n"), 4),
            (("150000 100000\n", "400000 100000\n"), 2),
            (("5000 100000\n", "max 100000\n"), 1),
            (("9900000 100000\n", "max 100000\n"), 16),
            (("", "damaged"), 16),
        ],
    )
    def test_the_smallest_quota_of_all_groups_above(
        self, tree: Path, quotas: tuple[str, str], count: int
    ) -> None:
        for folder, text in zip((tree, tree.parent), quotas, strict=True):
            (folder / "cpu.max").write_text(text)
        assert cgroup.cores() == slots("cpu") == worker_count(POOL_FROM) == count
        assert slots("cuda") == worker_count(POOL_FROM - 1) == 1

    @pytest.mark.parametrize(("quota", "count"), [("-1", 16), ("250000", 3)])
    def test_version_1_in_a_container(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch, quota: str, count: int
    ) -> None:
        monkeypatch.setattr(cgroup, "CPU_ROOT_V1", tree)
        cgroup.OWN.write_text("4:cpu,cpuacct:/docker/of-the-host\n1:name=old:/\n")
        (tree / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (tree / "cpu.cfs_period_us").write_text("100000\n")
        assert cgroup.cores() == count

    def test_systems_without_processor_sets(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Such as macOS."""
        cgroup.OWN.unlink()
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        assert slots("cpu") == 8


class TestDelegated:
    def test_a_group_of_our_own(self, tree: Path) -> None:
        assert cgroup.delegated() == tree
        assert not list(tree.glob("htbench*")), "asking changes nothing"

    def test_again_once_the_driver_has_moved(self, tree: Path) -> None:
        (cgroup.OWN).write_text(f"0::/user.slice/bench.scope/{cgroup.DRIVER}\n")
        (tree / "cgroup.procs").write_text("")
        assert cgroup.delegated() == tree

    def test_not_with_others_in_it(self, tree: Path) -> None:
        (tree / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")
        assert cgroup.delegated() is None

    def test_not_without_the_memory_controller(self, tree: Path) -> None:
        (tree / "cgroup.controllers").write_text("cpu pids\n")
        assert cgroup.delegated() is None

    def test_not_where_it_cannot_be_written(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: path != tree / "cgroup.procs")
        assert cgroup.delegated() is None

    @pytest.mark.parametrize("text", ["", "4:memory:/x\n", "0::/gone\n"])
    def test_not_on_other_systems(self, tree: Path, text: str) -> None:
        cgroup.OWN.write_text(text)
        assert cgroup.delegated() is None
        assert cgroup.open_groups() is None

    def test_a_kernel_that_refuses_after_all(self, tree: Path) -> None:
        (tree / cgroup.DRIVER).touch()
        assert cgroup.open_groups() is None


class TestGroups:
    def test_the_driver_moves_out_of_the_way(self, tree: Path) -> None:
        cgroup.Groups(tree)
        assert (tree / cgroup.DRIVER / "cgroup.procs").read_text() == str(os.getpid())
        assert (tree / "cgroup.subtree_control").read_text() == "+memory +pids"

    def test_a_job_gets_its_limits(self, tree: Path) -> None:
        group = cgroup.Groups(tree).create(7, 1 << 30)
        assert group is not None
        assert group.parent == tree
        assert (group / "memory.max").read_text() == str(1 << 30)
        assert (group / "pids.max").read_text() == str(cgroup.MAX_THREADS)
        cgroup.join(str(group))
        assert (group / "cgroup.procs").read_text() == "0", "the process that writes it"

    @pytest.mark.parametrize(
        ("events", "answer"),
        [("low 0\noom 1\noom_kill 1\n", True), ("oom 1\noom_kill 0\n", False), ("", False)],
    )
    def test_the_kernel_says_whether_it_killed(self, tree: Path, events: str, answer: bool) -> None:
        assert not cgroup.exceeded_memory(tree)
        (tree / "memory.events").write_text(events)
        assert cgroup.exceeded_memory(tree) is answer

    def test_a_group_that_is_refused_leaves_the_drivers_own_check(self, tree: Path) -> None:
        groups = cgroup.Groups(tree)
        assert groups.create(1, 1 << 30) is not None
        assert groups.create(1, 1 << 30) is None, "it exists"
        cgroup.join(str(tree / "gone"))

    def test_an_ended_group_is_removed(self, tree: Path) -> None:
        (tree / "empty").mkdir()
        cgroup.remove(tree / "empty")
        cgroup.remove(tree)  # still in use
        assert tree.exists()
        assert not (tree / "empty").exists()


def test_a_child_is_what_the_kernel_kills_first(tmp_path: Path) -> None:
    """Where memory runs out, not the driver nor another program."""
    code = (
        "from benchmark.isolation.server import _offer_to_the_kernel as offer; offer();"
        "print(open('/proc/self/oom_score_adj').read())"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "1000", answer.stderr
