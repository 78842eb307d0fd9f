"""Workers start from anywhere, and none outlives the call that started it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark import pool
from benchmark.errors import DataError

# Two workers for two images, in a script without a main guard.
SCRIPT = """
import math, os
from benchmark import pool
pool.POOL_FROM = 1
pool.worker_count = lambda images: 2
"""
SLEEP = (
    SCRIPT
    + """
import time
print("ready", flush=True)
list(pool.each(time.sleep, [60, 60], 2))
"""
)


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "worker_count", lambda images: 2)


def workers_of(pid: int) -> list[int]:
    """The workers among the child processes of a process; a test session has others too."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"benchmark.pool" in _command_line(child)]


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def wait_for(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def sleeping(tmp_path):
    """A script whose two workers sleep, and the process ids of these."""
    command = [sys.executable, "-c", SLEEP]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        start_new_session=True,
    ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == b"ready\n"
        wait_for(lambda: len(workers_of(script.pid)) == 2)
        yield script, workers_of(script.pid)
        script.kill()


class TestResults:
    def test_a_few_images_are_worked_on_in_this_process(self):
        results = pool.each(eval, ["__import__('os').getpid()"] * 3, pool.POOL_FROM - 1)
        assert set(results) == {os.getpid()}

    @pytest.mark.usefixtures("two_workers")
    def test_many_images_are_worked_on_by_workers(self):
        assert sorted(pool.each(math.sqrt, [1, 4, 9, 16, 25], 5)) == [1, 2, 3, 4, 5]
        processes = set(pool.each(eval, ["__import__('os').getpid()"] * 4, 4))
        assert os.getpid() not in processes
        assert 1 <= len(processes) <= 2

    @pytest.mark.usefixtures("two_workers")
    def test_a_worker_loads_no_torch(self):
        modules = ("benchmark.images.store.build", "benchmark.images.copy.verify")
        load = " and ".join(f"__import__({name!r})" for name in modules)
        question = f"{load} and 'torch' in __import__('sys').modules"
        assert list(pool.each(eval, [question] * 2, 2)) == [False, False]

    @pytest.mark.usefixtures("two_workers")
    def test_what_the_function_raises_is_raised_here(self):
        with pytest.raises(ValueError, match=r"math domain error|nonnegative") as caught:
            list(pool.each(math.sqrt, [4, -1], 2))
        assert "In a worker process" in caught.value.__notes__[0]
        assert workers_of(os.getpid()) == []

    @pytest.mark.usefixtures("two_workers")
    def test_a_caller_that_stops_early_leaves_no_worker(self):
        results = pool.each(math.sqrt, [1] * 50, 50)
        assert next(results) == 1
        results.close()
        assert workers_of(os.getpid()) == []


@pytest.mark.usefixtures("two_workers")
class TestEndOfAWorker:
    def test_killed(self):
        with pytest.raises(DataError, match=r"killed by signal 9.* memory; run the same command"):
            list(pool.each(signal.raise_signal, [signal.SIGKILL] * 2, 2))
        assert workers_of(os.getpid()) == []

    def test_exited(self):
        with pytest.raises(DataError, match="exited with code 3"):
            list(pool.each(os._exit, [3, 3], 2))

    def test_one_that_ignores_the_request_to_stop_is_killed(self, monkeypatch):
        monkeypatch.setattr(pool, "STOP_SECONDS", 0.2)
        ignore = "(s := __import__('signal')).signal(s.SIGTERM, s.SIG_IGN) and 0"
        results = pool.each(eval, [ignore, f"({ignore}, __import__('time').sleep(60))"], 2)
        next(results)
        time.sleep(0.3)  # until the second worker ignores the signal
        results.close()
        assert workers_of(os.getpid()) == []


class TestCaller:
    JOB = SCRIPT + "print(sorted(pool.each(math.sqrt, [1, 4, 9], 3)))\n"

    @pytest.fixture
    def folder(self, tmp_path):
        """A folder with files whose names are those of our packages."""
        (tmp_path / "benchmark.py").write_text("raise SystemExit('the wrong benchmark')\n")
        (tmp_path / "baselines").mkdir()
        (tmp_path / "baselines" / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
        (tmp_path / "scripts").mkdir()
        (tmp_path / "scripts" / "script.py").write_text(self.JOB)
        return tmp_path

    def run(self, command, folder, **options):
        process = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=60, check=False, **options
        )
        assert (process.stdout, process.stderr, process.returncode) == ("[1.0, 2.0, 3.0]\n", "", 0)

    def test_a_script_without_a_guard(self, folder):
        self.run([sys.executable, "scripts/script.py"], folder)

    def test_a_script_on_standard_input(self, folder):
        self.run([sys.executable, "-P"], folder, input=self.JOB)

    def test_a_notebook(self, folder):
        """A kernel's ``__main__`` has no file."""
        code = f"import code; code.InteractiveInterpreter().runcode({self.JOB!r})"
        self.run([sys.executable, "-P", "-c", code], folder)

    def test_a_path_that_holds_another_benchmark(self, folder):
        """The caller imported ours; a worker must not import the other one."""
        code = f"import benchmark, sys\nsys.path.insert(0, {str(folder)!r})\n{self.JOB}"
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        start = f"import sys; sys.path.remove({str(folder)!r}); exec({code!r})"
        self.run([sys.executable, "-P", "-c", start], folder, env=environment)


class TestEndOfTheCaller:
    def test_ctrl_c(self, sleeping):
        script, workers = sleeping
        os.killpg(script.pid, signal.SIGINT)  # as a terminal does
        _, errors = script.communicate(timeout=10)
        assert script.returncode in (130, -signal.SIGINT)
        assert errors.count(b"Traceback") == 1  # the script's own
        assert errors.rstrip().endswith(b"KeyboardInterrupt")
        wait_for(lambda: not any(map(alive, workers)))

    def test_killed(self, sleeping):
        script, workers = sleeping
        script.kill()
        script.communicate(timeout=10)
        wait_for(lambda: not any(map(alive, workers)))
