"""Methods that train a part of the network, or nothing: other parts do not change by a bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from baselines.bn_affine import BNAffine
from baselines.frozen_classifier import FrozenClassifier
from baselines.linear_probe import LinearProbe
from baselines.source import Source
from htbench import Classifier, NotApplicable, SourceModel, predict


def cosine_factors(steps):
    return [(1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]


def test_source_returns_the_source_logits(source, target, new_run):
    run = new_run()
    logits = predict(Source().adapt(source, target, run), target.images, run)
    assert torch.equal(logits, source.logits(run.transforms.evaluate(target.images)))


def test_frozen_classifier_trains_the_backbone_only(
    source, target, new_run, naive_fit, same, changed
):
    model = FrozenClassifier().adapt(source, target, new_run())
    assert changed(source.copy(), model) == {k for k in model.state_dict() if k.startswith("backb")}
    expected = source.copy()
    naive_fit(
        expected,
        target,
        new_run(),
        cosine_factors(12),
        trains=lambda name: name.startswith("backbone"),
    )
    same(model, expected)


def test_bn_affine_trains_batch_norm_only(source, target, new_run, naive_fit, same, changed):
    model = BNAffine().adapt(source, target, new_run())
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    trained = {name for name in model.state_dict() if name.rpartition(".")[0] in layers}
    assert len(trained) == 4 * 5
    assert changed(source.copy(), model) == trained
    expected = source.copy()
    naive_fit(
        expected,
        target,
        new_run(),
        cosine_factors(12),
        trains=lambda name: name in trained,
        in_training=lambda module: isinstance(module, nn.BatchNorm2d),
    )
    same(model, expected)


def test_bn_affine_needs_batch_norm(target, new_run):
    plain = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(3, 6))
    with pytest.raises(NotApplicable, match="the network has no BatchNorm layer"):
        BNAffine().adapt(SourceModel(plain, ""), target, new_run())


def test_linear_probe_trains_the_head_only(source, whole_target, new_run, changed):
    model = LinearProbe().adapt(source, whole_target, new_run())
    assert changed(source.copy(), model) == {"head.weight", "head.bias"}


def test_linear_probe_is_softmax_regression_on_the_features(source, whole_target, new_run):
    model = LinearProbe().adapt(source, whole_target, new_run())

    run = new_run()
    recipe, order = run.recipe, []
    x = np.c_[whole_target.features.numpy().astype(float), np.ones(len(whole_target))]
    y = np.eye(6)[whole_target.labels.numpy()]
    w = np.c_[source.head.weight.numpy(), source.head.bias.numpy()].astype(float)
    v = np.zeros_like(w)
    for factor in cosine_factors(recipe.steps):
        if len(order) < recipe.batch_size:
            order = torch.randperm(len(x), generator=run.stream("order")).tolist()
        rows, order = order[: recipe.batch_size], order[recipe.batch_size :]
        odds = np.exp(x[rows] @ w.T)
        gradient = (odds / odds.sum(axis=1, keepdims=True) - y[rows]).T @ x[rows] / len(rows)
        gradient += recipe.weight_decay * w
        v = recipe.momentum * v + gradient
        w -= factor * recipe.head_lr * (gradient + recipe.momentum * v)
    np.testing.assert_allclose(model.head.weight.detach(), w[:, :-1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.head.bias.detach(), w[:, -1], rtol=1e-4, atol=1e-6)


def test_linear_probe_needs_features(source, target, new_run):
    assert LinearProbe.uses_features
    with pytest.raises(ValueError, match="uses_features"):
        LinearProbe().adapt(source, target, new_run())
