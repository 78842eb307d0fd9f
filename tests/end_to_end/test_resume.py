"""Kill anything at any moment: the same command finishes the rest, and no run is lost or wrong.

The default tests kill a process at every point that `benchmark.failpoints` names. The slow ones
kill the driver, the process that forks runs, and runs at random moments of the real command; the
seeds are not random.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmark.failpoints import POINTS, VARIABLE
from benchmark.runs.workspace import Workspace
from tests.end_to_end.conftest import Mini
from tests.end_to_end.warm import Driver

METHODS = ("--method", "source", "--method", "finetune")
RUNS = 8  # two methods, two tasks, two seeds
DEADLINE = 120


def processes(mark: str) -> dict[int, int]:
    """Process id to parent of what has a mark in its environment or as its name."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            named = (folder / "comm").read_bytes().strip() == mark.encode()
            if named or mark.encode() in (folder / "environ").read_bytes():
                status = (folder / "stat").read_text().rpartition(")")[2].split()
                if status[0] != "Z":
                    found[int(folder.name)] = int(status[1])
        except OSError:  # it ended meanwhile
            continue
    return found


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {DEADLINE} s in vain: {what}")


class Lane:
    """A workspace in which one command is started again and again until all is done."""

    numbers = itertools.count()

    def __init__(
        self, mini, workspace: Path, seed: int, *options: str, drivers: Path | None = None
    ) -> None:
        """``drivers`` is the socket of the process that forks drivers; None: the real command."""
        self.mini, self.workspace, self.drivers = mini, workspace, drivers
        self.options = options or METHODS
        self.random = random.Random(seed)
        self.kills: list[str] = []
        self.complete: dict[str, tuple[int, int]] = {}
        # One of the few variables that reach the runs, so their processes can be told from others.
        self.mark = f"/nonexistent/{workspace.parent.name}-{seed}-{os.getpid()}"
        if drivers:
            self.mark = f"{os.getpid()}-{next(self.numbers)}"

    def start(self, failpoint: str | None = None) -> subprocess.Popen[str] | Driver:
        if self.drivers:
            environment = self.mini.environment()
            if failpoint:
                environment[VARIABLE] = failpoint
            arguments = ["run", "--suite", self.mini.suite, "--workspace", self.workspace,
                         *self.options]  # fmt: skip
            printed = self.workspace.with_name(f"{self.workspace.name}-printed")
            return Driver(
                self.drivers, list(map(str, arguments)), environment, printed, self.mark, {}
            )
        command = [sys.executable, "-m", "htbench", "run", "--suite", self.mini.suite,
                   "--workspace", self.workspace, *self.options]  # fmt: skip
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), self.mark]))
        return subprocess.Popen(
            list(map(str, command)), env={**self.mini.environment(), "PYTHONPATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def server(self, driver: int) -> int | None:
        return next((p for p, parent in processes(self.mark).items() if parent == driver), None)

    def runs_of(self, driver: int) -> list[int]:
        server = self.server(driver)
        return [p for p, parent in processes(self.mark).items() if server and parent == server]

    @staticmethod
    def is_ending(driver: subprocess.Popen[str]) -> bool:
        return driver.poll() is not None

    # --- kills ---

    def kill_driver(self) -> None:
        """At any moment: half of the time wherever it is, else once it has begun a run."""
        with self.start() as driver:
            if self.random.random() < 0.3:
                time.sleep(self.random.uniform(0, 4))
            else:
                before = self.journal_size()
                wait_until(lambda: self.journal_size() > before or self.is_ending(driver), "a run")
                time.sleep(self.random.uniform(0, 1.5))
            driver.kill()
            driver.communicate()
        self.kills.append("driver")
        self.check_left_behind()

    def kill_server(self) -> None:
        """The driver then says so and ends; its runs do not go on without it."""
        with self.start() as driver:
            before = self.journal_size()
            wait_until(lambda: self.journal_size() > before or self.is_ending(driver), "a run")
            time.sleep(self.random.uniform(0, 0.7))
            if server := self.server(driver.pid):
                kill(server)
                self.kills.append("server")
            _, said = driver.communicate(timeout=DEADLINE)
        if driver.returncode:  # else it was the last run's end
            assert driver.returncode == 2, said
            assert "the worker process exited" in said
            assert "Traceback" not in said
        self.check_left_behind()

    def kill_runs(self, count: int) -> None:
        """A run that is killed from outside is a failed row; the others go on."""
        with self.start() as driver:
            for _ in range(count):
                found = wait_until(
                    lambda: self.runs_of(driver.pid) or self.is_ending(driver), "a run"
                )
                time.sleep(self.random.uniform(0, 0.3))
                if found is True:
                    break
                if kill(self.random.choice(found)):
                    self.kills.append("run")
            driver.communicate(timeout=DEADLINE)
        assert driver.returncode in (0, 1)
        self.check_left_behind()

    def finish(self) -> str:
        """The same command, undisturbed; what it prints."""
        with self.start() as driver:
            out, err = driver.communicate(timeout=DEADLINE)
        assert driver.returncode == 0, err
        self.check_left_behind()
        return out

    # --- what must hold at any time ---

    def journal_size(self) -> int:
        path = self.workspace / "journal.jsonl"
        return path.stat().st_size if path.exists() else 0

    def journal(self) -> list[dict[str, Any]]:
        text = (self.workspace / "journal.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def check_left_behind(self) -> None:
        """No process goes on, and a run that was complete is as it was."""
        wait_until(lambda: not processes(self.mark), "processes to end")
        now = {}
        for path in self.workspace.glob("runs/*/run.json"):
            if json.loads(path.read_text())["status"] == "ok":
                assert path.with_name("predictions.parquet").is_file()
                now[path.parent.name] = (path.stat().st_ino, path.stat().st_mtime_ns)
        assert {key: now.get(key) for key in self.complete} == self.complete, "done twice or lost"
        self.complete = now

    @property
    def is_done(self) -> bool:
        return len(self.complete) == RUNS


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def scored(workspace: Path) -> list[dict[str, Any]]:
    """The rows without what was measured."""
    table = pq.read_table(workspace / "results.parquet")
    measured = [name for name in table.schema.names if name.startswith("measured_")]
    return sorted(table.drop_columns(measured).to_pylist(), key=lambda row: row["key"])


def board(text: str) -> str:
    """A board without its last two columns, seconds and memory."""
    return re.sub(r"(\|[^|\n]*){2}\|$", "|", text, flags=re.MULTILINE)


def predictions(workspace: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in workspace.glob("runs/*/predictions.parquet")}


def events(lane: Lane) -> dict[str, list[str]]:
    """What the journal says of each run."""
    found: dict[str, list[str]] = {}
    for line in lane.journal():
        found.setdefault(line["key"], []).append(line["event"])
    return found


@pytest.fixture(scope="module")
def undisturbed(mini, finished, drivers, tmp_path_factory) -> Lane:
    lane = Lane(mini, tmp_path_factory.mktemp("undisturbed") / "ws", 0, drivers=drivers)
    lane.printed = lane.finish()
    assert lane.is_done
    return lane


def check_equal(lane: Lane, undisturbed: Lane, printed: str) -> None:
    """Nothing tells the workspace from one in which nothing was killed."""
    assert predictions(lane.workspace) == predictions(undisturbed.workspace)
    assert scored(lane.workspace) == scored(undisturbed.workspace)
    assert board(printed) == board(undisturbed.printed)
    assert list((lane.workspace / "tmp").iterdir()) == []
    for told in events(lane).values():
        assert told.count("ok") <= 1, "a complete run was done again"
        assert told[0] == "start"
    folders = {p.name for p in lane.workspace.glob("runs/*")}
    assert folders == events(lane).keys(), "nothing but runs is left"


def in_turn(lane: Lane, undisturbed: Lane, wanted: int, act: Callable[[Lane], None]) -> None:
    """Kill until there were enough kills, in a fresh workspace whenever all is done."""
    root, number = lane.workspace, 0
    while len(lane.kills) < wanted:
        if lane.is_done:
            check_equal(lane, undisturbed, lane.finish())
            number += 1
            lane.workspace, lane.complete = root.with_name(f"{root.name}-{number}"), {}
        act(lane)
    check_equal(lane, undisturbed, lane.finish())


def side_by_side(works: list[Callable[[], None]]) -> None:
    """Two at a time keep two cores busy while interpreters start."""
    problems: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=guarded, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def thirty_kills(mini, undisturbed: Lane, folder: Path, seed: int) -> list[str]:
    drivers = Lane(mini, folder / f"drivers-{seed}", seed)
    others = Lane(mini, folder / f"others-{seed}", seed + 1)

    def of_others() -> None:
        in_turn(others, undisturbed, 16, lambda lane: lane.kill_runs(5))
        in_turn(others, undisturbed, 20, Lane.kill_server)

    side_by_side([lambda: in_turn(drivers, undisturbed, 10, Lane.kill_driver), of_others])
    return drivers.kills + others.kills


@pytest.mark.slow
def test_thirty_kills_and_nothing_is_lost_or_wrong(mini, undisturbed, tmp_path):
    kills = thirty_kills(mini, undisturbed, tmp_path, 1)
    assert len(kills) >= 30
    assert {"driver", "server", "run"} == set(kills)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 50, 10))
def test_many_kills(mini, undisturbed, tmp_path, seed):
    assert len(thirty_kills(mini, undisturbed, tmp_path, seed)) >= 30


# --- at a named point ---------------------------------------------------------------------------

CHILD = ("job-received", "process-locked", "model-adapted", "answer-written")
SERVER = ("child-forked",)
ELSEWHERE = {
    "checkpoint-written",  # test_source_resume.py
    "old-folder-moved",  # below: only a run that is repeated has an older folder
}
DRIVER = tuple(p for p in POINTS if p not in {*CHILD, *SERVER, *ELSEWHERE})
THREE = ("--method", "source", "--method", "calibrated-alg", "--task", "outline-solid",
         "--seed", "0")  # fmt: skip


@pytest.fixture
def lane(mini, finished, drivers, tmp_path) -> Lane:
    """Three runs: a source model, a fine-tuned one, and one that starts from its weights."""
    return Lane(mini, tmp_path / "ws", 0, *THREE, drivers=drivers)


def check_finished(lane: Lane, finished) -> None:
    """The same command does what is left, and the predictions are those of undisturbed runs."""
    lane.finish()
    ours, theirs = predictions(lane.workspace), predictions(finished.workspace)
    assert len(ours) == len(lane.complete) == 3
    assert ours == {key: theirs[key] for key in ours}
    assert list((lane.workspace / "tmp").iterdir()) == []
    for told in events(lane).values():
        assert told[0] == "start"
        assert told.count("ok") <= 1, "a complete run was done again"
    known = {row["key"]: row["overall"] for row in finished.rows()}
    rows = Mini.rows(lane.workspace)
    assert [row["overall"] for row in rows] == [known[row["key"]] for row in rows]


def kill_driver_at(lane: Lane, point: str) -> None:
    with lane.start(f"{point}=kill") as driver:
        _, said = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == -signal.SIGKILL, (point, said)
    lane.check_left_behind()


@pytest.mark.parametrize("point", DRIVER)
def test_a_driver_is_killed(lane, finished, point):
    kill_driver_at(lane, point)
    check_finished(lane, finished)


@pytest.mark.parametrize("point", SERVER)
def test_the_server_is_killed(lane, finished, point):
    with lane.start(f"{point}=kill") as driver:
        _, said = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 2, said
    assert "the worker process exited" in said
    assert "Traceback" not in said
    lane.check_left_behind()
    check_finished(lane, finished)


def kill_runs_at(lane: Lane, point: str) -> None:
    """Every run of a command is killed there, and is a failed row."""
    with lane.start(f"{point}=kill") as driver:
        driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 1
    lane.check_left_behind()
    records = {r["method"]: r for r in Mini.records(lane.workspace)}
    assert records.keys() == {"source", "finetune", "calibrated-alg"}
    for method in ("source", "finetune"):
        assert "was killed by SIGKILL" in records[method]["error"]["message"]
    assert records["calibrated-alg"]["error"]["kind"] == "base"


@pytest.mark.parametrize("point", CHILD)
def test_runs_are_killed(lane, finished, point):
    kill_runs_at(lane, point)
    check_finished(lane, finished)


def test_a_driver_is_killed_while_it_replaces_the_folder_of_a_failed_run(lane, finished):
    kill_runs_at(lane, "model-adapted")
    kill_driver_at(lane, "old-folder-moved")
    check_finished(lane, finished)


# --- at a random moment -------------------------------------------------------------------------


def test_a_run_that_is_killed_is_a_failed_row_until_it_is_run_again(
    mini, undisturbed, drivers, tmp_path
):
    lane = Lane(mini, tmp_path / "ws", 5, *METHODS, "--jobs", "1", drivers=drivers)
    with lane.start() as driver:
        (first,) = wait_until(lambda: lane.runs_of(driver.pid), "a run")
        kill(first)
        out, _ = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 1
    failed = [r for r in mini.records(lane.workspace) if r["status"] == "failed"]
    assert [r["error"]["kind"] for r in failed] == ["died"]
    assert "was killed by SIGKILL" in failed[0]["error"]["message"]
    assert "was killed by SIGKILL" in out
    assert len(mini.records(lane.workspace)) == RUNS
    lane.check_left_behind()
    assert len(lane.complete) == RUNS - 1
    printed = lane.finish()
    assert events(lane)[failed[0]["key"]] == ["start", "failed", "start", "ok"]
    check_equal(lane, undisturbed, printed)


def test_two_drivers_share_a_workspace(mini, undisturbed, drivers, tmp_path):
    """Neither has begun when the other does: every run is held until both are there."""
    lanes = [Lane(mini, tmp_path / "ws", seed, drivers=drivers) for seed in (6, 7)]
    workspace = Workspace(tmp_path / "ws")
    (workspace.root / "locks").mkdir(parents=True)
    with ExitStack() as held:
        for record in undisturbed.mini.records(undisturbed.workspace):
            assert held.enter_context(workspace.claim(record["key"]))
        running = [lane.start() for lane in lanes]
        wait_until(lambda: len(list(workspace.root.glob("tmp/driver-*.lock"))) == 2, "both")
        time.sleep(1)  # for the last steps before a run
    said = [driver.communicate(timeout=DEADLINE) for driver in running]
    assert [driver.returncode for driver in running] == [0, 0], said
    for lane, (out, _) in zip(lanes, said, strict=True):
        assert board(out) == board(undisturbed.printed)
        lane.check_left_behind()
    assert [sorted(told) for told in events(lanes[0]).values()] == [["ok", "start"]] * RUNS
    assert len({line["driver"] for line in lanes[0].journal()}) == 2, "both had a share in it"
    check_equal(lanes[0], undisturbed, said[0][0])


@pytest.fixture
def stubborn(tmp_path: Path) -> Path:
    """A method that does not end by itself and will not be ended by the end of its parent."""
    path = tmp_path / "stubborn.py"
    path.write_text(
        "import ctypes, signal, time\nfrom dataclasses import dataclass\n"
        "from htbench import Method\n\n\n"
        "@dataclass(frozen=True)\nclass Stubborn(Method):\n"
        '    """Stays."""\n\n    name = "stubborn"\n\n'
        "    def adapt(self, source, target, run):\n"
        "        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):\n"
        "            signal.signal(number, signal.SIG_IGN)\n"
        "        print(ctypes.CDLL(None).prctl(1, 0, 0, 0, 0), flush=True)\n"
        "        time.sleep(3600)\n"
    )
    return path


@pytest.mark.parametrize("victim", ["driver", "server"])
def test_a_method_does_not_outlive_its_driver(mini, finished, stubborn, drivers, tmp_path, victim):
    lane = Lane(mini, tmp_path / "ws", 8, "--plugin", str(stubborn), "--task", "outline-solid",
                drivers=drivers)  # fmt: skip
    with lane.start() as driver:
        wait_until(lambda: list(lane.workspace.glob("tmp/*/*/output.txt")), "a run")
        wait_until(
            lambda: [p for p in lane.workspace.glob("tmp/*/*/output.txt") if p.stat().st_size],
            "the method to begin",
        )
        kill(driver.pid if victim == "driver" else lane.server(driver.pid) or 0)
        driver.communicate(timeout=DEADLINE)
    assert driver.returncode == (-signal.SIGKILL if victim == "driver" else 2)
    lane.check_left_behind()
