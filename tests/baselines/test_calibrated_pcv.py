"""The gamma of pseudo cross-validation against an exhaustive sweep."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baselines.calibrated_alg import Calibrated
from baselines.calibrated_pcv import CalibratedPCV, best_gamma
from baselines.finetune import Finetune
from htbench import NotApplicable, predict


def naive_gamma(logits, labels, missing, floor):
    """Try a gamma in every interval between two margins, and one beyond each end."""
    z = logits.double().numpy()
    missing, labels = missing.numpy(), labels.numpy()
    margins = np.unique(z[:, ~missing].max(axis=1) - z[:, missing].max(axis=1))
    ends = [-math.inf, *margins.tolist(), math.inf]
    scores = []
    for low, high in pairwise(ends):
        gamma = low + 1 if high == math.inf else high - 1 if low == -math.inf else (low + high) / 2
        correct = (z + gamma * missing).argmax(axis=1) == labels
        reaches_floor = correct[missing[labels]].sum() >= floor
        scores.append((low, high, correct.sum() if reaches_floor else -1))
    best = max(score for _, _, score in scores)
    if best < 0:
        return None
    intervals = []
    for low, high, score in scores:
        if score == best and intervals and intervals[-1][1] == low:
            intervals[-1][1] = high
        elif score == best:
            intervals.append([low, high])
    low, high = min(intervals, key=lambda s: 0 if s[0] <= 0 <= s[1] else min(map(abs, s)))
    finite = [end for end in (low, high) if math.isfinite(end)]
    return fmean(finite) if finite else 0.0


@st.composite
def samples(draw):
    """Small integers as logits, so that several samples have the same margin and some have 0."""
    columns = draw(st.integers(2, 6))
    missing = draw(st.lists(st.booleans(), min_size=columns, max_size=columns))
    missing[0], missing[-1] = True, False
    count = draw(st.integers(1, 30))
    cell = st.integers(-9, 9)
    row = st.lists(cell, min_size=columns, max_size=columns)
    logits = draw(st.lists(row, min_size=count, max_size=count))
    # Make the values of a row distinct: how argmax breaks a tie is not part of the definition.
    distinct = torch.tensor(logits, dtype=torch.float64) + torch.arange(columns) / 64
    labels = draw(st.lists(st.integers(0, columns - 1), min_size=count, max_size=count))
    return distinct, torch.tensor(labels), torch.tensor(missing)


@given(samples(), st.integers(0, 6))
def test_it_is_the_best_of_all_intervals(sample, floor):
    expected = naive_gamma(*sample, floor)
    assert best_gamma(*sample, floor) == (None if expected is None else pytest.approx(expected))


@given(samples(), st.integers(0, 6), st.integers(0, 99))
def test_the_order_of_samples_and_columns_does_not_matter(sample, floor, seed):
    logits, labels, missing = sample
    random = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(logits), generator=random)
    columns = torch.randperm(len(missing), generator=random)
    again = best_gamma(
        logits[rows][:, columns], columns.argsort()[labels[rows]], missing[columns], floor
    )
    assert again == best_gamma(logits, labels, missing, floor)


def test_if_no_gamma_changes_anything_it_is_0():
    wrong = torch.tensor([[0.0, 1.0, 5.0]])
    assert best_gamma(wrong, torch.tensor([0]), torch.tensor([False, False, True]), 0) == 0.0


@pytest.mark.parametrize(
    ("margins", "gamma"),
    [
        ((-3, -1, 1, 3), -2.0),  # equally near to 0: the lower
        ((-3, -2, 1, 3), 2.0),  # the nearer, by its end and not by its middle
        ((-9, -0.5, 1, 3), -4.75),
        ((-1, 5, 6, 8), 2.0),  # the one with 0 in it
    ],
)
def test_of_two_intervals_it_is_the_middle_of_the_nearer(margins, gamma):
    """Two of the samples are won as gamma passes their margins, and two are lost, in turn."""
    logits = torch.tensor([[margin, 0.0] for margin in margins])
    labels, missing = torch.tensor([1, 0, 1, 0]), torch.tensor([False, True])
    assert best_gamma(logits, labels, missing, 0) == gamma


@pytest.mark.parametrize(("label", "gamma"), [(0, -4.0), (2, -4.0)])
def test_of_a_half_infinite_interval_it_is_the_finite_end(label, gamma):
    logits = torch.tensor([[1.0, 0.0, 5.0]])
    missing = torch.tensor([False, False, True])
    assert best_gamma(logits, torch.tensor([label]), missing, 0) == gamma


def naive_pcv(source, target, run, repeats):
    """The definition in plain lists, with the suite's fine-tuning and prediction."""
    seen = target.seen.nonzero().squeeze(1).tolist()
    gammas = []
    for _ in range(repeats):

        def shuffled(items):
            order = torch.randperm(len(items), generator=run.stream("method")).tolist()
            return [items[i] for i in order]

        pseudo = shuffled(seen)[: len(seen) // 2]
        train, tests = [], []
        for label in seen:
            rows = shuffled([i for i in range(len(target)) if int(target.labels[i]) == label])
            tests += rows[: len(rows) // 5]
            train += [] if label in pseudo else rows[len(rows) // 5 :]
        tuned = Finetune().adapt(source, target.rows(torch.tensor(train)), run)
        validation = target.rows(torch.tensor(tests))
        labels = validation.labels
        shifted = torch.tensor([c in pseudo or c not in seen for c in range(len(target.classes))])
        before = predict(source.copy(), validation.images, run).argmax(1)
        floor = sum(
            int(before[i] == labels[i]) for i in range(len(tests)) if int(labels[i]) in pseudo
        )
        gammas.append(naive_gamma(predict(tuned, validation.images, run), labels, shifted, floor))
    return gammas


def test_it_is_fine_tuning_with_the_mean_gamma(source, target, new_run, tuned, changed):
    before, run = tuned.copy(), new_run(base=tuned)
    model = CalibratedPCV(repeats=2).adapt(source, target, run)
    gammas = naive_pcv(source, target, new_run(), 2)
    valid = [gamma for gamma in gammas if gamma is not None]
    assert len(valid) == 1  # in the other repeat no gamma keeps the source model's accuracy
    gamma = fmean(valid)
    assert run.history[-1] == {"gamma": pytest.approx(gamma, abs=1e-4), "repeats_that_count": 1}
    plain = predict(tuned, target.images, run)
    shifted = predict(model, target.images, run)
    torch.testing.assert_close(shifted, plain + gamma * ~target.seen, rtol=1e-4, atol=1e-4)
    assert not changed(before, tuned)
    assert (run.total_steps, run.sequential_steps) == (24, 12)
    assert run.notes == []


@pytest.mark.parametrize(
    ("gammas", "expected"), [([None, 2.0, 4.0], 3.0), ([None, None, None], 0.0)]
)
def test_repeats_without_a_gamma_are_ignored(
    gammas, expected, source, target, new_run, tuned, monkeypatch
):
    results = iter(gammas)
    monkeypatch.setattr("baselines.calibrated_pcv.best_gamma", lambda *_: next(results))
    run = new_run(base=tuned, steps=1)
    model = CalibratedPCV().adapt(source, target, run)
    assert isinstance(model, Calibrated)
    assert run.history[-1]["gamma"] == expected
    assert len(run.notes) == (expected == 0)
    if run.notes:
        assert run.notes[0].startswith("gamma is 0, because in none of the 3 repeats")
        plain = predict(tuned, target.images, run)
        assert torch.equal(predict(model, target.images, run), plain)


@pytest.mark.parametrize("settings", [{"repeats": 0}, {"held_out": 2.0}])
def test_invalid_settings(settings):
    with pytest.raises(ValueError, match=r"must be at least 1|must lie between 0 and 1"):
        CalibratedPCV(**settings)


def test_with_three_seen_classes_it_does_not_apply(source, target, new_run, tuned):
    few = target.only([0, 2, 3])
    few.seen[5] = False
    with pytest.raises(NotApplicable, match="needs at least 4 seen classes; the task has 3"):
        CalibratedPCV().adapt(source, few, new_run(base=tuned))


def test_with_one_image_of_every_seen_class_it_does_not_apply(source, target, new_run, tuned):
    firsts = [int((target.labels == label).nonzero()[0]) for label in target.labels.unique()]
    with pytest.raises(NotApplicable, match="every seen class has only one"):
        CalibratedPCV().adapt(source, target.rows(torch.tensor(firsts)), new_run(base=tuned))
