"""The clock is set back, at random moments and by any amount: runs are the same."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from tests.end_to_end.lane import (
    DEADLINE,
    METHODS,
    RUNS,
    Lane,
    check_same,
    check_same_results,
    kill,
    wait_until,
)

pytestmark = pytest.mark.slow

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


# A library that the loader puts before the C library. The seconds are in a file that every process
# has mapped from its start, a sandboxed run too. File times stay those of the kernel.
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int (*real)(clockid_t, struct timespec *);
static const volatile long long *back;

__attribute__((constructor)) static void start(void) {
    real = dlsym(RTLD_NEXT, "clock_gettime");
    int file = open(BACK_FILE, O_RDONLY);
    back = mmap(0, sizeof *back, PROT_READ, MAP_SHARED, file, 0);
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real) start();
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec -= *back;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return result;
}

time_t time(time_t *seconds) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (seconds) *seconds = exact.tv_sec;
    return exact.tv_sec;
}
"""
# The fork server does not get LD_PRELOAD from the command, but it gets PYTHONPATH.
START = """
import os, sys

if os.environ.get("LD_PRELOAD") != {library!r}:
    os.environ["LD_PRELOAD"] = {library!r}
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
"""


@pytest.fixture
def set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the clock of every Python process that starts from now on: ``set_back(seconds)``."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a clock for these processes alone needs Linux and a C compiler")
    folder = tmp_path / "clock"
    folder.mkdir()
    source, library, seconds = folder / "clock.c", folder / "clock.so", folder / "seconds"
    source.write_text(CLOCK)
    words = [compiler, "-shared", "-fPIC", "-O1", f'-DBACK_FILE="{seconds}"', "-o", library, source]
    subprocess.run([*words, "-ldl"], check=True)
    (folder / "sitecustomize.py").write_text(START.format(library=str(library)))
    path = filter(None, [str(folder), os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))

    def change(amount: int) -> None:
        if not seconds.exists():
            seconds.touch()
            os.truncate(seconds, 8)
        with seconds.open("r+b", buffering=0) as file:
            file.write(struct.pack("q", amount))

    change(0)
    return change


def has_library(process: int) -> bool:
    return "clock.so" in Path(f"/proc/{process}/maps").read_text()


@pytest.mark.parametrize("moment", range(12))
def test_the_clock_of_all_processes_is_set_back(mini, finished, tmp_path, set_back, moment) -> None:
    """By a second to eleven days; of some commands the driver is killed too, or it is set right."""
    own = replace(mini, data=tmp_path / "data")
    if moment % 2:  # else stores and source models are made
        shutil.copytree(mini.data, own.data)
    lane = Lane(own, tmp_path / "w", moment)
    amount = round(10 ** lane.random.uniform(0, 6))
    with lane.start() as driver:
        server = wait_until(lambda: lane.server(driver.pid), "the fork server")
        wait_until(lambda: has_library(server), "the library in the fork server")
        lane.wait(driver, 0, 8)
        set_back(amount)
        before = time.time() - amount
        size = lane.journal_size()
        if moment % 3 == 0:
            wait_until(lambda: lane.journal_size() > size or lane.is_ending(driver), "a run")
            if not lane.is_ending(driver):
                kill(driver.pid)
        _, errors = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 0 or moment % 3 == 0, errors
    lane.check_left_behind()
    if lane.journal_size() > size:
        last = datetime.fromisoformat(lane.journal()[-1]["time"]).timestamp()
        assert before - 1 < last < time.time() - amount
    if moment % 3 == 1:
        set_back(0)
    lane.finish()
    assert len(lane.complete) == RUNS
    check_same_results(lane.workspace, finished.workspace, RUNS)
