"""Loss terms against closed forms and simple loops, and fine-tuning with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, rel_entr, softmax

from baselines.balanced_softmax import BalancedSoftmax, balanced_cross_entropy
from baselines.ewc import EWC, fisher_diagonal
from baselines.feature_rank import FeatureRank, correlation_penalty
from baselines.l2_sp import L2SP, spring_penalty
from baselines.ldifs import LDIFS, feature_distance
from baselines.lp_ft import LPFT
from baselines.lwf import LwF, distillation_penalty
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

    def test_training_adds_the_papers_penalty(self, source, target, new_run, naive_fit, same):
        """It is lambda / 2 sum_i F_i (theta_i - theta_S,i)^2, with F divided by its maximum."""
        model = EWC(weight=2.0, fisher_samples=20).adapt(source, target, new_run())
        run = new_run()
        rows = torch.randperm(len(target), generator=run.stream("method"))[:20]
        images = run.transforms.evaluate(target.images[rows])
        fisher = fisher_diagonal(source.copy(), images, run.stream("method"))
        largest = max(value.max() for value in fisher.values())
        expected, start = source.copy(), dict(source.copy().named_parameters())

        def extra(images, features, logits):
            return sum(
                2.0 / 2 * (fisher[name] / largest * (value - start[name].detach()) ** 2).sum()
                for name, value in expected.named_parameters()
            )

        naive_fit(expected, target, new_run(), FACTORS, extra=extra)
        same(model, expected)

    def test_it_keeps_predictions_close(self, source, target, new_run, tuned, images):
        model = EWC(weight=3.0).adapt(source, target, new_run())
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
        expected = 0.7 * 4 * rel_entr(source_p, tuned_p).sum() / len(images)
        assert penalty.item() == pytest.approx(expected, rel=1e-4)
        assert expected > 1e-3

    def test_at_the_source_weights_it_is_zero(self, source, target, images):
        batch = Batch(source.copy(), images, target.labels)
        assert distillation_penalty(source, 1.0, 2.0)(batch) == 0

    def test_training_adds_it(self, source, target, new_run, naive_fit, same):
        model = LwF(weight=1.5, temperature=3.0).adapt(source, target, new_run())

        def extra(batch, features, logits):
            p, q = (source.logits(batch) / 3).softmax(1), (logits / 3).softmax(1)
            return 1.5 * 9 * (p * (p / q).log()).sum() / len(batch)

        expected = source.copy()
        naive_fit(expected, target, new_run(), FACTORS, extra=extra)
        same(model, expected)


class TestLDIFS:
    def test_it_is_the_squared_distance(self, source, target, images, tuned):
        penalty = feature_distance(source, 0.3)(Batch(tuned, images, target.labels))
        with torch.no_grad():
            one, two = (m.features(images).double().numpy() for m in (source, tuned))
        expected = 0.3 * np.mean([np.dot(a - b, a - b) for a, b in zip(one, two, strict=True)])
        assert penalty.item() == pytest.approx(expected, rel=1e-4)

    def test_training_adds_it(self, source, target, new_run, naive_fit, same):
        model = LDIFS(weight=0.05).adapt(source, target, new_run())

        def extra(images, features, logits):
            rows = zip(features, source.features(images), strict=True)
            return 0.05 * sum((a - b).dot(a - b) for a, b in rows) / 8

        expected = source.copy()
        naive_fit(expected, target, new_run(), FACTORS, extra=extra)
        same(model, expected)

    def test_it_keeps_features_close(self, source, target, new_run, images, tuned):
        model = LDIFS(weight=0.3).adapt(source, target, new_run())
        with torch.no_grad():
            start = source.features(images)
            distances = [(m.features(images) - start).square().sum() for m in (model, tuned)]
        assert distances[0] < 0.8 * distances[1]

    def test_without_weight_it_is_finetune(self, source, target, new_run, tuned, changed):
        assert not changed(LDIFS(weight=0.0).adapt(source, target, new_run()), tuned)


class TestFeatureRank:
    def test_it_is_the_norm_of_numpys_correlations(self, source, target, images):
        model = source.copy()
        penalty = correlation_penalty(0.4)(Batch(model, images, target.labels))
        with torch.no_grad():
            features = model.features(images).double().numpy()
        with np.errstate(invalid="ignore"):  # some features are 0 on all images
            correlations = np.nan_to_num(np.corrcoef(features.T))
        expected = 0.4 * np.linalg.norm(correlations) ** 2 / len(correlations) ** 2
        assert penalty.item() == pytest.approx(expected, rel=1e-3)

    def test_bounds(self, source, target):
        class Features:
            def __init__(self, features):
                self.features = features

        d = 8
        basis = torch.linalg.qr(torch.randn(64, d + 1))[0]
        basis = torch.linalg.qr(basis[:, 1:] - basis[:, 1:].mean(0))[0]  # centred, orthogonal
        basis = basis - basis.mean(0)
        penalty = correlation_penalty(1.0)
        assert penalty(Features(basis * 100)).item() == pytest.approx(1 / d, rel=0.02)
        same = torch.randn(64, 1).repeat(1, d)
        assert penalty(Features(same)).item() == pytest.approx(1.0, rel=1e-4)
        constant = penalty(Features(torch.ones(64, d)))
        assert constant.item() == 0

    def test_without_weight_it_is_finetune(self, source, target, new_run, tuned, changed):
        assert not changed(FeatureRank(weight=0.0).adapt(source, target, new_run()), tuned)

    def test_training_lowers_it(self, source, target, new_run, images, tuned):
        model = FeatureRank(weight=20.0).adapt(source, target, new_run())
        penalty = correlation_penalty(1.0)
        values = [penalty(Batch(m, images, target.labels)).item() for m in (model, tuned)]
        assert values[0] < values[1]


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
