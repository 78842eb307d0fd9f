"""Faults of the machine at many moments: the same command then finishes, with the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Mini
from tests.end_to_end.lane import DEADLINE, METHODS, Lane, predictions, processes

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


def check_same(mini: Mini, workspace: Path, finished) -> None:
    """The same command finishes, and no predictions differ from those of undisturbed runs."""
    result = mini.run(workspace, *METHODS)
    assert result.returncode == 0, result.stderr
    ours = predictions(workspace)
    theirs = predictions(finished.workspace)
    assert len(ours) == 8
    assert ours == {key: theirs[key] for key in ours}


def refused(result: subprocess.CompletedProcess[str], word: str) -> None:
    """One sentence and status 2, or rows that failed; never a traceback."""
    assert "Traceback" not in result.stderr, result.stderr
    assert result.returncode in (1, 2), (result.returncode, result.stderr)
    assert word in (result.stderr + result.stdout).lower(), result.stderr
    assert "a file or the output" not in result.stderr, "no path is named"


@pytest.mark.parametrize("kibibytes", [8, 60, 400, 700, 1000, 1400])
def test_the_disk_of_the_workspace_is_full(mini, finished, disk, kibibytes) -> None:
    workspace = disk(f"size={kibibytes}k") / "w"
    result = mini.run(workspace, *METHODS)
    if result.returncode:
        refused(result, "no space or no inodes left")
    disk("size=64m")
    check_same(mini, workspace, finished)


@pytest.mark.parametrize("kibibytes", [8, 500, 2000, 4000, 6000])
def test_the_disk_of_the_data_folder_is_full(mini, finished, disk, tmp_path, kibibytes) -> None:
    data = disk(f"size={kibibytes}k") / "data"
    small = replace(mini, data=data)
    result = small.run(tmp_path / "w", *METHODS)
    if result.returncode:
        refused(result, "no space or no inodes left")
    disk("size=256m")
    check_same(small, tmp_path / "w", finished)


@pytest.mark.parametrize("moment", range(4))
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


@pytest.mark.parametrize("moment", range(6))
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


BACK = """
import time as _time

_real, _start = _time.time, _time.time()


def _back():
    now = _real()
    return now - 86400 if now - _start > {after} else now


_time.time = _back
"""


@pytest.mark.parametrize("after", [0.0, 1.5, 4.0])
def test_the_clock_is_set_back_by_a_day(mini, finished, tmp_path, after) -> None:
    (tmp_path / "sitecustomize.py").write_text(BACK.format(after=after))
    environment = {**mini.environment(), "PYTHONPATH": str(tmp_path)}
    words = [
        sys.executable,
        "-m",
        "htbench",
        "run",
        *map(str, mini.options(tmp_path / "w")),
        *METHODS,
    ]
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    check_same(mini, tmp_path / "w", finished)
    again = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr


SOAK_RUNS = 2000


def test_a_soak_leaves_nothing_behind(mini, tmp_path) -> None:
    """Memory and descriptors of the driver stay flat over many short runs."""
    suite = tmp_path / "soak.toml"
    text = mini.suite.read_text("utf-8").replace("[0, 1]", f"[{', '.join(map(str, range(500)))}]")
    suite.write_text(text)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    mark = f"/nonexistent/{tmp_path.name}"
    environment = {**mini.environment(), "TMPDIR": str(temporary), "PYTHONPATH": mark}
    words = ["run", "--suite", str(suite), "--workspace", str(tmp_path / "w")]
    words += ["--method", "source", "--method", "bn-stats"]
    samples: list[tuple[int, int, int]] = []
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
                samples.append((done, resident(driver.pid), descriptors(driver.pid)))

        thread = threading.Thread(target=sample)
        thread.start()
        _, err = driver.communicate(timeout=3600)
        ended.set()
        thread.join()
    assert driver.returncode == 0, err
    runs = [entry for entry in samples if 200 < entry[0] < SOAK_RUNS - 50]
    assert len(list(tmp_path.glob("w/runs/*"))) == SOAK_RUNS
    first, last = runs[: len(runs) // 5], runs[-(len(runs) // 5) :]
    grown = max(m for _, m, _ in last) - max(m for _, m, _ in first)
    assert grown < 32 << 20, f"{grown / 2**20:.0f} MiB more after {SOAK_RUNS} runs"
    assert max(d for _, _, d in last) <= max(d for _, _, d in first) + 4
    assert not processes(mark)
    assert not list(temporary.iterdir())
    assert not list((tmp_path / "w" / "tmp").iterdir())
    print(f"{SOAK_RUNS} runs: {grown / 2**20:.1f} MiB more, {max(d for *_, d in last)} descriptors")


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
