"""Leave-out local SGD against a simple loop over rounds and local models."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest
import torch

from baselines.lolsgd import LOLSGD
from baselines.lolsgd_deep import LOLSGDDeep
from baselines.lolsgd_distill_rank import LOLSGDDistillRank
from baselines.lolsgd_feature_rank import LOLSGDFeatureRank
from baselines.lolsgd_frozen_classifier import LOLSGDFrozenClassifier
from baselines.lolsgd_selective_distill import LOLSGDSelectiveDistill
from htbench import fit

SEEN = [0, 2, 3, 5]


@pytest.fixture
def naive_lolsgd(source, target, new_run, naive_fit):
    """The definition in loops; ``left_out`` is the number of classes that each model leaves out."""

    def adapt(rounds, local_models, local_steps, left_out, **options):
        run = new_run()
        weights = source.copy().state_dict()
        for number in range(rounds):
            factor = (1 + math.cos(math.pi * number / rounds)) / 2
            states = []
            for _ in range(local_models):
                local = source.copy()
                local.load_state_dict(weights)
                order = torch.randperm(len(SEEN), generator=run.stream("method")).tolist()
                classes = [SEEN[i] for i in order[left_out:]]
                data = target.only(sorted(classes))
                naive_fit(local, data, run, [factor] * local_steps, **options)
                states.append(local.state_dict())
            weights = {
                name: torch.stack([s[name] for s in states]).double().mean(0).to(value.dtype)
                for name, value in weights.items()
            }
        model = source.copy()
        model.load_state_dict(weights)
        return model

    return adapt


def test_it_is_the_mean_of_local_models_round_by_round(
    source, target, new_run, naive_lolsgd, same, changed
):
    method = LOLSGD(local_models=3, local_steps=2, left_out=0.5)
    model = method.adapt(source, target, new_run())
    same(model, naive_lolsgd(rounds=2, local_models=3, local_steps=2, left_out=2))
    assert changed(source.copy(), model) == set(model.state_dict())


def test_a_frozen_classifier_does_not_change_by_a_bit(
    source, target, new_run, naive_lolsgd, same, changed
):
    method = LOLSGDFrozenClassifier(local_models=3, local_steps=2, left_out=0.25)
    model = method.adapt(source, target, new_run())
    assert changed(source.copy(), model) == {k for k in model.state_dict() if k.startswith("backb")}
    expected = naive_lolsgd(
        rounds=2,
        local_models=3,
        local_steps=2,
        left_out=1,
        trains=lambda name: name.startswith("backbone"),
    )
    same(model, expected)


def divergence(source, target, weight):
    """The term of selective distillation."""
    missing = (~target.seen).nonzero().squeeze(1).tolist()

    def extra(images, features, logits):
        p = source.logits(images)[:, missing].softmax(1)
        q = logits[:, missing].softmax(1)
        return weight * (p * (p / q).log()).sum() / len(images)

    return extra


def correlations(weight):
    """The term of feature rank, with torch's correlation matrix, without constant features."""

    def extra(images, features, logits):
        varies = features.std(dim=0) > 1e-6
        matrix = torch.corrcoef(features[:, varies].T)
        count, width = features.shape
        off_diagonal = matrix.square().sum() - len(matrix)
        return weight * off_diagonal * (count - 1) ** 2 / count / (width * (width - 1))

    return extra


