"""Processes that finish runs and update the results at the same time, and readers beside them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.records import RunRecord
from leaderboard.results import RESULTS_FILE, STORED, update_results
from leaderboard.results_file import read_table
from leaderboard.rows import column_values
from tests.leaderboard.runs import FAILED, folder_of

WriteRun = Callable[..., RunRecord]
PROCESSES, RUNS, AT_A_TIME = 8, 100, 20
# Moves finished runs into a workspace, some at a time, and updates the results after each time.
SCRIPT = """
import sys
from pathlib import Path
from benchmark.manifest.catalogue import load_manifest
from leaderboard.results import update_results
workspace, at_a_time = Path(sys.argv[1]), int(sys.argv[3])
ready = sorted(Path(sys.argv[2]).iterdir())
manifest = load_manifest("icons@2.0")
for begin in range(0, len(ready), at_a_time):
    for folder in ready[begin : begin + at_a_time]:
        folder.rename(workspace / "runs" / folder.name)
    update_results(workspace, [manifest], sys.exit)
"""


@pytest.mark.slow
def test_no_row_is_lost_and_a_reader_sees_only_whole_files(
    tmp_path: Path, icons: Manifest, write_run: WriteRun
) -> None:
    workspace = tmp_path / "ws"
    (workspace / "runs").mkdir(parents=True)
    keys = set()
    for process in range(PROCESSES):
        ready = tmp_path / f"ready-{process}" / "runs"
        for seed in range(RUNS):
            fields = {} if seed % 10 == 0 else FAILED  # predictions take time and space
            record = write_run(ready.parent, f"m{process}", seed=seed, **fields)
            keys.add(record.key)
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", SCRIPT, workspace),
                *(tmp_path / f"ready-{number}" / "runs", str(AT_A_TIME)),
            ]
        )
        for number in range(PROCESSES)
    ]
    counts = [0]
    while any(process.poll() is None for process in processes):
        if not (workspace / RESULTS_FILE).exists():
            continue
        table, made_by = read_table(workspace / RESULTS_FILE, STORED)
        assert made_by, "the file is whole at any time"
        values = zip(*(column_values(table[n]) for n in ("status", "overall")), strict=True)
        assert all((status == "ok") == (overall is not None) for status, overall in values)
        counts.append(table.num_rows)
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert counts == sorted(counts), "a row that was there stays"
    table, _ = read_table(workspace / RESULTS_FILE, STORED)
    assert table.num_rows == PROCESSES * RUNS == 800
    assert set(column_values(table["key"])) == keys
    assert update_results(workspace, [icons], pytest.fail).num_rows == 800
    assert folder_of(workspace, record).is_dir()
