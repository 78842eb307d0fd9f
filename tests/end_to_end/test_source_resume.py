"""A source training that is killed goes on at its last checkpoint, by the same command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from benchmark.manifest import load_manifest
from benchmark.source import SourceSpec
from tests.end_to_end.conftest import Mini

# The command with a checkpoint after every step, and steps that are slow enough to be killed at.
DRIVER = """
import sys
from benchmark import checkpoint
checkpoint.SECONDS = 0.0
from htbench.cli.main import main
main(sys.argv[1:])
"""


def test_kill_and_go_on(mini, tmp_path, monkeypatch):
    quiet = Mini(mini.suite, mini.manifest, tmp_path / "quiet")
    train = ("source", "train", "--manifest", str(mini.manifest), "--source", "outline")
    assert quiet.htbench(*train).returncode == 0
    killed = Mini(mini.suite, mini.manifest, tmp_path / "killed")
    monkeypatch.setenv("HTBENCH_DATA", str(killed.data))
    spec = SourceSpec.of(load_manifest(mini.manifest), ["outline"], "cpu")
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, *train],
        env=killed.environment(), stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(spec.checkpoints_folder.glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    if not spec.folder.exists():
        assert list(spec.checkpoints_folder.iterdir())
    done = killed.htbench(*train)
    assert done.returncode == 0, done.stderr
    assert "resumed at step " in done.stderr
    assert not spec.checkpoints_folder.exists()
    (one,) = (tmp_path / "quiet" / "sources").glob("*/model.safetensors")
    (two,) = (tmp_path / "killed" / "sources").glob("*/model.safetensors")
    assert one.read_bytes() == two.read_bytes()
