"""Kill anything at any moment: the same command finishes the rest, and no run is lost or wrong.

The default tests kill a process at every point that `benchmark.failpoints` names. The slow ones
kill the driver, the process that forks runs, and runs at random moments of the real command; the
seeds are not random.
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmark.failpoints import POINTS
from benchmark.runs.workspace import JOURNAL_FILE, Workspace
from tests.end_to_end.conftest import Mini
from tests.end_to_end.lane import (
    DEADLINE,
    METHODS,
    RUNS,
    Lane,
    board,
    check_equal,
    events,
    kill,
    predictions,
    wait_until,
)


@pytest.fixture(scope="module")
def undisturbed(mini, finished, drivers, tmp_path_factory) -> Lane:
    lane = Lane(mini, tmp_path_factory.mktemp("undisturbed") / "ws", 0, drivers=drivers)
    lane.printed = lane.finish()
    assert lane.is_done
    return lane


def in_turn(lane: Lane, undisturbed: Lane, wanted: int, act: Callable[[Lane], None]) -> None:
    """Kill until there were enough kills, with a fresh workspace whenever all runs are finished."""
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
        in_turn(others, undisturbed, 16, lambda lane: lane.kill_run(5))
        in_turn(others, undisturbed, 20, Lane.kill_server)

    side_by_side([lambda: in_turn(drivers, undisturbed, 10, Lane.kill_driver), of_others])
    return drivers.kills + others.kills


@pytest.mark.slow
def test_thirty_kills_lose_and_change_nothing(mini, undisturbed, tmp_path):
    kills = thirty_kills(mini, undisturbed, tmp_path, 1)
    assert len(kills) >= 30
    assert {"driver", "server", "run"} == set(kills)


@pytest.mark.slow
def test_as_many_kills_as_asked_for_lose_and_change_nothing(
    mini, undisturbed, drivers, tmp_path, pytestconfig
):
    """Two commands side by side, each of which loses its driver, its server or runs."""
    wanted = pytestconfig.getoption("--kills")
    lanes = [
        Lane(mini, tmp_path / f"lane-{seed}", seed, drivers=drivers)
        for seed in (wanted, wanted + 1)  # other moments for another number
    ]

    def act(lane: Lane) -> None:
        victim = lane.random.choice((Lane.kill_driver, Lane.kill_server, Lane.kill_run))
        victim(lane)

    def work(lane: Lane) -> Callable[[], None]:
        return lambda: in_turn(lane, undisturbed, wanted // 2, act)

    try:
        side_by_side([work(lane) for lane in lanes])
    finally:
        counts = Counter(victim for lane in lanes for victim in lane.kills)
        print(f"{counts.total()} kills: {dict(counts)}")
    assert counts.total() >= wanted
    assert counts.keys() == {"driver", "server", "run"}


# --- at a named point ---------------------------------------------------------------------------

CHILD = ("job-received", "process-locked", "model-adapted", "answer-written")
SERVER = ("child-forked",)
ELSEWHERE = {
    "checkpoint-written",  # test_source_resume.py
    "run-copied",  # benchmark/runs/test_merge.py
    "old-folder-moved",  # below: only a run that is repeated has an older folder
}
DRIVER = tuple(p for p in POINTS if p not in {*CHILD, *SERVER, *ELSEWHERE})
THREE = (
    "--method",
    "source",
    "--method",
    "calibrated-alg",
    "--task",
    "outline-solid",
    "--seed",
    "0",
)


@pytest.fixture
def lane(mini, finished, drivers, tmp_path) -> Lane:
    """Three runs: a source model, a fine-tuned one, and one that starts from its weights."""
    return Lane(mini, tmp_path / "ws", 0, *THREE, drivers=drivers)


def check_finished(lane: Lane, finished) -> None:
    """The same command finishes the rest; predictions equal those of undisturbed runs."""
    lane.finish()
    ours, theirs = predictions(lane.workspace), predictions(finished.workspace)
    assert len(ours) == len(lane.complete) == 3
    assert ours == {key: theirs[key] for key in ours}
    assert list((lane.workspace / "tmp").iterdir()) == []
    for history in events(lane).values():
        assert history[0] == "start"
        assert history.count("ok") <= 1, "a complete run was repeated"
    overall = {row["key"]: row["overall"] for row in finished.rows()}
    rows = Mini.rows(lane.workspace)
    assert [row["overall"] for row in rows] == [overall[row["key"]] for row in rows]


def kill_driver_at(lane: Lane, point: str) -> None:
    with lane.start(f"{point}=kill") as driver:
        _, errors = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == -signal.SIGKILL, (point, errors)
    lane.check_left_behind()


@pytest.mark.parametrize("point", DRIVER)
def test_a_driver_is_killed(lane, finished, point):
    kill_driver_at(lane, point)
    check_finished(lane, finished)


def test_damaged_weights_of_a_base_are_made_again(lane, finished):
    lane.finish()
    before = predictions(lane.workspace)
    records = Mini.records(lane.workspace)
    keys = {record["method"]: record["key"] for record in records}
    (weights,) = lane.workspace.glob("runs/*/weights.safetensors")
    assert weights.parent.name == keys["finetune"]
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 4]))
    shutil.rmtree(lane.workspace / "runs" / keys["calibrated-alg"])
    lane.complete = {}
    with lane.start() as driver:
        _, errors = driver.communicate(timeout=DEADLINE)
    assert f"missing or damaged: '{weights.parent}'" in errors
    assert weights.read_bytes() == good
    assert predictions(lane.workspace) == before


ON_WISE_FT = """
from dataclasses import dataclass

