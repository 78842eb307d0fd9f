"""A suite run in shards, one of which is killed and run again, gives the runs of one command."""

from __future__ import annotations

import signal

from tests.end_to_end.lane import DEADLINE, predictions

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
