"""The divergence over the missing columns, and fine-tuning with it."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import rel_entr, softmax

from baselines.finetune import Finetune
from baselines.selective_distill import SelectiveDistill, missing_divergence
from htbench import Batch

MISSING = [1, 4]


@pytest.fixture
def images(target, new_run):
    return new_run().transforms.evaluate(target.images)


def test_at_the_source_weights_there_is_no_penalty_and_no_gradient(source, target, images):
    batch = Batch(source.copy(), images, target.labels)
    penalty = missing_divergence(source, target, 3.0)(batch)
    assert penalty.item() == 0
    penalty.backward()
    assert all(p.grad.abs().max() < 1e-6 for p in batch.model.parameters())


def test_it_is_the_divergence_of_the_source_from_the_model(source, target, images, new_run):
    model = Finetune().adapt(source, target, new_run())
    penalty = missing_divergence(source, target, 0.7)(Batch(model, images, target.labels))
    with torch.no_grad():
        p, q = (
            softmax(m(images)[:, MISSING].double().numpy(), axis=1) for m in (source.logits, model)
        )
    assert penalty.item() == pytest.approx(0.7 * rel_entr(p, q).sum() / len(images), rel=1e-5)
    assert penalty.item() > 1e-3


def test_seen_columns_do_not_matter(source, target, images):
    model = source.copy()
    with torch.no_grad():
        model.head.weight[target.seen] += 1
        model.head.bias[~target.seen] += 5  # a constant on all missing columns changes nothing
    penalty = missing_divergence(source, target, 1.0)(Batch(model, images, target.labels))
    assert penalty.item() == pytest.approx(0, abs=1e-6)


def test_training_adds_it_on_the_augmented_batch(source, target, new_run, naive_fit, same, changed):
    model = SelectiveDistill(weight=2.0).adapt(source, target, new_run())

    def extra(images, features, logits):
        p = source.logits(images)[:, MISSING].softmax(dim=1)
        q = logits[:, MISSING].softmax(dim=1)
        return 2.0 * (p * (p / q).log()).sum() / len(images)

    factors = [(1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]
    expected = source.copy()
    naive_fit(expected, target, new_run(), factors, extra=extra)
    same(model, expected)


def test_with_weight_0_it_is_finetune(source, target, new_run, changed):
    model = SelectiveDistill(weight=0.0).adapt(source, target, new_run())
    assert not changed(model, Finetune().adapt(source, target, new_run()))
