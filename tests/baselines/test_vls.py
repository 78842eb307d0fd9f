"""The losses of vls against loops over images and classes, and fine-tuning with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from baselines.vls import VLS, shifted, suppression

MISSING = [1, 4]
PRIOR = np.array([0.5, 0.0, 0.25, 0.15, 0.0, 0.1])
FACTORS = [(1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]


class FixedBatch:
    """A batch whose logits are fixed numbers."""

    def __init__(self, logits: np.ndarray, labels: list[int]) -> None:
        self.logits = torch.tensor(logits, requires_grad=True)
        self.labels = torch.tensor(labels)


@pytest.fixture
def batch() -> FixedBatch:
    rng = np.random.default_rng(0)
    return FixedBatch(3 * rng.standard_normal((5, 6)), [0, 2, 0, 3, 5])


def numbers(batch: FixedBatch) -> np.ndarray:
    return batch.logits.detach().numpy()


def test_the_prior_shifts_the_cross_entropy(batch):
    value = shifted(torch.tensor(PRIOR))(batch)
    z = numbers(batch) + np.log(PRIOR + 1e-9)
    expected = -np.mean([log_softmax(z[n])[label] for n, label in enumerate(batch.labels)])
    assert value.item() == pytest.approx(expected, rel=1e-12)
    value.backward()
    gradient = softmax(z, axis=1)
    gradient[range(5), batch.labels] -= 1
    np.testing.assert_allclose(batch.logits.grad, gradient / 5, atol=1e-12)


def test_value_and_gradient_of_suppression_are_those_of_a_loop(batch):
    value = suppression(torch.tensor(PRIOR), 0.005)(batch)
    value.backward()
    z, total = torch.tensor(numbers(batch), requires_grad=True), torch.tensor(0.0).double()
    for c, share in enumerate(PRIOR):
        spread = torch.tensor(0.0).double()
        for n, label in enumerate(batch.labels.tolist()):
            other = z[n, c] - math.log(share + 1e-9) + math.log(1 / 6 + 1e-9)
            spread = spread + (1.0 if label == c else other.exp())
        total = total + 0.005 * share * (spread.log() - math.log(5))
    total.backward()
    assert value.item() == pytest.approx(total.item(), rel=1e-12)
    torch.testing.assert_close(batch.logits.grad, z.grad, rtol=1e-9, atol=1e-12)
    assert (batch.logits.grad >= 0).all()  # it lowers logits and raises none
    assert not batch.logits.grad[range(5), batch.labels].any()
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