from htbench import Method


@dataclass(frozen=True)
class OnWiseFt(Method):
    name = "on-wise-ft"
    base = "wise-ft"
    scale: float = 1.0

    def adapt(self, source, target, run):
        return run.base
"""


def test_missing_weights_of_a_chain_of_bases_are_made_again(mini, finished, tmp_path):
    """Only the nearest base was repeated: without its own base, a failure replaced its result."""
    plugin, workspace = tmp_path / "on_wise_ft.py", tmp_path / "ws"
    plugin.write_text(ON_WISE_FT)
    options = ("--plugin", plugin, "--task", "outline-solid", "--seed", "0")
    assert mini.run(workspace, *options).returncode == 0
    before = predictions(workspace)
    weights = list(workspace.glob("runs/*/weights.safetensors"))
    assert len(weights) == 2, "of finetune and wise-ft"
    for path in weights:
        path.unlink()
    again = mini.run(workspace, *options, "--set", "scale=2")
    assert again.returncode == 0, again.stderr
    assert "repeating 2 finished runs" in again.stderr
    after = predictions(workspace)
    assert len(after) == 4
    assert before == {key: after[key] for key in before}


@pytest.mark.parametrize("point", SERVER)
def test_the_server_is_killed(lane, finished, point):
    with lane.start(f"{point}=kill") as driver:
        _, errors = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 2, errors
    assert "the worker process exited" in errors
    assert "Traceback" not in errors
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
        # Before the first run a child measures how long a step takes.
        wait_until(lambda: (lane.workspace / JOURNAL_FILE).exists(), "the start of a run")
        while not any("failed" in history for history in events(lane).values()):
            size = lane.journal_size()
            for run in wait_until(lambda: lane.runs_of(driver.pid), "a run"):
                kill(run)  # which may have handed over its result, or be that child
            wait_until(lambda size=size: lane.journal_size() > size, "how the run ended")
        out, _ = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 1
    failed = [r for r in mini.records(lane.workspace) if r["status"] == "failed"]
    assert [r["error"]["kind"] for r in failed] == ["died"]
    assert "was killed by SIGKILL" in failed[0]["error"]["message"]
    assert "was killed by SIGKILL" in out
    assert len(mini.records(lane.workspace)) == RUNS
    lane.check_left_behind()
    assert len(lane.complete) == RUNS - 1
    board_text = lane.finish()
    assert events(lane)[failed[0]["key"]] == ["start", "failed", "start", "ok"]
    check_equal(lane, undisturbed, board_text)


def test_two_drivers_share_a_workspace(mini, undisturbed, drivers, tmp_path):
    """Both start before either runs: every run stays claimed until both drivers are up."""
    lanes = [Lane(mini, tmp_path / "ws", seed, drivers=drivers) for seed in (6, 7)]
    workspace = Workspace(tmp_path / "ws")
    (workspace.root / "locks").mkdir(parents=True)
    with ExitStack() as stack:
        for record in undisturbed.mini.records(undisturbed.workspace):
            assert stack.enter_context(workspace.claim(record["key"]))
        running = [lane.start() for lane in lanes]
        wait_until(lambda: len(list(workspace.root.glob("tmp/driver-*.lock"))) == 2, "both")
        time.sleep(1)  # for the last steps before a run
    outputs = [driver.communicate(timeout=DEADLINE) for driver in running]
    assert [driver.returncode for driver in running] == [0, 0], outputs
    for lane, (out, _) in zip(lanes, outputs, strict=True):
        assert board(out) == board(undisturbed.printed)
        lane.check_left_behind()
    assert [sorted(history) for history in events(lanes[0]).values()] == [["ok", "start"]] * RUNS
    assert len({line["driver"] for line in lanes[0].journal()}) == 2, "both had a share in it"
    check_equal(lanes[0], undisturbed, outputs[0][0])


@pytest.fixture
def stubborn(tmp_path: Path) -> Path:
    """A method that never returns, ignores signals, and does not die with its parent."""
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
    lane = Lane(
        mini,
        tmp_path / "ws",
        8,
        "--plugin",
        str(stubborn),
        "--task",
        "outline-solid",
        drivers=drivers,
    )
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
