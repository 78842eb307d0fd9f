"""Ctrl-C during `htbench run`: finished runs are kept and the same command resumes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest


def processes(name: str) -> list[int]:
    """Processes of a name, zombies aside."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
            if f"({name})" in text and text.rpartition(")")[2].split()[0] != "Z":
                pids.append(int(folder.name))
        except OSError:
            pass  # it ended, or is not ours
    return pids


def until(condition, seconds=60.0):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not true after {seconds} s"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_ctrl_c_keeps_finished_runs_and_the_same_command_resumes(
    htbench, start, mini, finished, tmp_path
):
    workspace, name = tmp_path / "ws", "ctrl-c"
    arguments = ["run", *mini.options(workspace), "--jobs", "2", "--task", "outline-solid"]
    process = start(mini, *arguments, name=name)

    def events(kind):
        journal = workspace / "journal.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [json.loads(line)["key"] for line in lines if json.loads(line)["event"] == kind]

    until(lambda: len(events("ok")) >= 2 and len(events("start")) >= 4)
    assert len(processes(name)) >= 2, "the driver and the fork server at least"
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Interrupted. Finished work is kept; run the same command again to resume." in err
    assert "Traceback" not in err
    until(lambda: not processes(name), seconds=20)
    assert list((workspace / "tmp").iterdir()) == []
    folders = {folder.name for folder in (workspace / "runs").iterdir()}
    assert folders == set(events("ok"))
    assert 2 <= len(folders) < 8
    assert {r["status"] for r in mini.records(workspace)} == {"ok"}, "no run failed by Ctrl-C"

    again = htbench(*arguments)
    assert again.returncode == 0, again.stderr
    assert len(events("ok")) == 8, "finished runs are not repeated"
    ours = mini.rows(workspace)
    theirs = [row for row in finished.rows() if row["task"] == "outline-solid"]
    assert [r["predictions_sha256"] for r in ours] == [r["predictions_sha256"] for r in theirs]
