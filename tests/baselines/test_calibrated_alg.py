"""The average logit gap against a double loop, and the calibrated model."""

from __future__ import annotations

from statistics import fmean

import pytest
import torch

from baselines.calibrated_alg import Calibrated, CalibratedALG, average_logit_gap
from htbench import NotApplicable, predict


def naive_gap(logits, labels, seen):
    gaps = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        others = [z for c, z in enumerate(row) if seen[c] and c != label]
        missing = [z for c, z in enumerate(row) if not seen[c]]
        gaps.append(fmean(others) - fmean(missing))
    return fmean(gaps)


def test_gamma_is_the_gap_of_the_training_images_without_augmentation(
    source, target, tuned, new_run
):
    run = new_run(base=tuned)
    model = CalibratedALG().adapt(source, target, run)
    with torch.no_grad():
        logits = tuned(run.transforms.evaluate(target.images))
    gamma = naive_gap(logits, target.labels, target.seen)
    assert run.history == [{"gamma": pytest.approx(gamma, rel=1e-5)}]
    shifted = predict(model, target.images, run)
    torch.testing.assert_close(shifted, logits + gamma * (~target.seen))


def test_the_order_of_the_classes_does_not_matter():
    random = torch.Generator().manual_seed(1)
    seen = torch.tensor([True, False, True, True, False, False, True])
    logits = torch.randn(20, 7, generator=random)
    labels = seen.nonzero().squeeze(1)[torch.randint(4, (20,), generator=random)]
    order = torch.randperm(7, generator=random)
    gap = average_logit_gap(logits, labels, seen)
    assert gap == pytest.approx(naive_gap(logits, labels, seen))
    again = average_logit_gap(logits[:, order], order.argsort()[labels], seen[order])
    assert again == pytest.approx(gap)
    permuted = torch.randperm(20, generator=random)
    assert average_logit_gap(logits[permuted], labels[permuted], seen) == pytest.approx(gap)


def test_a_constant_on_the_missing_columns_changes_the_gap():
    random = torch.Generator().manual_seed(2)
    seen = torch.tensor([True, True, False])
    logits, labels = torch.randn(9, 3, generator=random), torch.arange(9) % 2
    shifted = logits + 4.0 * ~seen
    gap = average_logit_gap(logits, labels, seen)
    assert average_logit_gap(shifted, labels, seen) == pytest.approx(gap - 4)


def test_gamma_0_changes_nothing_and_seen_columns_never_change(target, tuned, new_run):
    run = new_run()
    logits = predict(tuned, target.images, run)
    assert torch.equal(predict(Calibrated(tuned, ~target.seen, 0.0), target.images, run), logits)
    shifted = predict(Calibrated(tuned, ~target.seen, 9.0), target.images, run)
    assert torch.equal(shifted[:, target.seen], logits[:, target.seen])
    assert (shifted[:, ~target.seen] > logits[:, ~target.seen]).all()


@pytest.mark.parametrize("seen", [[True, False, False], [True, True, True]])
def test_with_too_few_classes_it_is_not_applicable(seen):
    with pytest.raises(NotApplicable, match="needs at least two seen classes and one missing"):
        average_logit_gap(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.tensor(seen))
