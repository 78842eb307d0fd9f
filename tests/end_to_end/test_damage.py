"""One flipped bit in a file that runs start from is named, and the file is made again."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

from tests.end_to_end.conftest import Mini
from tests.end_to_end.lane import predictions

# linear-probe reads features; calibrated-alg starts from the weights of finetune.
METHODS = ("finetune", "calibrated-alg", "linear-probe")
OPTIONS = ("--task", "outline-solid", "--seed", "0", *(o for m in METHODS for o in ("--method", m)))


def flip(path: Path, choose: random.Random) -> bytes:
    """Flip a random bit; returns the content before."""
    good = path.read_bytes()
    data, bit = bytearray(good), choose.randrange(8 * len(good))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return good


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
