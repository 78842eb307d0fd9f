"""The losses of vls against loops over images and classes, and fine-tuning with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from baselines.vls import VLS, missing_distillation, shifted, suppression
from htbench import Batch

MISSING = [1, 4]
PRIOR = np.array([0.5, 0.0, 0.25, 0.15, 0.0, 0.1])
FACTORS = [(1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]


class FixedBatch:
    """A batch whose logits are fixed numbers."""

    def __init__(self, logits: np.ndarray, labels: list[int]) -> None:
        self.logits = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
        self.labels = torch.tensor(labels)


@pytest.fixture
def batch() -> FixedBatch:
    rng = np.random.default_rng(0)
    return FixedBatch(3 * rng.standard_normal((5, 6)), [0, 2, 0, 3, 5])


def numbers(batch: FixedBatch) -> np.ndarray:
    return batch.logits.detach().double().numpy()


def test_the_prior_shifts_the_cross_entropy(batch):
    value = shifted(torch.tensor(PRIOR, dtype=torch.float32))(batch)
    z = numbers(batch) + np.log(PRIOR + 1e-9)
    expected = -np.mean([log_softmax(z[n])[label] for n, label in enumerate(batch.labels)])
    assert value.item() == pytest.approx(expected, rel=1e-6)
    value.backward()
    gradient = softmax(z, axis=1)
    gradient[range(5), batch.labels] -= 1
    np.testing.assert_allclose(batch.logits.grad, gradient / 5, atol=1e-6)


def test_distillation_compares_the_missing_columns_only(source, target, new_run):
    images = new_run().transforms.evaluate(target.images[:5])
    model = source.copy()
    with torch.no_grad():
        model.head.weight.add_(0.3 * torch.randn(model.head.weight.shape))
    batch = Batch(model, images, target.labels[:5])
    value = missing_distillation(source, torch.tensor(MISSING), 0.7)(batch)
    p = softmax(source.logits(images).double().numpy()[:, MISSING], axis=1)
    q = softmax(batch.logits.detach().double().numpy()[:, MISSING], axis=1)
    assert value.item() == pytest.approx(0.7 * rel_entr(p, q).sum() / 5, rel=1e-5)


def test_suppression_is_a_sum_over_classes_and_images(batch):
    value = suppression(torch.tensor(PRIOR, dtype=torch.float32), 0.005)(batch)
    z, total = numbers(batch), 0.0
    for c, share in enumerate(PRIOR):
        spread = 0.0
        for n, label in enumerate(batch.labels.tolist()):
            other = z[n, c] - math.log(share + 1e-9) + math.log(1 / 6 + 1e-9)
            spread += math.exp(0.0 if label == c else other)
        total += share * (math.log(spread) - math.log(5))
    assert value.item() == pytest.approx(0.005 * total, rel=1e-5)
    value.backward()
    assert (batch.logits.grad >= 0).all()  # it lowers logits and raises none
    own = batch.logits.grad[range(5), batch.labels]
    assert not own.any()
    assert not batch.logits.grad[:, MISSING].any()


def test_training_adds_them(source, target, new_run, naive_fit, same):
    model = VLS(weight=0.5).adapt(source, target, new_run())
    expected = source.copy()

    def extra(images, features, logits):
        p = source.logits(images)[:, MISSING].softmax(1)
        q = logits[:, MISSING].softmax(1)
        return 0.5 * (p * (p / q).log()).sum() / len(images)

    counts = torch.bincount(target.labels, minlength=6)
    shift = (counts / counts.sum() + 1e-9).log()
    naive_fit(expected, target, new_run(), FACTORS, extra=extra, shift=shift)
    same(model, expected)


def test_suppression_changes_the_model(source, target, new_run, changed):
    models = [VLS(suppression=s).adapt(source, target, new_run()) for s in (0.0, 0.005)]
    assert changed(*models) >= {"head.weight", "head.bias"}
