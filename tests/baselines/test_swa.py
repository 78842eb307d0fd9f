"""Averages over training against a simple loop that trains up to every snapshot."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import update_bn

from baselines.averaging import Mean
from baselines.bma import BMA
from baselines.bn_stats import reestimate
from baselines.swa import SWA
from baselines.swad import SWAD, Valley
from benchmark.images.augment import Transforms
from htbench import NotApplicable
from tests.baselines.conftest import TRANSFORMS


@pytest.fixture
def prefix(source, new_run, naive_fit):
    """Returns the parameters after a number of steps, trained from the start by a simple loop."""

    def weights(target, factors, steps):
        model = source.copy()
        naive_fit(model, target, new_run(), factors[:steps])
        return {name: value.detach().double() for name, value in model.named_parameters()}

    return weights


def check_mean(model, states):
    for name, value in model.named_parameters():
        expected = torch.stack([state[name] for state in states]).mean(dim=0)
        torch.testing.assert_close(value.detach().double(), expected, rtol=1e-3, atol=2e-5)


def cosine_at(step, steps):
    return (1 + math.cos(math.pi * step / steps)) / 2


def check_batch_norm(model, target, run):
    """Compare with torch's update_bn on all images at once; its variance is the unbiased one."""
    images = run.transforms.evaluate(target.images)
    theirs = model.copy()
    counts = {}

    def count(layer, inputs):
        counts[layer] = inputs[0].numel() / inputs[0].shape[1]

    layers = [m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
    update_bn([images], theirs)
    for hook in hooks:
        hook.remove()
    for ours, layer in zip(model.modules(), theirs.modules(), strict=True):
        if isinstance(layer, nn.BatchNorm2d):
            n = counts[layer]
            torch.testing.assert_close(ours.running_mean, layer.running_mean, rtol=1e-4, atol=1e-5)
            population = layer.running_var * (n - 1) / n
            torch.testing.assert_close(ours.running_var, population, rtol=1e-3, atol=1e-5)


class TestSWA:
    def test_it_is_the_mean_of_a_snapshot_per_epoch(self, source, target, new_run, prefix):
        """Averaging starts at half of 20 steps; an epoch of 44 images has 5 steps."""
        model = SWA(start=0.5).adapt(source, target, new_run(steps=20))
        factors = [cosine_at(min(step, 10), 20) for step in range(20)]
        check_mean(model, [prefix(target, factors, t) for t in (10, 15, 20)])

    def test_batch_norm_statistics_are_those_of_the_mean(self, source, target, new_run):
        plain = Transforms({**TRANSFORMS, "train": []})
        run = replace(new_run(batch_size=64), transforms=plain)
        model = SWA(start=0.5).adapt(source, target, run)
        check_batch_norm(model, target, run)

    def test_batch_norm_statistics_are_those_of_augmented_images(self, source, target, new_run):
        run, again = new_run(batch_size=64), new_run(batch_size=64)
        model = reestimate(source.copy(), target, run, augmented=True)
        order = torch.randperm(len(target), generator=again.stream("order"))
        images = again.transforms.augment(target.images[order], again.stream("augmentation"))
        layer = model.backbone[1]
        with torch.no_grad():
            mean = source.copy().backbone[0](images).mean((0, 2, 3))
        torch.testing.assert_close(layer.running_mean, mean, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("method", "expected"),
        [
            (SWA(), [75, 87, 99]),
            (SWA(epochs=0.5), [75, 81, 87, 93, 99]),
            (SWA(start=1.0), [100]),
            (SWA(start=0.0, epochs=4.0), [1, 49, 97]),
            (SWA(start=0.99, epochs=1e-9), [99, 100]),
        ],
    )
    def test_snapshot_steps(self, method, expected):
        assert list(method.snapshot_steps(100, images=800, batch_size=64)) == expected

    def test_fewer_images_than_a_batch(self):
        assert list(SWA(start=0.7).snapshot_steps(10, images=3, batch_size=64)) == [7, 8, 9, 10]

    @pytest.mark.parametrize("settings", [{"start": 1.2}, {"start": -0.1}, {"epochs": 0.0}])
    def test_invalid_settings(self, settings):
        with pytest.raises(ValueError, match="be between 0 and 1, and epochs must be positive"):
            SWA(**settings)

    def test_a_constant_model_does_not_change(self, source, target, new_run, changed):
        model = SWA().adapt(source, target, new_run(head_lr=0.0, backbone_lr=0.0))
        assert all("running" in n or "num_batches" in n for n in changed(source.copy(), model))


def naive_valley(losses, converged, tolerated, ratio):
    """Algorithm 1 on the complete list: the indices of the valley, None if no valley begins."""
    for s in range(len(losses) - converged + 1):
        window = losses[s : s + converged]
        if losses[s] == min(window):
            threshold = ratio * sum(window) / converged
            for e in range(s, len(losses)):
                window = losses[e : e + tolerated]
                if len(window) == tolerated and min(window) > threshold:
                    return list(range(s, e))
            return list(range(s, len(losses)))
    return None


class TestValley:
    @given(
        st.lists(st.integers(1, 12), min_size=1, max_size=40),
        st.integers(1, 5),
        st.integers(1, 8),
        st.sampled_from([1.0, 1.25, 1.5]),
    )
    def test_it_is_the_papers_algorithm(self, losses, converged, tolerated, ratio):
        valley = Valley(converged, tolerated, ratio)
        for index, loss in enumerate(losses):
            segment = Mean()
            segment.add({"w": torch.tensor([float(index)], dtype=torch.float64)}, 1 + index % 3)
            valley.add(segment, float(loss))
        expected = naive_valley(list(map(float, losses)), converged, tolerated, ratio)
        assert valley.has_begun == (expected is not None)
        indices = [len(losses) - 1] if expected is None else expected
        weights = [1 + i % 3 for i in indices]
        mean = valley.mean()
        assert mean.weight == sum(weights)
        assert mean.state["w"].item() == pytest.approx(np.average(indices, weights=weights))

    def test_it_keeps_few_segments_in_long_training(self):
        valley = Valley(3, 6, 1.3)
        for index in range(1000):
            segment = Mean()
            segment.add({"w": torch.tensor([float(index)])})
            valley.add(segment, 1.0)
            assert len(valley._undecided) <= 6

    def test_too_few_high_losses_at_the_end_do_not_end_it(self):
        for high, expected in ((5, 15), (6, 10)):
            valley = Valley(3, 6, 1.3)
            for loss in [1.0] * 10 + [2.0] * high:
                segment = Mean()
                segment.add({"w": torch.zeros(1)})
                valley.add(segment, loss)
            assert valley.mean().weight == expected


ALL = {"converged": 1, "ratio": 1e9}  # the valley is all of training


class TestSWAD:
    def test_over_an_endless_valley_it_is_the_mean_of_all_steps(
        self, source, target, new_run, prefix
    ):
        model = SWAD(**ALL, evaluations=3).adapt(source, target, new_run(steps=5))
        rows, _ = target.hold_out(0.2, new_run().stream("method"))
        factors = [cosine_at(step, 5) for step in range(5)]
        states = [prefix(target.rows(rows), factors, t) for t in range(1, 6)]
        check_mean(model, states)

    def test_batch_norm_statistics_are_those_of_the_mean(self, source, target, new_run):
        run = new_run(batch_size=64)
        check_batch_norm(SWAD().adapt(source, target, run), target, run)

    def test_held_out_images_are_not_trained_on(self, source, target, new_run):
        _, held_out = target.hold_out(0.2, new_run().stream("method"))
        poisoned = target.rows(torch.arange(len(target)))
        poisoned.images[held_out] = 255 - poisoned.images[held_out]
        one, other = (SWAD(**ALL).adapt(source, t, new_run()) for t in (target, poisoned))
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_the_validation_loss_is_that_of_the_held_out_images(
        self, source, target, new_run, monkeypatch
    ):
        segments = []

        def add(self, segment, loss, original=Valley.add):
            segments.append((segment.weight, loss))
            original(self, segment, loss)

        monkeypatch.setattr(Valley, "add", add)
        run = new_run(head_lr=0.0, backbone_lr=0.0, steps=7)
        SWAD(evaluations=3).adapt(source, target, run)
        assert [weight for weight, _ in segments] == [3, 3, 1]
        rows, held_out = target.hold_out(0.2, new_run().stream("method"))
        expected = source.copy()  # no weight changes, but BatchNorm's statistics do
        expected.train()
        again = new_run()
        order = torch.randperm(len(rows), generator=again.stream("order"))
        for start in (0, 8, 16):
            batch = target.images[rows[order[start : start + 8]]]
            expected(again.transforms.augment(batch, again.stream("augmentation")))
        with torch.no_grad():
            logits = expected.eval()(again.transforms.evaluate(target.images[held_out]))
        at_label = logits.log_softmax(1)[range(len(held_out)), target.labels[held_out]]
        assert segments[0][1] == pytest.approx(-at_label.mean().item(), rel=1e-4)

    def test_without_a_valley_the_row_has_a_note(self, source, target, new_run, prefix):
        run = new_run(steps=4)
        model = SWAD(converged=50, evaluations=2).adapt(source, target, run)
        assert run.notes == [
            "no valley was found in the validation loss, so the steps since the second-to-last "
            "evaluation are averaged"
        ]
        rows, _ = target.hold_out(0.2, new_run().stream("method"))
        factors = [cosine_at(step, 4) for step in range(4)]
        check_mean(model, [prefix(target.rows(rows), factors, t) for t in (3, 4)])

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"evaluations": 0}, "evaluations is 0; all must be at least 1"),
            ({"converged": 0}, "converged is 0, .* all must be at least 1"),
            ({"tolerated": -1}, "tolerated is -1 .* all must be at least 1"),
            ({"ratio": 0.9}, "ratio is 0.9; it must be at least 1"),
            ({"held_out": 0.0}, "held_out is 0.0; it must lie between 0 and 1"),
            ({"held_out": 7.0}, "held_out is 7.0; it must lie between 0 and 1"),
        ],
    )
    def test_invalid_settings(self, settings, message):
        with pytest.raises(ValueError, match=message):
            SWAD(**settings)

    def test_single_images_cannot_be_held_out(self, source, target, new_run):
        rows = torch.tensor(
            [int((target.labels == c).nonzero()[0]) for c in target.labels.unique()]
        )
        with pytest.raises(NotApplicable, match="every seen class has only one training image"):
            SWAD().adapt(source, target.rows(rows), new_run())


