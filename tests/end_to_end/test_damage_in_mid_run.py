"""Files cut off or changed by one bit at random moments: noticed, mended, and never in a result."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.files import BUILDING
from tests.end_to_end.conftest import Mini
from tests.end_to_end.lane import DEADLINE, Lane, check_same_results, flip, kill

pytestmark = pytest.mark.slow

# linear-probe reads features; calibrated-alg starts from the weights of finetune.
METHODS = ("source", "finetune", "calibrated-alg", "linear-probe")
OPTIONS = ("--task", "outline-solid", *(word for m in METHODS for word in ("--method", m)))
RUNS = 8  # two seeds
LATEST = (6, 4, 1.5)  # seconds until the damage, by what is there; see `lane`
# Kinds of files, each as likely as the others: patterns in the data folder and in the workspace.
KINDS = (
    ("stores/*/*.u8",),
    ("stores/*/index.json", "features/*/features.json", "sources/*/*.json", "methods/*.json"),
    ("features/*/features.f32",),
    ("sources/*/model.safetensors",),
    ("runs/*/predictions.parquet",),
    ("runs/*/run.json",),
    ("runs/*/weights.safetensors",),
    ("journal.jsonl", "results.parquet", "outcomes/*", "intervals/*"),
)


def truncate(path: Path, choose: random.Random) -> None:
    os.truncate(path, choose.randrange(path.stat().st_size))


def damage(lane: Lane, how: Callable[[Path, random.Random], object]) -> str:
    """Damage a file of a random kind that is there; returns its path, or nothing."""
    roots = lane.mini.data, lane.workspace
    for patterns in lane.random.sample(KINDS, len(KINDS)):
        for pattern in lane.random.sample(patterns, len(patterns)):
            paths = [path for root in roots for path in root.glob(pattern) if path.is_file()]
            # What is still being written gets its digest when it is complete.
            files = [path for path in paths if BUILDING not in str(path)]
            if not files:
                continue
            path = lane.random.choice(sorted(files))
            try:
                how(path, lane.random)
            except (FileNotFoundError, ValueError):  # it has just been replaced, or is empty
                continue
            return str(path)
    return ""


@pytest.fixture(scope="module")
def undisturbed(mini, drivers, tmp_path_factory) -> Lane:
    root = tmp_path_factory.mktemp("undisturbed")
    lane = Lane(replace(mini, data=root / "data"), root / "ws", 0, *OPTIONS, drivers=drivers)
    lane.finish()
    assert len(lane.complete) == RUNS
    return lane


@pytest.fixture
def lane(mini: Mini, undisturbed: Lane, drivers: Path, tmp_path: Path, moment: int, how) -> Lane:
    """With nothing made so far, or with all of the data folder, or with most runs finished too."""
    own = replace(mini, data=tmp_path / "data")
    if moment % 3:
        shutil.copytree(undisturbed.mini.data, own.data)
    if moment % 3 == 2:
        shutil.copytree(undisturbed.workspace, tmp_path / "ws")
        for path in sorted(tmp_path.glob("ws/runs/*"))[:: 2 if moment % 2 else RUNS]:
            shutil.rmtree(path)
    seed = moment + 100 * (how is flip)
    return Lane(own, tmp_path / "ws", seed, *OPTIONS, drivers=drivers)


def check_mended(lane: Lane, undisturbed: Lane, htbench) -> None:
    """The same command finishes, with the bytes of undisturbed runs; a repair finds the rest."""
    with lane.start() as driver:
        _, errors = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 0, errors
    check_same_results(lane.workspace, undisturbed.workspace, RUNS)
    for word in ("repair", "check"):  # of weights, which no run to do starts from
        result = htbench("workspace", word, "--workspace", lane.workspace)
        assert result.returncode == 0, result.stdout
    assert list((lane.workspace / "tmp").iterdir()) == []


@pytest.mark.parametrize("how", [truncate, flip])
@pytest.mark.parametrize("moment", range(12))
def test_while_a_command_runs(lane, undisturbed, htbench, moment, how) -> None:
    path, latest = "", LATEST[moment % 3]
    while not path:  # else the command was faster
        with lane.start() as driver:
            lane.wait(driver, 0.1, latest)
            while not path and driver.poll() is None:
                path = damage(lane, how)
                time.sleep(0.01)
            _, errors = driver.communicate(timeout=DEADLINE)
        latest /= 2
    print(f"{how.__name__} {path}: status {driver.returncode}, {errors}")
    assert driver.returncode in (0, 1, 2), errors
    assert "Traceback" not in errors, errors
    check_mended(lane, undisturbed, htbench)


@pytest.mark.parametrize("how", [truncate, flip])
@pytest.mark.parametrize("moment", range(12))
def test_between_a_killed_command_and_the_same_again(
    lane, undisturbed, htbench, moment, how
) -> None:
    with lane.start() as driver:
        lane.wait(driver, 0.1, LATEST[moment % 3])
        if driver.poll() is None:
            kill(driver.pid)
        driver.communicate(timeout=DEADLINE)
    assert driver.returncode in (0, -signal.SIGKILL)
    lane.check_left_behind()
    paths = [damage(lane, how) for _ in range(lane.random.randint(1, 3))]
    print(f"{how.__name__} {paths}")
    check_mended(lane, undisturbed, htbench)
