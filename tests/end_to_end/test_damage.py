"""One flipped bit in a file that runs start from is named, and the file is made again."""

from __future__ import annotations

import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Mini
from tests.end_to_end.lane import DEADLINE, flip, predictions, wait_until

# linear-probe reads features; calibrated-alg starts from the weights of finetune.
METHODS = ("finetune", "calibrated-alg", "linear-probe")
OPTIONS = ("--task", "outline-solid", "--seed", "0", *(o for m in METHODS for o in ("--method", m)))


def test_every_kind_of_derived_file(mini: Mini, tmp_path: Path) -> None:
    mini, workspace = replace(mini, data=tmp_path / "data"), tmp_path / "ws"
    assert mini.run(workspace, *OPTIONS).returncode == 0
    expected = predictions(workspace)
    assert len(expected) == len(METHODS)
    choose = random.Random(0)
    for patterns in (
        ("stores/*-solid-*/test.u8", "features/*/features.f32", "methods/*.json"),
        (
            "stores/*-outline-*/index.json",
            "features/*/features.json",
            "sources/*/model.safetensors",
        ),
    ):
        shutil.rmtree(workspace)
        files = [sorted(mini.data.glob(pattern))[0] for pattern in patterns]
        before = {path: flip(path, choose) for path in files}
        result = mini.run(workspace, *OPTIONS)
        assert result.returncode == 0, result.stderr
        assert predictions(workspace) == expected
        for path, content in before.items():
            assert path.read_bytes() == content
            if path.parent.name != "methods":
                assert str(path.parent) in result.stderr


@pytest.mark.parametrize(
    ("point", "pattern"),
    [
        ("run-journaled", "stores/*-solid-*/train-?.u8"),  # the command has opened the store
        ("child-adapted", "stores/*-solid-*/test.u8"),  # the run has not read it
    ],
)
def test_a_store_is_damaged_between_its_opening_and_the_run(
    mini: Mini, finished, start, tmp_path: Path, point: str, pattern: str
) -> None:
    """Such a run kept what it had computed from the damaged images, for good."""
    mini, workspace = replace(mini, data=shutil.copytree(mini.data, tmp_path / "data")), tmp_path
    options = ("--method", "finetune", "--task", "outline-solid", "--seed", "0")
    words = ("run", *mini.options(workspace), *options)
    with start(mini, *words, variables={"HTBENCH_FAILPOINT": f"{point}=stop"}) as driver:
        state = Path(f"/proc/{driver.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "the point")
        path = sorted(mini.data.glob(pattern))[0]
        good = flip(path, random.Random(0))
        os.kill(driver.pid, signal.SIGCONT)
        _, errors = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 2, errors
    assert str(path) in errors
    assert "run the command again" in errors
    assert not list(workspace.glob("runs/*"))
    result = mini.run(workspace, *options)
    assert result.returncode == 0, result.stderr
    assert path.read_bytes() == good
    ours, theirs = predictions(workspace), predictions(finished.workspace)
    assert len(ours) == 1
    assert ours == {key: theirs[key] for key in ours}
