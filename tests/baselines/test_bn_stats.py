"""BatchNorm statistics against numpy's, computed on the actual inputs of the layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from baselines.bn_stats import BNStats
from htbench import Classifier, NotApplicable, SourceModel


def layers_of(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def activations(model, images):
    """Return the inputs of the BatchNorm layers in evaluation mode, (N, channels, H, W) each."""
    inputs = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, x: inputs.append(x[0].double().numpy().copy()))
        for layer in layers_of(model)
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return inputs


def check_statistics(layer, values):
    np.testing.assert_allclose(
        layer.running_mean, values.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(layer.running_var, values.var(axis=(0, 2, 3)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [7, 8, 43, 1000])
def test_the_first_layer_has_the_statistics_of_the_whole_population(
    batch_size, source, target, new_run
):
    run = new_run(batch_size=batch_size)
    model = BNStats().adapt(source, target, run)
    values = activations(model, run.transforms.evaluate(target.images))
    check_statistics(layers_of(model)[0], values[0])


def test_in_one_batch_every_layer_has_the_statistics_of_its_input(source, target, new_run):
    run = new_run(batch_size=100)
    model = BNStats().adapt(source, target, run)
    values = activations(model, run.transforms.evaluate(target.images))
    assert len(values) == 4
    for layer, value in zip(layers_of(model), values, strict=True):
        check_statistics(layer, value)


def test_small_batches_are_close_to_it_in_deep_layers_too(source, target, new_run):
    one_batch = layers_of(BNStats().adapt(source, target, new_run(batch_size=100)))[-1]
    small_batches = layers_of(BNStats().adapt(source, target, new_run(batch_size=15)))[-1]
    before = layers_of(source.copy())[-1]
    for name in ("running_mean", "running_var"):
        expected = getattr(one_batch, name)
        distance = (getattr(small_batches, name) - expected).norm()
        assert distance < 0.3 * (getattr(before, name) - expected).norm()


def test_batches_mix_classes(source, target, new_run):
    """Images come ordered by class, but a batch of one class has the statistics of that class."""
    batches = []
    run = new_run()
    original = run.transforms.evaluate

    def evaluate(images):
        batches.append(images)
        return original(images)

    run.transforms.evaluate = evaluate
    BNStats().adapt(source, target, run)
    rows = [[int((target.images == i).all((1, 2, 3)).nonzero()) for i in b] for b in batches]
    assert [len(batch) for batch in rows] == [8, 8, 7, 7, 7, 7]
    assert sorted(itertools.chain(*rows)) == list(range(44))
    assert all(len(set(target.labels[batch].tolist())) > 1 for batch in rows)


def test_no_weight_changes_and_no_hook_remains(source, target, new_run, changed):
    model = BNStats().adapt(source, target, new_run())
    assert not changed(source.copy(), model) & {name for name, _ in model.named_parameters()}
    assert all(not layer._forward_pre_hooks for layer in layers_of(model))


def test_it_needs_batch_norm(target, new_run):
    plain = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(3, 6))
    with pytest.raises(NotApplicable, match="the network has no BatchNorm layer"):
        BNStats().adapt(SourceModel(plain, ""), target, new_run())
