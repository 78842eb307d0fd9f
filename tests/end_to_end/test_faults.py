"""Faults of the machine at many moments: the same command then finishes, with the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.end_to_end.lane import DEADLINE, METHODS, Lane, check_same, processes

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small disk, or mounts it again with other options."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        remount = "remount," if place.is_mount() else ""
        words = ["mount", "-t", "tmpfs", "-o", f"{remount}{options}", "tmpfs", str(place)]
        subprocess.run(words, check=True, capture_output=True)
        return place

    yield mount
    subprocess.run(["umount", "--lazy", str(place)], check=False)


def refused(result: subprocess.CompletedProcess[str], word: str) -> None:
    """One sentence and status 2, or rows that failed; never a traceback."""
    assert "Traceback" not in result.stderr, result.stderr
    assert result.returncode in (1, 2), (result.returncode, result.stderr)
    assert word in (result.stderr + result.stdout).lower(), result.stderr
    assert "a file or the output" not in result.stderr, "no path is named"


@pytest.mark.parametrize("kibibytes", [8, *range(20, 200, 20)])
def test_the_disk_of_the_workspace_is_full(mini, finished, disk, kibibytes) -> None:
    """At the start, in a run, or when the results are written: all take more than 180 KiB."""
    workspace = disk(f"size={kibibytes}k") / "w"
    refused(mini.run(workspace, *METHODS), "no space or no inodes left")
    disk("size=64m")
    check_same(mini, workspace, finished)


@pytest.mark.parametrize("kibibytes", [8, *range(500, 4000, 500)])
def test_the_disk_of_the_data_folder_is_full(mini, finished, disk, tmp_path, kibibytes) -> None:
    """In a store or in a source model: all take more than 3,500 KiB."""
    data = disk(f"size={kibibytes}k") / "data"
    small = replace(mini, data=data)
    refused(small.run(tmp_path / "w", *METHODS), "no space or no inodes left")
    disk("size=256m")
    check_same(small, tmp_path / "w", finished)


@pytest.mark.parametrize("moment", range(10))
def test_the_disk_becomes_read_only(mini, disk, finished, moment) -> None:
    workspace = disk("size=64m") / "w"
    lane = Lane(mini, workspace, moment)
    with lane.start() as driver:
        time.sleep(random.Random(moment).uniform(0.5, 6))
        subprocess.run(["mount", "-o", "remount,ro", str(disk("size=64m"))], check=False)
        _, err = driver.communicate(timeout=DEADLINE)
    assert "Traceback" not in err
    disk("size=64m,rw")
    check_same(mini, workspace, finished)


@pytest.mark.parametrize("moment", range(15))
def test_a_folder_is_deleted_in_mid_run(mini, finished, tmp_path, moment) -> None:
    """The stores, the source models, or the workspace."""
    data = tmp_path / "data"
    shutil.copytree(mini.data, data)
    own = replace(mini, data=data)
    workspace = tmp_path / "w"
    victim = (data / "stores", data / "sources", workspace)[moment % 3]
    lane = Lane(own, workspace, moment)
    with lane.start() as driver:
        time.sleep(random.Random(moment).uniform(1, 6))
        shutil.rmtree(victim, ignore_errors=True)
        _, err = driver.communicate(timeout=DEADLINE)
    assert "Traceback" not in err, err
    check_same(own, workspace, finished)


SOAK_RUNS = 2000


def test_a_soak_leaves_nothing_behind(mini, tmp_path) -> None:
    """Memory and descriptors of the driver and the fork server stay flat over many short runs."""
    suite = tmp_path / "soak.toml"
    text = mini.suite.read_text("utf-8").replace("[0, 1]", f"[{', '.join(map(str, range(500)))}]")
    suite.write_text(text)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    mark = f"/nonexistent/{tmp_path.name}"
    environment = {**mini.environment(), "TMPDIR": str(temporary), "PYTHONPATH": mark}
    words = ["run", "--suite", str(suite), "--workspace", str(tmp_path / "w")]
    words += ["--method", "source", "--method", "bn-stats"]
    samples: list[Sample] = []
    with subprocess.Popen(
        [sys.executable, "-m", "htbench", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        ended = threading.Event()

        def sample() -> None:
            while not ended.wait(1):
                done = sum(1 for _ in tmp_path.glob("w/runs/*"))
                parents = processes(mark)
                server = next((p for p, parent in parents.items() if parent == driver.pid), 0)
                both = (driver.pid, server)
                memory, opened = map(resident, both), map(descriptors, both)
                samples.append(Sample(done, *memory, *opened, zombies(both)))

        thread = threading.Thread(target=sample)
        thread.start()
        _, err = driver.communicate(timeout=3600)
        ended.set()
        thread.join()
    assert driver.returncode == 0, err
    runs = [sample for sample in samples if 200 < sample.done < SOAK_RUNS - 50]
    assert len(list(tmp_path.glob("w/runs/*"))) == SOAK_RUNS
    first, last = runs[: len(runs) // 5], runs[-(len(runs) // 5) :]

    def grown(name: str) -> int:
        return max(getattr(s, name) for s in last) - max(getattr(s, name) for s in first)

    growth = {name: grown(name) for name in Sample._fields[1:5]}
    print(f"{SOAK_RUNS} runs, growth: {growth}; {max(s.zombies for s in runs)} zombies at most")
    assert min(sample.server_memory for sample in last) > 0
    assert max(growth["driver_memory"], growth["server_memory"]) < 32 << 20, growth
    assert max(growth["driver_descriptors"], growth["server_descriptors"]) <= 4, growth
    assert max(sample.zombies for sample in runs) <= 2, "more than the runs that have just ended"
    assert not processes(mark)
    assert not list(temporary.iterdir())
    assert not list((tmp_path / "w" / "tmp").iterdir())


class Sample(NamedTuple):
    """Runs that are done, bytes and open files of two processes, and their unreaped children."""

    done: int
    driver_memory: int
    server_memory: int
    driver_descriptors: int
    server_descriptors: int
    zombies: int


def zombies(parents: Collection[int]) -> int:
    """How many children of some processes have ended and were not waited for."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):  # the process ended
            continue
        count += state == "Z" and int(parent) in parents
    return count


def resident(process: int) -> int:
    """Bytes of resident memory; 0 if the process has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(process: int) -> int:
    """How many are open; 0 if the process has ended."""
    try:
        return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return 0
