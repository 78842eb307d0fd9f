"""A workspace in which one command is killed and started again until all runs are finished."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmark.failpoints import VARIABLE
from tests.end_to_end.conftest import Finished, Mini
from tests.end_to_end.warm import Driver

METHODS = ("--method", "source", "--method", "finetune")
RUNS = 8  # two methods, two tasks, two seeds
DEADLINE = 120
LINE = 256  # bytes of a line of the journal, about


def processes(mark: str) -> dict[int, int]:
    """Process id to parent's id, of processes with a mark in their environment or as their name."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            named = (folder / "comm").read_bytes().strip() == mark.encode()
            if named or mark.encode() in (folder / "environ").read_bytes():
                status = (folder / "stat").read_text().rpartition(")")[2].split()
                if status[0] != "Z":
                    parents[int(folder.name)] = int(status[1])
        except OSError:  # the process ended
            continue
    return parents


def wait_until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s for {what}")


class Lane:
    """A workspace in which one command is started again and again until all runs are finished."""

    numbers = itertools.count()

    def __init__(
        self, mini, workspace: Path, seed: int, *options: str, drivers: Path | None = None
    ) -> None:
        """``drivers`` is the socket of the warm process, or None for the real command."""
        self.mini, self.workspace, self.drivers = mini, workspace, drivers
        self.temporary = workspace.with_name(f"{workspace.name}-tmp")  # of real commands
        self.temporary.mkdir(parents=True, exist_ok=True)
        self.options = options or METHODS
        self.random = random.Random(seed)
        self.kills: list[str] = []
        self.prefix: tuple[str, ...] = ()  # words before a real command
        self.variables: dict[str, str] = {}  # of its environment
        self.complete: dict[str, tuple[int, int]] = {}
        # Put into PYTHONPATH, which reaches the runs: it marks their processes.
        self.mark = f"/nonexistent/{workspace.parent.name}-{seed}-{os.getpid()}"
        if drivers:
            self.mark = f"{os.getpid()}-{next(self.numbers)}"

    def start(self, failpoint: str | None = None) -> subprocess.Popen[str] | Driver:
        """Start the command; with ``failpoint`` it kills itself there (forked drivers only)."""
        arguments = list(map(str, ["run", *self.mini.options(self.workspace), *self.options]))
        if self.drivers:
            environment = self.mini.environment()
            if failpoint:
                environment[VARIABLE] = failpoint
            folder = self.workspace.with_name(f"{self.workspace.name}-printed")
            return Driver(self.drivers, arguments, environment, folder, self.mark, {})
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), self.mark]))
        environment = {**self.mini.environment(), "PYTHONPATH": path, **self.variables}
        return subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "htbench", *arguments],
            env={**environment, "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def server(self, driver: int) -> int | None:
        """The process id of a driver's fork server."""
        return next((p for p, parent in processes(self.mark).items() if parent == driver), None)

    def runs_of(self, driver: int) -> list[int]:
        """The process ids of a driver's runs."""
        server = self.server(driver)
        return [p for p, parent in processes(self.mark).items() if server and parent == server]

    @staticmethod
    def is_ending(driver: subprocess.Popen[str]) -> bool:
        return driver.poll() is not None

    def wait(
        self,
        driver: subprocess.Popen[str] | Driver,
        earliest: float,
        latest: float,
        lines: int = 2 * RUNS - 1,
    ) -> None:
        """Until a random moment: of these seconds, or when some runs have started or ended.

        On a busy machine, seconds are over before the first run. ``lines`` is the greatest number
        of starts and ends of runs.
        """
        if self.random.random() < 0.4:
            time.sleep(self.random.uniform(earliest, latest))
            return
        size = self.journal_size() + (self.random.randint(1, lines) - 1) * LINE
        wait_until(lambda: self.journal_size() > size or self.is_ending(driver), "runs")
        time.sleep(self.random.uniform(0, 0.5))

    # --- kills ---

    def kill_driver(self) -> None:
        """Kill at a random moment, in some cases before the first run has started."""
        with self.start() as driver:
            if self.random.random() < 0.3:
                time.sleep(self.random.uniform(0, 4))
            else:
                before = self.journal_size()
                wait_until(lambda: self.journal_size() > before or self.is_ending(driver), "a run")
                time.sleep(self.random.uniform(0, 1.5))
            if kill(driver.pid):
                self.kills.append("driver")
            driver.communicate()
        self.check_left_behind()

    def kill_server(self) -> None:
        """The driver then reports that and exits; no run continues without it."""
        with self.start() as driver:
            before = self.journal_size()
            wait_until(lambda: self.journal_size() > before or self.is_ending(driver), "a run")
            time.sleep(self.random.uniform(0, 0.7))
            if server := self.server(driver.pid):
                kill(server)
                self.kills.append("server")
            _, errors = driver.communicate(timeout=DEADLINE)
        if driver.returncode:  # else it was the last run's end
            assert driver.returncode == 2, errors
            assert "the worker process exited" in errors
            assert "Traceback" not in errors
        self.check_left_behind()

    def kill_run(self, count: int = 1) -> None:
        """A run that is killed from outside is a failed row; the others continue."""
        with self.start() as driver:
            for _ in range(count):
                runs = wait_until(
                    lambda: self.runs_of(driver.pid) or self.is_ending(driver), "a run"
                )
                time.sleep(self.random.uniform(0, 0.3))
                if runs is True:
                    break
                if kill(self.random.choice(runs)):
                    self.kills.append("run")
            driver.communicate(timeout=DEADLINE)
        assert driver.returncode in (0, 1)
        self.check_left_behind()

    def finish(self) -> str:
        """The same command, undisturbed; returns what it prints."""
        with self.start() as driver:
            out, err = driver.communicate(timeout=DEADLINE)
        assert driver.returncode == 0, err
        self.check_left_behind()
        assert list(self.temporary.iterdir()) == []
        return out

    # --- what must hold at any time ---

    def journal_size(self) -> int:
        path = self.workspace / "journal.jsonl"
        return path.stat().st_size if path.exists() else 0

    def journal(self) -> list[dict[str, Any]]:
        text = (self.workspace / "journal.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def check_left_behind(self) -> None:
        """No process is left, and completed runs are unchanged."""
        wait_until(lambda: not processes(self.mark), "processes to end")
        now = {}
        for path in self.workspace.glob("runs/*/run.json"):
            if json.loads(path.read_text())["status"] == "ok":
                assert path.with_name("predictions.parquet").is_file()
                now[path.parent.name] = (path.stat().st_ino, path.stat().st_mtime_ns)
        assert {key: now.get(key) for key in self.complete} == self.complete, "repeated or lost"
        self.complete = now

    @property
    def is_done(self) -> bool:
        return len(self.complete) == RUNS


def flip(path: Path, choose: random.Random) -> bytes:
    """Change a random bit; returns the content before.

    In place, as a disk or another program would: a process that has the file open sees it.
    """
    good = path.read_bytes()
    bit = choose.randrange(8 * len(good))
    with path.open("r+b", buffering=0) as file:
        file.seek(bit // 8)
        file.write(bytes([good[bit // 8] ^ 1 << bit % 8]))
    return good


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def scored(workspace: Path) -> list[dict[str, Any]]:
    """The rows without what differs between two workspaces: measured columns and file stamps."""
    table = pq.read_table(workspace / "results.parquet")
    measured = [name for name in table.schema.names if "measured_" in name or name == "stamp"]
    return sorted(table.drop_columns(measured).to_pylist(), key=lambda row: row["key"])


def scores(workspace: Path) -> dict[str, dict[str, float]]:
    """What was counted and computed from the predictions of each run, by its key."""
    return {
        row["key"]: {name: value for name, value in row.items() if isinstance(value, int | float)}
        for row in scored(workspace)
    }


def board(text: str) -> str:
    """A board without its last three columns, seconds and memory, and its workspace's name."""
    text = re.sub(r"--workspace [^\s`]+", "--workspace ws", text)
    return re.sub(r"(\|[^|\n]*){3}\|$", "|", text, flags=re.MULTILINE)


def predictions(workspace: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in workspace.glob("runs/*/predictions.parquet")}


def events(lane: Lane) -> dict[str, list[str]]:
    """The events of each run in the journal."""
    by_key: dict[str, list[str]] = {}
    for line in lane.journal():
        by_key.setdefault(line["key"], []).append(line["event"])
    return by_key


def check_equal(lane: Lane, undisturbed: Lane, printed: str) -> None:
    """The workspace equals one in which nothing was killed."""
    assert predictions(lane.workspace) == predictions(undisturbed.workspace)
    assert scored(lane.workspace) == scored(undisturbed.workspace)
    assert board(printed) == board(undisturbed.printed)
    assert list((lane.workspace / "tmp").iterdir()) == []
    for history in events(lane).values():
        assert history.count("ok") <= 1, "a complete run was repeated"
        assert history[0] == "start"
    folders = {p.name for p in lane.workspace.glob("runs/*")}
    assert folders == events(lane).keys(), "nothing but runs is left"


def check_same(mini: Mini, workspace: Path, finished: Finished) -> None:
    """The same command finishes, and predictions and scores are those of undisturbed runs."""
    result = mini.run(workspace, *METHODS)
    assert result.returncode == 0, result.stderr
    check_same_results(workspace, finished.workspace, RUNS)


def check_same_results(workspace: Path, undisturbed: Path, runs: int) -> None:
    """Predictions and scores are those of undisturbed runs, of which there may be more."""
    ours, theirs = predictions(workspace), predictions(undisturbed)
    assert len(ours) == runs
    assert ours == {key: theirs[key] for key in ours}
    our_scores, their_scores = scores(workspace), scores(undisturbed)
    assert ours.keys() <= our_scores.keys()
    assert our_scores == {key: their_scores[key] for key in our_scores}
