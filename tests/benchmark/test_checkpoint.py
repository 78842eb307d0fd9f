"""An interrupted training resumes from its checkpoint and ends with the same bytes."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.checkpoint import Checkpoints, checkpoint_step
from benchmark.images.augment import Transforms
from benchmark.networks.build import build
from htbench import TargetData, fit
from tests.benchmark.test_training import new_run, state_of

KEY = "a" * 64
CROP = {"op": "random-resized-crop", "scale": [0.7, 1.0]}


class Killed(Exception):
    """Simulates a killed process."""


@pytest.fixture
def target():
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (37, 3, 16, 16), dtype=torch.uint8, generator=random)
    return TargetData(pixels, torch.arange(37) % 4, ("a", "b", "c", "d"), torch.ones(4).bool())


def a_model():
    torch.manual_seed(0)
    model = build({"name": "convnet", "width": 2}, 4)
    model.backbone.append(nn.Dropout(0.3))  # uses the global generator
    return model


def a_run():
    run = new_run(steps=11)
    settings = {"mean": [0.5] * 3, "std": [0.25] * 3, "train": [CROP]}
    return replace(run, transforms=Transforms(settings))


def train(target, folder, key=KEY, kill_at=None, seconds=0.0):
    model, run = a_model(), a_run()

    def maybe_kill(step: int) -> None:
        if step == kill_at:
            raise Killed

    checkpoints = Checkpoints(folder, key, model, run, seconds)
    fit(model, target, run, after_step=maybe_kill, checkpoints=checkpoints)
    return model, run


@pytest.fixture
def uninterrupted(target, tmp_path):
    (tmp_path / "whole").mkdir()
    return train(target, tmp_path / "whole")


@pytest.mark.parametrize("steps", [[1], [2], [7], [11], [3, 5, 9]])
def test_a_resumed_training_ends_with_the_same_bytes(target, tmp_path, uninterrupted, steps):
    folder = tmp_path / "part"
    folder.mkdir()
    for step in steps:
        with pytest.raises(Killed):
            train(target, folder, kill_at=step)
        assert checkpoint_step(folder, KEY) == step - 1
    model, run = train(target, folder)
    expected, expected_run = uninterrupted
    for name, value in state_of(expected).items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert run.history == expected_run.history
    assert run.total_steps == expected_run.total_steps == 11


def test_saving_checkpoints_does_not_change_the_result(target, tmp_path, uninterrupted):
    (tmp_path / "rare").mkdir()
    model, _ = train(target, tmp_path / "rare", seconds=1e9)
    assert not list((tmp_path / "rare").iterdir())
    expected, _ = uninterrupted
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state_of(expected).items())


def test_only_the_last_checkpoint_is_kept(tmp_path, uninterrupted):
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == ["checkpoint.json", "step-11.safetensors"]


@pytest.mark.parametrize(
    "damage", ["truncated", "changed", "missing", "no record", "other key", "step"]
)
def test_an_invalid_checkpoint_is_ignored(target, tmp_path, uninterrupted, damage):
    folder = tmp_path / "part"
    folder.mkdir()
    with pytest.raises(Killed):
        train(target, folder, kill_at=6)
    (path,) = folder.glob("*.safetensors")
    record = folder / "checkpoint.json"
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[:-10])
    elif damage == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "missing":
        path.unlink()
    elif damage == "no record":
        record.write_text("{")
    elif damage == "step":
        record.write_text(json.dumps({**json.loads(record.read_text()), "step": "6"}))
    key = "b" * 64 if damage == "other key" else KEY
    assert checkpoint_step(folder, key) == 0
    model, _ = train(target, folder, key=key)
    expected, _ = uninterrupted
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state_of(expected).items())


def same_content(data, good):
    """Whether two texts are equal records: the last digit of a time may not change its value."""
    try:
        return json.loads(data) == json.loads(good)
    except ValueError:
        return False


def test_a_flipped_bit_in_the_record_is_found(target, tmp_path):
    with pytest.raises(Killed):
        train(target, tmp_path, kill_at=6)
    record = tmp_path / "checkpoint.json"
    good = record.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(good)), 300):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        record.write_bytes(data)
        assert checkpoint_step(tmp_path, KEY) == 0 or same_content(data, good)
    record.write_bytes(good)
    assert checkpoint_step(tmp_path, KEY) == 5


def test_a_checkpoint_on_cuda_holds_the_state_of_its_generator(target, tmp_path, monkeypatch):
    """Dropout draws there. The model is on the CPU here, and the state is pretended."""
    state, restored = torch.arange(16, dtype=torch.uint8), []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda new, device: restored.append(new))
    model, run = a_model(), replace(a_run(), device=torch.device("cuda"))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    Checkpoints(tmp_path, KEY, model, run, 0.0).after_step(3, optimizer)
    assert Checkpoints(tmp_path, KEY, model, run, 0.0).restore(optimizer) == 3
    assert torch.equal(restored[0], state)
