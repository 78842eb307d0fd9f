"""Every target of `make fuzz` reads its valid files, and some damaged ones as documented."""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import TARGETS

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
