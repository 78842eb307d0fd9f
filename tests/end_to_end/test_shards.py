"""A suite run in shards, some of which are killed and run again, gives the runs of one command."""

from __future__ import annotations

import random
import signal
from dataclasses import replace

import pytest

from tests.end_to_end.lane import DEADLINE, Lane, kill, predictions, scores

SHARDS = 8


def files(workspace):
    """The files of every run, without the record, which has times."""
    return {
        str(path.relative_to(workspace)): path.read_bytes()
        for path in workspace.glob("runs/*/**/*")
        if path.is_file() and path.name != "run.json"
    }


def test_shards_merged_are_one_run(mini, finished, htbench, start, tmp_path):
    shards = [tmp_path / "shards" / str(number) for number in range(1, SHARDS + 1)]
    words = [
        ("run", *mini.options(place), "--shard", f"{number}/{SHARDS}", "--jobs", "2")
        for number, place in enumerate(shards, start=1)
    ]
    one_job = (*words[1][:-1], "1")  # side by side, the second run may be recorded first
    with start(mini, *one_job, variables={"HTBENCH_FAILPOINT": "record-written@2=kill"}) as shard:
        shard.communicate(timeout=DEADLINE)
    assert shard.returncode == -signal.SIGKILL
    assert 0 < len(list(shards[1].glob("runs/*"))) < len(finished.runs()) // SHARDS
    for each in words:
        result = htbench(*each)
        assert result.returncode == 0, result.stderr
        assert " runs finished, 0 failed\n" in result.stdout
    counts = [len(list(place.glob("runs/*"))) for place in shards]
    assert sum(counts) == len(finished.runs()), "no run is in two shards"
    merged = htbench("workspace", "merge", *shards, "--into", tmp_path / "w")
    assert merged.returncode == 0, merged.stdout
    assert predictions(tmp_path / "w") == predictions(finished.workspace)
    assert files(tmp_path / "w") == files(finished.workspace)
    assert htbench("workspace", "check", "--workspace", tmp_path / "w").returncode == 0
    again = htbench("run", *mini.options(tmp_path / "w"), "--dry-run")
    assert f"{sum(counts)} runs: {sum(counts)} done, 0 to run" in again.stdout


def kill_together(lanes, *moments):
    """Start some shards side by side, and kill each driver at a random moment if it still runs."""
    drivers = [lane.start() for lane in lanes]
    for lane, driver in zip(lanes, drivers, strict=True):
        lane.wait(driver, *moments)
        if driver.poll() is None and kill(driver.pid):
            lane.kills.append("shard")
    for lane, driver in zip(lanes, drivers, strict=True):
        _, errors = driver.communicate(timeout=DEADLINE)
        assert driver.returncode in (0, -signal.SIGKILL), errors
        lane.check_left_behind()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_shards_are_killed_at_random_moments(mini, finished, htbench, drivers, tmp_path, seed):
    """One after another or two side by side, up to three times, until all have run."""
    # With an empty data folder, also while stores and source models are made.
    own = replace(mini, data=tmp_path / "data") if seed % 2 else mini
    choose = random.Random(seed)
    count = choose.randint(2, 5)
    lanes = [
        Lane(
            own,
            tmp_path / "shards" / str(number),
            seed,
            "--shard",
            f"{number}/{count}",
            drivers=drivers,
        )
        for number in range(1, count + 1)
    ]
    victims = choose.sample(lanes, choose.randint(1, count))
    for again in range(choose.randint(1, 3)):
        for i in range(0, len(victims), 2):
            # At first so early that no shard has ended.
            kill_together(victims[i : i + 2], 0.1, *((6, 3) if again or seed % 2 else (1, 1)))
    assert any(lane.kills for lane in victims)
    for lane in lanes:
        lane.finish()
    assert sum(len(lane.complete) for lane in lanes) == len(finished.runs())
    places = [lane.workspace for lane in lanes]
    merged = htbench("workspace", "merge", *places, "--into", tmp_path / "w")
    assert merged.returncode == 0, merged.stdout
    assert files(tmp_path / "w") == files(finished.workspace)
    again = own.run(tmp_path / "w")
    assert again.returncode == 0, again.stderr
    assert len(list(tmp_path.glob("w/runs/*"))) == len(finished.runs())
    assert scores(tmp_path / "w") == scores(finished.workspace)
