"""A training that is stopped goes on from its last checkpoint to the very same bytes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.checkpoint import Checkpoints, checkpoint_step
from benchmark.models import build
from htbench import fit
from tests.benchmark.test_training import new_run, state_of

KEY = "a" * 64
CUT = {"op": "random-resized-crop", "scale": [0.7, 1.0]}


class Stopped(Exception):
    """The process was killed."""


@pytest.fixture
def images():
    from htbench import TargetData

    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (37, 3, 16, 16), dtype=torch.uint8, generator=random)
    return TargetData(pixels, torch.arange(37) % 4, ("a", "b", "c", "d"), torch.ones(4).bool())


def a_model(dropout: bool = True):
    torch.manual_seed(0)
    model = build({"name": "convnet", "width": 2}, 4)
    if dropout:  # so that the global generator matters too
        model.backbone.append(nn.Dropout(0.3))
    return model


def a_run():
    from benchmark.images.augment import Transforms

    run = new_run(steps=11)
    settings = {"mean": [0.5] * 3, "std": [0.25] * 3, "train": [CUT]}
    return replace(run, transforms=Transforms(settings))


def train(images, folder, key=KEY, stop=None, seconds=0.0):
    model, run = a_model(), a_run()

    def maybe_stop(step: int) -> None:
        if step == stop:
            raise Stopped

    kept = Checkpoints(folder, key, model, run, seconds)
    fit(model, images, run, after_step=maybe_stop, checkpoints=kept)
    return model, run


@pytest.fixture
def undisturbed(images, tmp_path):
    (tmp_path / "whole").mkdir()
    return train(images, tmp_path / "whole")


@pytest.mark.parametrize("stops", [[1], [2], [7], [11], [3, 5, 9]])
def test_the_bytes_are_those_of_an_undisturbed_training(images, tmp_path, undisturbed, stops):
    folder = tmp_path / "part"
    folder.mkdir()
    for stop in stops:
        with pytest.raises(Stopped):
            train(images, folder, stop=stop)
        assert checkpoint_step(folder, KEY) == stop - 1
    model, run = train(images, folder)
    expected, whole = undisturbed
    for name, value in state_of(expected).items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert run.history == whole.history
    assert run.total_steps == whole.total_steps == 11


def test_checkpoints_themselves_change_nothing(images, tmp_path, undisturbed):
    (tmp_path / "rare").mkdir()
    model, _ = train(images, tmp_path / "rare", seconds=1e9)
    assert not list((tmp_path / "rare").iterdir())
    expected, _ = undisturbed
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state_of(expected).items())


def test_only_the_last_is_kept(images, tmp_path, undisturbed):
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == ["checkpoint.json", "step-11.safetensors"]


@pytest.mark.parametrize("damage", ["cut off", "changed", "gone", "no record", "other key", "step"])
def test_a_checkpoint_that_is_not_right_is_not_used(images, tmp_path, undisturbed, damage):
    folder = tmp_path / "part"
    folder.mkdir()
    with pytest.raises(Stopped):
        train(images, folder, stop=6)
    (path,) = folder.glob("*.safetensors")
    record = folder / "checkpoint.json"
    data = path.read_bytes()
    if damage == "cut off":
        path.write_bytes(data[:-10])
    elif damage == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "gone":
        path.unlink()
    elif damage == "no record":
        record.write_text("{")
    elif damage == "step":
        record.write_text(json.dumps({**json.loads(record.read_text()), "step": "6"}))
    key = "b" * 64 if damage == "other key" else KEY
    assert checkpoint_step(folder, key) == 0
    model, _ = train(images, folder, key=key)
    expected, _ = undisturbed
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state_of(expected).items())
