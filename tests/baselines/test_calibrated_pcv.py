"""The gamma of pseudo cross-validation against a sweep over all of them, one by one."""

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
    """Every gamma between two margins of any samples, and one beyond each end."""
    z = logits.double().numpy()
    missing, labels = missing.numpy(), labels.numpy()
    margins = np.unique(z[:, ~missing].max(axis=1) - z[:, missing].max(axis=1))
    ends = [-math.inf, *margins.tolist(), math.inf]
    found = []
    for low, high in pairwise(ends):
        gamma = low + 1 if high == math.inf else high - 1 if low == -math.inf else (low + high) / 2
        right = (z + gamma * missing).argmax(axis=1) == labels
        kept = right[missing[labels]].sum() >= floor
        found.append((low, high, right.sum() if kept else -1))
    best = max(score for _, _, score in found)
    if best < 0:
        return None
    stretches = []
    for low, high, score in found:
        if score == best and stretches and stretches[-1][1] == low:
            stretches[-1][1] = high
        elif score == best:
            stretches.append([low, high])
    low, high = min(stretches, key=lambda s: 0 if s[0] <= 0 <= s[1] else min(map(abs, s)))
    finite = [end for end in (low, high) if math.isfinite(end)]
    return fmean(finite) if finite else 0.0


@st.composite
def samples(draw):
    """Small whole logits, so that margins of several samples fall together and some are 0."""
    columns = draw(st.integers(2, 6))
    missing = draw(st.lists(st.booleans(), min_size=columns, max_size=columns))
    missing[0], missing[-1] = True, False
    count = draw(st.integers(1, 30))
    cell = st.integers(-9, 9)
    logits = draw(st.lists(st.lists(cell, min_size=columns, max_size=columns),
                           min_size=count, max_size=count))  # fmt: skip
    # Distinct values in a row: an exact tie of two columns of one group is argmax's to break.
    spread = torch.tensor(logits, dtype=torch.float64) + torch.arange(columns) / 64
    labels = draw(st.lists(st.integers(0, columns - 1), min_size=count, max_size=count))
    return spread, torch.tensor(labels), torch.tensor(missing)


@given(samples(), st.integers(0, 6))
def test_it_is_the_best_of_all_intervals(sample, floor):
    found, expected = best_gamma(*sample, floor), naive_gamma(*sample, floor)
    assert found == (None if expected is None else pytest.approx(expected))


@given(samples(), st.integers(0, 6), st.integers(0, 99))
def test_the_order_of_samples_and_columns_plays_no_part(sample, floor, seed):
    logits, labels, missing = sample
    random = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(logits), generator=random)
    columns = torch.randperm(len(missing), generator=random)
    again = best_gamma(
        logits[rows][:, columns], columns.argsort()[labels[rows]], missing[columns], floor
    )
    assert again == best_gamma(logits, labels, missing, floor)


def test_where_no_gamma_changes_anything_it_is_0():
    wrong = torch.tensor([[0.0, 1.0, 5.0]])
    assert best_gamma(wrong, torch.tensor([0]), torch.tensor([False, False, True]), 0) == 0.0


@pytest.mark.parametrize(("label", "gamma"), [(0, -4.0), (2, -4.0)])
def test_an_interval_without_end_gives_the_end_it_has(label, gamma):
    logits = torch.tensor([[1.0, 0.0, 5.0]])
    found = best_gamma(logits, torch.tensor([label]), torch.tensor([False, False, True]), 0)
    assert found == gamma


def naive_pcv(source, target, run, repeats):
    """The definition in plain lists; fine-tuning, the split and prediction are the suite's."""
    seen = target.seen.nonzero().squeeze(1).tolist()
    gammas = []
    for _ in range(repeats):
        order = torch.randperm(len(seen), generator=run.stream("method")).tolist()
        pseudo = {seen[i] for i in order[: len(seen) // 2]}
        kept, held = target.hold_out(0.2, run.stream("method"))
        train = [i for i in kept.tolist() if int(target.labels[i]) not in pseudo]
        tests = [i for i in held.tolist() if int(target.labels[i]) not in pseudo]
        tests += [i for i in range(len(target)) if int(target.labels[i]) in pseudo]
        tuned = Finetune().adapt(source, target.rows(torch.tensor(train)), run)
        part = target.rows(torch.tensor(tests))
        labels = torch.tensor([seen.index(int(label)) for label in part.labels])
        missing = torch.tensor([c in pseudo for c in seen])
        before = predict(source.copy(), part.images, run)[:, seen].argmax(1)
        floor = sum(int(before[i] == labels[i]) for i in range(len(tests)) if missing[labels[i]])
        gammas.append(
            naive_gamma(predict(tuned, part.images, run)[:, seen], labels, missing, floor)
        )
    return gammas


def test_it_is_fine_tuning_with_the_mean_gamma(source, target, new_run, tuned, moved):
    before, run = tuned.copy(), new_run(base=tuned)
    model = CalibratedPCV(repeats=2).adapt(source, target, run)
    gammas = naive_pcv(source, target, new_run(), 2)
    good = [gamma for gamma in gammas if gamma is not None]
    assert len(good) == 1  # in the other no gamma keeps the source's accuracy
    gamma = fmean(good)
    assert run.history[-1] == {"gamma": pytest.approx(gamma, abs=1e-4), "repeats_that_count": 1}
    plain = predict(tuned, target.images, run)
    shifted = predict(model, target.images, run)
    torch.testing.assert_close(shifted, plain + gamma * ~target.seen, rtol=1e-4, atol=1e-4)
    assert not moved(before, tuned)
    assert (run.total_steps, run.sequential_steps) == (24, 12)
    assert run.notes == []


@pytest.mark.parametrize(
    ("gammas", "expected"), [([None, 2.0, 4.0], 3.0), ([None, None, None], 0.0)]
)
def test_repeats_without_a_gamma_do_not_count(
    gammas, expected, source, target, new_run, tuned, monkeypatch
):
    given = iter(gammas)
    monkeypatch.setattr("baselines.calibrated_pcv.best_gamma", lambda *_: next(given))
    run = new_run(base=tuned, steps=1)
    model = CalibratedPCV().adapt(source, target, run)
    assert isinstance(model, Calibrated)
    assert run.history[-1]["gamma"] == expected
    assert len(run.notes) == (expected == 0)
    if run.notes:
        assert run.notes[0].startswith("gamma is 0: in none of 3 repeats")
        plain = predict(tuned, target.images, run)
        assert torch.equal(predict(model, target.images, run), plain)


@pytest.mark.parametrize("settings", [{"repeats": 0}, {"held_out": 2.0}])
def test_settings_that_make_no_sense(settings):
    with pytest.raises(ValueError, match=r"there must be one at least|must lie between 0 and 1"):
        CalibratedPCV(**settings)


def test_with_three_seen_classes_it_does_not_apply(source, target, new_run, tuned):
    few = target.only([0, 2, 3])
    few.seen[5] = False
    with pytest.raises(NotApplicable, match="needs 4; there are 3"):
        CalibratedPCV().adapt(source, few, new_run(base=tuned))
