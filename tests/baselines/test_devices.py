"""Every built-in method keeps its tensors on the run's device: one on the CPU is an error.

The device is pretended (see ``pretended_device.py``), so that this needs no GPU.
"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import safetensors.torch
import torch

from baselines.finetune import Finetune
from benchmark.child.data import on_device
from benchmark.child.job import Worker
from benchmark.child.predict import predict_logits
from benchmark.isolation import wire
from benchmark.networks.build import weights_of
from htbench import SourceModel, fit, predict
from tests.baselines.conftest import METHODS
from tests.baselines.pretended_device import CUDA, Pretended, pretended_cuda

CPU = torch.device("cpu")
STEPS = 2


@pytest.fixture
def logits_on(source, whole_target, new_run):
    """Adapts on a device; returns the logits of the missing images."""

    def adapt(method, device):
        target = (
            replace(whole_target) if method.uses_features else replace(whole_target, features=None)
        )
        if method.track != "oracle":
            target = replace(target, missing=None)
        here = on_device(target, device)
        start = SourceModel(source.copy().to(device), source.digest)

        def create(base=None):
            return replace(new_run(base=base, steps=STEPS), device=device)

        base = Finetune().adapt(start, here, create()) if method.base else None
        run = create(base)
        is_local = {"local_models", "local_steps"} <= {f.name for f in fields(method)}
        settings = {"local_models": 2, "local_steps": 1} if is_local else {}
        return predict(method(**settings).adapt(start, here, run), whole_target.missing.images, run)

    return adapt


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_method_moves_its_tensors_to_the_device(method, logits_on):
    on_cpu = logits_on(method, CPU)
    with pretended_cuda():
        logits = logits_on(method, CUDA)
        assert isinstance(logits, Pretended)
        assert torch.equal(logits.cpu(), on_cpu)


def test_what_a_child_sends_comes_from_the_device(source, target, new_run, tmp_path, monkeypatch):
    """Logits and weights: the same bytes as from the CPU."""
    images = target.images[:5]

    def sent(device):
        messages = []

        def send(channel, message, data=b""):
            messages.append(bytes(data))

        monkeypatch.setattr(wire, "send", send)
        run = replace(new_run(steps=1), device=device)
        model = fit(source.copy().to(device), on_device(target, device), run)
        worker = Worker(None, None, tmp_path, 0)
        worker.answer(predict_logits(model, images, run, 6))
        weights = weights_of(model)
        assert not any(isinstance(value, Pretended) for value in weights.values())
        worker.adapted({}, safetensors.torch.save(weights))
        return messages

    on_cpu = sent(CPU)
    assert len(on_cpu[0]) == 5 * 6 * 4
    with pretended_cuda():
        assert sent(CUDA) == on_cpu


class TestPretendedDevice:
    """What the other tests here rely on."""

    def test_tensors_of_two_devices_do_not_meet(self):
        with pretended_cuda():
            here, there = torch.ones(3), torch.ones(3, device="cuda")
            with pytest.raises(RuntimeError, match="two devices"):
                there + here
            with pytest.raises(RuntimeError, match="two devices"):
                torch.stack([here, there])
            with pytest.raises(RuntimeError, match="an index on cuda"):
                here[torch.zeros(1, dtype=torch.int64, device="cuda")]
            assert (there[torch.zeros(1, dtype=torch.int64)] + torch.tensor(1.0)).device == CUDA

    def test_a_module_moves_with_its_gradients(self):
        layer = torch.nn.Linear(2, 1)
        with pretended_cuda():
            layer = layer.to(CUDA)
            layer(torch.ones(1, 2, device=CUDA)).sum().backward()
            assert layer.weight.grad.device == layer.weight.device == CUDA
            with pytest.raises(RuntimeError, match="two devices"):
                layer(torch.ones(1, 2))

    def test_an_operation_without_deterministic_kernel_is_refused(self):
        with pretended_cuda(), pytest.raises(RuntimeError, match="median does not have a determ"):
            torch.ones(3, device=CUDA).median()
