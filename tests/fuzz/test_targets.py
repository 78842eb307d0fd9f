"""Every target of `make fuzz` reads its valid files, and some damaged ones as documented."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import TARGETS

CHECKOUT = Path(__file__).resolve().parents[2]
DAMAGED = 20


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_a_target_raises_only_what_is_documented(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path))  # a target may set it
    target = TARGETS[name]
    read, seeds = target.prepare(tmp_path), target.seeds()
    for seed in seeds:
        read(seed)
    random = Random(0)
    for _ in range(DAMAGED):
        with contextlib.suppress(*target.errors):
            read(mutated(random, seeds))


@pytest.mark.slow
def test_fuzzing_leaves_only_the_last_input(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(CHECKOUT)}
    words = [sys.executable, "-m", "tests.fuzz", "show-run", "1"]
    subprocess.run(words, cwd=tmp_path, env=environment, check=True)
    assert not list(temporary.iterdir())
    assert (tmp_path / "build" / "fuzz" / "show-run.last").is_file()
