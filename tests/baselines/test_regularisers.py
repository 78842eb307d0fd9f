"""Loss terms against closed forms and simple loops, and fine-tuning with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, rel_entr, softmax

from baselines.balanced_softmax import BalancedSoftmax, balanced_cross_entropy
from baselines.ewc import EWC, fisher_diagonal, implicit_step
from baselines.feature_rank import FeatureRank, correlation_penalty
from baselines.l2_sp import L2SP, spring_penalty
from baselines.ldifs import LDIFS, feature_distance
from baselines.lp_ft import LPFT
from baselines.lwf import LwF, distillation_penalty
from baselines.seen_softmax import SeenSoftmax
from benchmark.training import index_batches
from htbench import Batch

FACTORS = [(1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]


@pytest.fixture
def images(target, new_run):
    return new_run().transforms.evaluate(target.images)


class TestL2SP:
    def test_the_gradient_is_stiffness_times_distance(self, source, target, images):
        model = source.copy()
        stiffness = {
            name: torch.tensor(0.5 if name.startswith("head.") else 2.0)
            for name, _ in model.named_parameters()
        }
        penalty = spring_penalty(model, stiffness)
        with torch.no_grad():
            for value in model.parameters():
                value += torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        value = penalty(Batch(model, images, target.labels))
        value.backward()
        start, total = source.copy().state_dict(), 0.0
        for name, parameter in model.named_parameters():
            distance = parameter.detach() - start[name]
            torch.testing.assert_close(parameter.grad, stiffness[name] * distance)
            total += float(stiffness[name]) / 2 * float((distance.double() ** 2).sum())
        assert value.item() == pytest.approx(total, rel=1e-5)

    def test_training_adds_it(self, source, target, new_run, naive_fit, same):
        model = L2SP(alpha=0.8, beta=0.3).adapt(source, target, new_run())
        expected = source.copy()

        def extra(images, features, logits):
            return sum(
                (0.3 if name.startswith("head.") else 0.8) / 2 * (value - start).square().sum()
                for (name, value), start in zip(
                    expected.named_parameters(), source.copy().parameters(), strict=True
                )
            )

        naive_fit(expected, target, new_run(), FACTORS, extra=extra)
        same(model, expected)

    def test_a_strong_penalty_keeps_weights_close(self, source, target, new_run, tuned):
        model = L2SP(alpha=3.0, beta=3.0).adapt(source, target, new_run())
        start = dict(source.copy().named_parameters())

        def distance(model):
            return sum(
                float((v - start[k]).detach().square().sum()) for k, v in model.named_parameters()
            )

        assert distance(model) < 0.7 * distance(tuned)

    def test_at_weight_0_it_is_finetune(self, source, target, new_run, tuned, changed):
        assert not changed(L2SP(alpha=0.0, beta=0.0).adapt(source, target, new_run()), tuned)


class TestEWC:
    def test_the_fisher_of_a_linear_head_has_a_closed_form(self, source, images):
        """It is that of softmax regression: (1(c = y) - p_c)^2 for the bias, times f^2 for W."""
        model = source.copy()
        fisher = fisher_diagonal(model, images[:6], torch.Generator().manual_seed(3))
        again = torch.Generator().manual_seed(3)
        weight, bias = np.zeros((6, 16)), np.zeros(6)
        with torch.no_grad():
            features = model.features(images[:6]).double().numpy()
            probabilities = softmax(model(images[:6]).double().numpy(), axis=1)
        for f, p in zip(features, probabilities, strict=True):
            label = torch.multinomial(
                torch.tensor(p[None], dtype=torch.float32), 1, generator=again
            )
            slope = np.eye(6)[int(label)] - p
            bias += slope**2 / 6
            weight += np.outer(slope, f) ** 2 / 6
        np.testing.assert_allclose(fisher["head.bias"].numpy(), bias, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(fisher["head.weight"].numpy(), weight, rtol=1e-3, atol=1e-7)

    def test_squares_are_of_single_images(self, source, images):
        """A simple loop over images, each with the gradient of the whole network."""
        model = source.copy()
        fisher = fisher_diagonal(model, images[:4], torch.Generator().manual_seed(0))
        again = torch.Generator().manual_seed(0)
        expected = {name: torch.zeros_like(v) for name, v in model.named_parameters()}
        for i in range(4):
            logits = model(images[i : i + 1])
            label = torch.multinomial(logits.detach().softmax(1), 1, generator=again)
            model.zero_grad()
            (-logits.log_softmax(1)[0, label.item()]).backward()
            for name, value in model.named_parameters():
                expected[name] += value.grad**2 / 4
        torch.testing.assert_close(fisher, expected, rtol=1e-4, atol=1e-8)

    def test_fisher_samples_must_be_positive(self):
        with pytest.raises(ValueError, match="fisher_samples is 0; it must be at least 1"):
            EWC(fisher_samples=0)

    def test_without_weight_it_is_finetune(self, source, target, new_run, tuned, changed):
        assert not changed(EWC(weight=0.0).adapt(source, target, new_run()), tuned)

    def test_an_implicit_step_is_the_minimum(self, source):
        """Of |theta' - theta|^2 / (2 r) + s / 2 (theta' - theta_0)^2, found by its derivative."""
        model = source.copy()
        start = {name: value.detach().clone() for name, value in model.named_parameters()}
        random = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for value in model.parameters():
                value += torch.randn(value.shape, generator=random)
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        stiffness = {n: torch.rand(v.shape, generator=random) * 50 for n, v in start.items()}
        rates = {"head": 0.3, "backbone": 0.07}
        implicit_step(model, start, stiffness, rates)
        for name, value in model.named_parameters():
            rate = rates[name.split(".")[0]]
            slope = (value - before[name]) / rate + stiffness[name] * (value - start[name])
            torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-4)

    @pytest.mark.parametrize("stiffness", [0.0, 1e-3, 1.0, 1e12])
    def test_an_implicit_step_never_leaves_the_segment(self, source, stiffness):
        model = source.copy()
        start = {name: value.detach().clone() for name, value in model.named_parameters()}
        with torch.no_grad():
            for value in model.parameters():
                value += 1
        everywhere = {name: torch.full_like(value, stiffness) for name, value in start.items()}
        implicit_step(model, start, everywhere, {"head": 0.1, "backbone": 0.1})
        for name, value in model.named_parameters():
            distance = (value - start[name]).detach()
            expected = torch.full_like(distance, 1 / (1 + 0.1 * stiffness))
            torch.testing.assert_close(distance, expected, rtol=1e-4, atol=1e-5)

    def test_training_alternates_sgd_and_implicit_steps(
        self, source, target, new_run, naive_fit, same
    ):
        """Against a loop that takes one step of SGD at a time and then pulls the weights."""
        model = EWC(weight=300.0, fisher_samples=20).adapt(source, target, new_run())
        run = new_run()
        rows = torch.randperm(len(target), generator=run.stream("method"))[:20]
        images = run.transforms.evaluate(target.images[rows])
        fisher = fisher_diagonal(source.copy(), images, run.stream("method"))
        expected, start = source.copy(), dict(source.copy().named_parameters())

        def pull(factor):
            for name, value in expected.named_parameters():
                rate = factor * (0.1 if name.startswith("head") else 0.03)
                pull = rate * 300.0 * fisher[name]
                value.copy_((value + pull * start[name].detach()) / (1 + pull))

        naive_fit(expected, target, new_run(), FACTORS, after_step=pull)
        same(model, expected)

    def test_it_keeps_predictions_close(self, source, target, new_run, tuned, images):
        model = EWC().adapt(source, target, new_run())
        with torch.no_grad():
            start = source.logits(images).softmax(1)
            distances = [(m(images).softmax(1) - start).abs().mean() for m in (model, tuned)]
        assert distances[0] < distances[1]


class TestLwF:
    def test_it_is_the_divergence_of_the_softened_probabilities(
        self, source, target, images, tuned
    ):
        penalty = distillation_penalty(source, 0.7, 2.0)(Batch(tuned, images, target.labels))
        with torch.no_grad():
            source_p, tuned_p = (
                softmax(m(images).double().numpy() / 2, axis=1) for m in (source.logits, tuned)
            )
        expected = 0.7 * rel_entr(source_p, tuned_p).sum() / len(images)
        assert penalty.item() == pytest.approx(expected, rel=1e-4)
        assert expected > 1e-3

    def test_at_the_source_weights_it_is_zero(self, source, target, images):
        batch = Batch(source.copy(), images, target.labels)
        assert distillation_penalty(source, 1.0, 2.0)(batch) == 0

    def test_training_adds_it(self, source, target, new_run, naive_fit, same):
        model = LwF(weight=1.5, temperature=3.0).adapt(source, target, new_run())

        def extra(batch, features, logits):
            p, q = (source.logits(batch) / 3).softmax(1), (logits / 3).softmax(1)
            return 1.5 * (p * (p / q).log()).sum() / len(batch)

        expected = source.copy()
        naive_fit(expected, target, new_run(), FACTORS, extra=extra)
        same(model, expected)


class TestLDIFS:
    def test_it_is_the_mean_squared_difference_of_unit_vectors(self, source, target, images, tuned):
        penalty = feature_distance(source, 0.3)(Batch(tuned, images, target.labels))
        with torch.no_grad():
            one, two = (m.features(images).double().numpy() for m in (source, tuned))
        one, two = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (one, two))
        expected = 0.3 * np.mean((one - two) ** 2)
        assert penalty.item() == pytest.approx(expected, rel=1e-5)

    def test_features_of_zero_give_no_nan(self, source, target, images):
        batch = Batch(source.copy(), images, target.labels)
        batch.features = torch.zeros(len(images), 16, requires_grad=True)
        feature_distance(source, 10.0)(batch).backward()
        assert torch.isfinite(batch.features.grad).all()

    def test_training_adds_it(self, source, target, new_run, naive_fit, same):
        model = LDIFS(alpha=5.0).adapt(source, target, new_run())

        def extra(images, features, logits):
            rows = zip(features, source.features(images), strict=True)
            pairs = [(a / a.dot(a).sqrt(), b / b.dot(b).sqrt()) for a, b in rows]
            return 5.0 * sum((a - b).dot(a - b) for a, b in pairs) / 8 / features.shape[1]

        expected = source.copy()
        naive_fit(expected, target, new_run(), FACTORS, extra=extra)
        same(model, expected)

    def test_it_keeps_features_close(self, source, target, new_run, images, tuned):
        model = LDIFS(alpha=300.0).adapt(source, target, new_run())
        distance = feature_distance(source, 1.0)
        with torch.no_grad():
            values = [distance(Batch(m, images, target.labels)) for m in (model, tuned)]
        assert values[0] < 0.8 * values[1]

    def test_without_weight_it_is_finetune(self, source, target, new_run, tuned, changed):
        assert not changed(LDIFS(alpha=0.0).adapt(source, target, new_run()), tuned)


class Features:
    """A batch of which only the features are known."""

    def __init__(self, features):
        self.features = features


class TestFeatureRank:
    def test_it_is_the_mean_of_numpys_squared_correlations(self, source, target, images):
        model = source.copy()
        penalty = correlation_penalty(0.4)(Batch(model, images, target.labels))
        with torch.no_grad():
            features = model.features(images).double().numpy()
        with np.errstate(invalid="ignore"):  # some features are 0 on all images
            correlations = np.nan_to_num(np.corrcoef(features.T))
        count, width = features.shape
        off_diagonal = correlations[~np.eye(width, dtype=bool)]
        expected = 0.4 * np.mean(off_diagonal**2) * (count - 1) ** 2 / count
        assert penalty.item() == pytest.approx(expected, rel=1e-3)

    def test_value_and_gradient_of_a_simple_loop(self):
        features = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).double()
        features.requires_grad_()
        correlation_penalty(0.1)(Features(features)).backward()
        again = features.detach().clone().requires_grad_()
        total = 0.0
        for i in range(5):
            for j in range(5):
                if i != j:
                    a, b = again[:, i] - again[:, i].mean(), again[:, j] - again[:, j].mean()
                    spreads = (a.dot(a) / 6 + 1e-8).sqrt() * (b.dot(b) / 6 + 1e-8).sqrt()
                    total = total + (a.dot(b) / spreads) ** 2
        value = 0.1 * total / 20 / 7
        value.backward()
        assert correlation_penalty(0.1)(Features(features)).item() == pytest.approx(value.item())
        torch.testing.assert_close(features.grad, again.grad)

    def test_bounds(self):
        d = 8
        basis = torch.linalg.qr(torch.randn(64, d + 1))[0]
        basis = torch.linalg.qr(basis[:, 1:] - basis[:, 1:].mean(0))[0]  # centred, orthogonal
        basis = basis - basis.mean(0)
        penalty = correlation_penalty(1.0)
        assert penalty(Features(basis * 100)).item() == pytest.approx(0, abs=1e-3)
        same = torch.randn(64, 1).repeat(1, d)
        assert penalty(Features(same)).item() == pytest.approx(63**2 / 64, rel=1e-4)
        for constant in (torch.ones(64, d), torch.randn(1, d), torch.randn(64, 1)):
            assert penalty(Features(constant)).item() == 0

    def test_without_weight_it_is_finetune(self, source, target, new_run, tuned, changed):
        assert not changed(FeatureRank(weight=0.0).adapt(source, target, new_run()), tuned)

    def test_training_lowers_it(self, source, target, new_run, images, tuned):
        model = FeatureRank(weight=0.3).adapt(source, target, new_run())
        penalty = correlation_penalty(1.0)
        values = [penalty(Batch(m, images, target.labels)).item() for m in (model, tuned)]
        assert values[0] < values[1]


def test_seen_softmax_is_cross_entropy_without_the_missing_columns(
    source, target, new_run, naive_fit, same
):
    model = SeenSoftmax().adapt(source, target, new_run())
    run = new_run()
    batches = index_batches(len(target), 8, run.stream("order"))

    def extra(images, features, logits):
        labels = target.labels[next(batches)]
        plain = -logits.log_softmax(1)[range(8), labels].mean()
        top = logits[range(8), labels]
        return (logits[:, target.seen].exp().sum(1).log() - top).mean() - plain

    expected = source.copy()
    naive_fit(expected, target, new_run(), FACTORS, extra=extra)
    same(model, expected)


class TestBalancedSoftmax:
    def test_it_is_the_papers_equation(self, source, target, images):
        counts = torch.tensor([3, 0, 11, 7, 0, 1])
        batch = Batch(source.copy(), images, target.labels)
        loss = balanced_cross_entropy(counts)(batch).item()
        z, n = batch.logits.detach().double().numpy(), counts.double().numpy()
        seen = n > 0
        top = z[range(len(z)), target.labels] + np.log(n[target.labels])
        below = logsumexp(z[:, seen] + np.log(n[seen]), axis=1)
        assert loss == pytest.approx(-(top - below).mean(), rel=1e-5)

    def test_equal_counts_of_all_classes_are_plain_cross_entropy(self, source, target, images):
        batch = Batch(source.copy(), images, target.labels)
        loss = balanced_cross_entropy(torch.full((6,), 5))(batch).item()
        plain = -log_softmax(batch.logits.detach().double().numpy(), axis=1)
        assert loss == pytest.approx(plain[range(len(plain)), target.labels].mean(), rel=1e-5)

    def test_missing_logits_get_no_gradient(self, source, target, images):
        batch = Batch(source.copy(), images, target.labels)
        counts = torch.bincount(target.labels, minlength=6)
        balanced_cross_entropy(counts)(batch).backward()
        gradient = batch.model.head.weight.grad
        assert not gradient[~target.seen].any()
        assert (gradient[target.seen].abs().amax(dim=1) > 0).all()

    def test_training_is_by_the_papers_equation(self, source, target, new_run, naive_fit, same):
        """Here the plain cross-entropy is subtracted again and replaced by the equation."""
        unbalanced = target.rows(torch.cat([torch.arange(0, 25), torch.arange(33, 40)]))
        model = BalancedSoftmax().adapt(source, unbalanced, new_run())
        counts = torch.bincount(unbalanced.labels, minlength=6)
        seen = counts.nonzero().squeeze(1)
        assert len(set(counts[seen].tolist())) > 1
        run = new_run()
        batches = index_batches(len(unbalanced), 8, run.stream("order"))

        def extra(images, features, logits):
            labels = unbalanced.labels[next(batches)]
            plain = -logits.log_softmax(1)[range(8), labels].mean()
            shifted = (logits + counts.log())[:, seen]
            top = logits[range(8), labels] + counts[labels].log()
            return (shifted.exp().sum(1).log() - top).mean() - plain

        expected = source.copy()
        naive_fit(expected, unbalanced, new_run(), FACTORS, extra=extra)
        same(model, expected)

    def test_training_reduces_the_loss(self, source, target, new_run, images):
        model = BalancedSoftmax().adapt(source, target, new_run())
        counts = torch.bincount(target.labels, minlength=6)
        with torch.no_grad():
            losses = [
                balanced_cross_entropy(counts)(Batch(m, images, target.labels)).item()
                for m in (model, source.copy().eval())
            ]
        assert losses[0] < losses[1]


def test_lp_ft_is_finetune_from_the_probe(source, target, new_run, naive_fit, same):
    probe = source.copy()
    with torch.no_grad():
        probe.head.weight += 0.1
    before = {name: value.clone() for name, value in probe.state_dict().items()}
    model = LPFT().adapt(source, target, new_run(base=probe))
    assert LPFT.base == "linear-probe"
    assert all(torch.equal(value, before[name]) for name, value in probe.state_dict().items())
    naive_fit(probe, target, new_run(), FACTORS)
    same(model, probe)
