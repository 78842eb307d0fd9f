"""A killed source training resumes from its last checkpoint with the same command."""

from __future__ import annotations

from benchmark.failpoints import VARIABLE
from benchmark.manifest.catalogue import load_manifest
from benchmark.sources.spec import SourceSpec
from tests.end_to_end.conftest import Mini
from tests.end_to_end.warm import Driver

# A checkpoint after every step.
ALWAYS = {"benchmark.checkpoint.SECONDS": 0.0}


def test_a_killed_training_resumes(mini, command, drivers, tmp_path, monkeypatch):
    quiet = Mini(mini.suite, mini.manifest, tmp_path / "quiet")
    train = ["source", "train", "--manifest", str(mini.manifest), "--source", "outline"]
    assert command(quiet, *train).returncode == 0
    killed = Mini(mini.suite, mini.manifest, tmp_path / "killed")
    monkeypatch.setenv("HTBENCH_DATA", str(killed.data))
    spec = SourceSpec.of(load_manifest(mini.manifest), ["outline"], "cpu")
    environment = killed.environment() | {VARIABLE: "checkpoint-written@9=kill"}
    with Driver(drivers, train, environment, tmp_path / "printed", "train", ALWAYS) as driver:
        _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 2, errors
    assert "was killed by SIGKILL" in errors
    assert not spec.folder.exists()
    assert list(spec.checkpoints_folder.iterdir())
    result = command(killed, *train)
    assert result.returncode == 0, result.stderr
    assert "resumed at step " in result.stderr
    assert not spec.checkpoints_folder.exists()
    (one,) = (tmp_path / "quiet" / "sources").glob("*/model.safetensors")
    (two,) = (tmp_path / "killed" / "sources").glob("*/model.safetensors")
    assert one.read_bytes() == two.read_bytes()
