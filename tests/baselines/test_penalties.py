"""Penalties in float64: value and gradient against loops that restate the formulas, to 1e-9."""

from __future__ import annotations

import math

import pytest
import torch

from baselines.ldifs import feature_distance
from baselines.lwf import distillation_penalty
from baselines.mergetune import POINTS, path_loss
from baselines.selective_distill import missing_divergence
from htbench import Batch, SourceModel


@pytest.fixture
def exact(source):
    """The source model in float64."""
    return SourceModel(source.copy().double(), source.digest)


@pytest.fixture
def batch(exact, target, new_run):
    """Nine images, and a model whose weights are not the source model's."""
    model = exact.copy()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value += 0.1 * torch.randn(value.shape, generator=random).double()
    images = new_run().transforms.evaluate(target.images[::5]).double()
    return Batch(model, images, target.labels[::5])


def softened(logits, columns, temperature):
    """The probabilities of one image among some columns, with the exponentials summed in a loop."""
    powers = [(logits[c] / temperature).exp() for c in columns]
    return [power / sum(powers) for power in powers]


def divergence(source, columns, temperature):
    def formula(batch):
        total = 0.0
        for old, new in zip(source.logits(batch.images), batch.logits, strict=True):
            p, q = softened(old, columns, temperature), softened(new, columns, temperature)
            total = total + sum(a * (a / b).log() for a, b in zip(p, q, strict=True))
        return total / len(batch.labels)

    return formula


def distance(source):
    def formula(batch):
        total = 0.0
        for old, new in zip(source.features(batch.images), batch.features, strict=True):
            lengths = [math.sqrt(sum(x * x for x in old.tolist())), new.dot(new).sqrt()]
            pairs = zip(old / lengths[0], new / lengths[1], strict=True)
            total = total + sum((n - o) ** 2 for o, n in pairs)
        return total / batch.features.numel()

    return formula


def check(penalty, formula, batch, factor):
    """Compare the values, and the gradients by every parameter of the model."""
    parameters = list(batch.model.parameters())
    values = [penalty(batch), factor * formula(batch)]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-9)
    assert values[0] > 1e-4
    gradients = [
        torch.autograd.grad(v, parameters, retain_graph=True, allow_unused=True) for v in values
    ]
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_lwf(exact, batch):
    check(distillation_penalty(exact, 1.0, 2.0), divergence(exact, range(6), 2.0), batch, 1.0)


def test_selective_distill(exact, batch, target):
    check(missing_divergence(exact, target, 0.7), divergence(exact, (1, 4), 1.0), batch, 0.7)


def test_ldifs(exact, batch):
    check(feature_distance(exact, 10.0), distance(exact), batch, 10.0)


def test_mergetune(exact, batch):
    """At every point of the path, by weights that are written into a copy of the network."""
    model, copy = batch.model.train(), exact.copy().train()
    end = {name: value.detach().clone() for name, value in exact.copy().named_parameters()}
    value = path_loss(end, POINTS)(batch)
    value.backward()
    total, slopes = 0.0, dict.fromkeys(end, 0.0)
    for t in POINTS:
        with torch.no_grad():
            for name, weight in copy.named_parameters():
                weight.copy_((1 - t) * end[name] + t * model.get_parameter(name))
        copy.zero_grad()
        logits = copy(batch.images)
        rows = zip(logits, batch.labels.tolist(), strict=True)
        loss = sum(z.exp().sum().log() - z[label] for z, label in rows) / len(logits)
        loss.backward()
        total += loss.item() / len(POINTS)
        for name, weight in copy.named_parameters():
            slopes[name] = slopes[name] + t * weight.grad / len(POINTS)
    assert value.item() == pytest.approx(total, rel=1e-9)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, slopes[name], rtol=1e-8, atol=1e-12)