@pytest.mark.parametrize(
    ("method", "terms"),
    [
        (LOLSGDSelectiveDistill(weight=2.0), {"distill": 2.0}),
        (LOLSGDFeatureRank(weight=0.2), {"rank": 0.2}),
        (LOLSGDDistillRank(distill_weight=0.7, rank_weight=0.3), {"distill": 0.7, "rank": 0.3}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_combinations_add_their_terms_to_every_local_loss(
    method, terms, source, target, new_run, naive_lolsgd, same, changed
):
    settings = {"local_models": 3, "local_steps": 2, "left_out": 0.5}
    model = replace(method, **settings).adapt(source, target, new_run())
    factories = {"distill": lambda w: divergence(source, target, w), "rank": correlations}
    extras = [factories[name](weight) for name, weight in terms.items()]
    expected = naive_lolsgd(
        rounds=2,
        local_models=3,
        local_steps=2,
        left_out=2,
        extra=lambda *batch: sum(term(*batch) for term in extras),
    )
    same(model, expected)
    plain = LOLSGD(**settings).adapt(source, target, new_run())
    assert changed(plain, model) >= {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    "method",
    [
        LOLSGDSelectiveDistill(weight=0.0),
        LOLSGDFeatureRank(weight=0.0),
        LOLSGDDistillRank(distill_weight=0.0, rank_weight=0.0),
    ],
    ids=lambda method: method.name,
)
def test_combinations_at_weight_0_are_lolsgd(method, source, target, new_run, changed):
    settings = {"local_models": 3, "local_steps": 2}
    model = replace(method, **settings).adapt(source, target, new_run())
    assert not changed(model, LOLSGD(**settings).adapt(source, target, new_run()))


def test_one_local_model_in_one_round_is_plain_sgd_without_its_left_out_classes(
    source, target, new_run, changed
):
    method = LOLSGD(local_models=1, local_steps=12, left_out=0.5)
    model = method.adapt(source, target, new_run())
    run = new_run()
    order = torch.randperm(4, generator=run.stream("method")).tolist()
    subset = target.only([SEEN[i] for i in order[2:]])
    assert not changed(model, fit(source.copy(), subset, run, rate=lambda step: 1.0))


@dataclass(frozen=True)
class Spy(LOLSGD):
    calls: list = field(default_factory=list)

    def train_locally(self, model, source, target, run, rate):
        self.calls.append((target, rate))
        super().train_locally(model, source, target, run, rate)


@pytest.mark.parametrize(("left_out", "classes"), [(0.0, 3), (0.1, 3), (0.5, 2), (1.0, 1)])
def test_a_local_model_never_sees_its_left_out_classes(left_out, classes, source, target, new_run):
    spy = Spy(local_models=4, local_steps=1, left_out=left_out)
    spy.adapt(source, target, new_run())
    subsets = set()
    for data, _ in spy.calls:
        labels = set(data.labels.tolist())
        subsets.add(frozenset(labels))
        assert len(labels) == classes
        assert labels < set(SEEN)
        rows = [i for i, label in enumerate(target.labels.tolist()) if label in labels]
        assert torch.equal(data.images, target.images[rows])
        assert torch.equal(data.labels, target.labels[rows])
    assert len(spy.calls) == 12
    assert len(subsets) > 1


def test_the_rate_follows_the_cosine_over_rounds(source, target, new_run):
    spy = Spy(local_models=2, local_steps=2)
    spy.adapt(source, target, new_run())
    assert [rate for _, rate in spy.calls] == pytest.approx([1, 1, 0.75, 0.75, 0.25, 0.25])


def test_a_single_seen_class_is_not_left_out(source, target, new_run):
    one = target.only([2])
    one.seen[[0, 3, 5]] = False
    spy = Spy(local_models=2, local_steps=1)
    spy.adapt(source, one, new_run(steps=2))
    assert all(len(data) == 11 for data, _ in spy.calls)


def test_it_takes_as_many_steps_as_the_recipe(source, target, new_run):
    run = new_run()
    LOLSGD(local_models=3, local_steps=2).adapt(source, target, run)
    assert (run.total_steps, run.sequential_steps) == (12, 4)


@pytest.mark.parametrize(("models", "steps"), [(5, 2), (13, 1), (10, 5)])
def test_steps_that_do_not_fit_the_recipe_are_an_error(models, steps, source, target, new_run):
    with pytest.raises(
        ValueError, match=f"has {models * steps} steps, which does not divide the recipe's 12;"
    ):
        LOLSGD(local_models=models, local_steps=steps).adapt(source, target, new_run())


@pytest.mark.parametrize(
    "settings", [{"local_models": 0}, {"local_steps": -1}, {"left_out": 1.5}, {"left_out": -0.1}]
)
def test_invalid_settings(settings):
    with pytest.raises(ValueError, match="at least 1, and left_out must be between 0 and 1"):
        LOLSGD(**settings)


class TestRounds:
    def test_deep_has_as_many_steps_in_sequence_as_the_recipe(
        self, source, target, new_run, naive_lolsgd, same
    ):
        run = new_run()
        model = LOLSGDDeep(local_models=3, local_steps=4, left_out=0.5).adapt(source, target, run)
        same(model, naive_lolsgd(rounds=3, local_models=3, local_steps=4, left_out=2))
        assert (run.total_steps, run.sequential_steps) == (36, 12)

    def test_they_can_be_set(self, source, target, new_run, naive_lolsgd, same):
        run = new_run()
        method = LOLSGD(local_models=2, local_steps=5, left_out=0.5, rounds=2)
        same(
            method.adapt(source, target, run),
            naive_lolsgd(rounds=2, local_models=2, local_steps=5, left_out=2),
        )
        assert (run.total_steps, run.sequential_steps) == (20, 10)

    @pytest.mark.parametrize("method", [LOLSGD(), LOLSGDDeep(local_steps=5)])
    def test_a_recipe_that_they_do_not_divide(self, method, source, target, new_run):
        with pytest.raises(ValueError, match="which does not divide the recipe's 12"):
            method.adapt(source, target, new_run())

    def test_negative_rounds(self):
        with pytest.raises(ValueError, match="rounds is -1; it must be at least 0"):
            LOLSGD(rounds=-1)