class TestBMA:
    def test_weights_are_densities_of_the_beta_distribution(self):
        steps = 12
        for beta in (0.5, 1.0, 2.0):
            ours = np.array([BMA(beta=beta).density(t, steps) for t in range(steps + 1)])
            theirs = scipy.stats.beta(beta, beta).pdf((np.arange(steps + 1) + 0.5) / (steps + 1))
            np.testing.assert_allclose(ours / ours.sum(), theirs / theirs.sum(), rtol=1e-12)

    def test_it_is_the_weighted_mean_of_all_steps(self, source, target, new_run, prefix):
        model = BMA().adapt(source, target, new_run())
        factors = [cosine_at(step, 12) for step in range(12)]
        states = [prefix(target, factors, step) for step in range(13)]
        weights = scipy.stats.beta(0.5, 0.5).pdf((np.arange(13) + 0.5) / 13)
        weights /= weights.sum()
        for name, value in model.named_parameters():
            expected = sum(w * state[name] for w, state in zip(weights, states, strict=True))
            torch.testing.assert_close(value.detach().double(), expected, rtol=1e-3, atol=2e-5)

    def test_a_uniform_density_is_the_plain_mean(self, source, target, new_run, prefix):
        model = BMA(beta=1.0).adapt(source, target, new_run(steps=3))
        factors = [cosine_at(step, 3) for step in range(3)]
        check_mean(model, [prefix(target, factors, step) for step in range(4)])

    def test_beta_must_be_positive(self):
        with pytest.raises(ValueError, match="beta is 0; it must be positive"):
            BMA(beta=0)
