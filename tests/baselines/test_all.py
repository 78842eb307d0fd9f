"""Properties that every built-in method must have."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from htbench import predict
from tests.baselines.conftest import METHODS

GRADIENT_FREE = {
    "bn-stats",
    "calibrated-alg",
    "gla",
    "lolsgd-source-ensemble",
    "ncm",
    "ncm-source",
    "source",
    "source-ensemble",
    "wise-ft",
}
DETERMINISTIC = {"source", "ncm-source"}
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


@each_method
def test_logits_are_finite_and_the_same_for_the_same_seed(method, logits_of):
    one, _, model = logits_of(method)
    assert one.shape == (14, 6)
    assert one.isfinite().all()
    assert not model.training
    assert torch.equal(one, logits_of(method)[0])


@each_method
def test_another_seed_gives_another_model_unless_the_method_is_deterministic(method, logits_of):
    one, other = logits_of(method, seed=0)[0], logits_of(method, seed=1)[0]
    assert torch.equal(one, other) == (method.name in DETERMINISTIC)


@each_method
def test_the_source_model_does_not_change(method, source, logits_of, changed):
    before = source.copy()
    logits_of(method)
    assert not changed(before, source.copy())
    assert not source.backbone.training
    assert not any(p.requires_grad for p in [*source.backbone.parameters(), source.head.weight])


@each_method
def test_a_prediction_does_not_depend_on_its_batch(method, logits_of, whole_target):
    in_a_batch, run, model = logits_of(method)
    one_by_one = torch.cat(
        [predict(model, image[None], run) for image in whole_target.missing.images]
    )
    torch.testing.assert_close(one_by_one, in_a_batch)


@each_method
def test_gradient_steps_are_counted(method, logits_of):
    _, run, _ = logits_of(method)
    if method.name in GRADIENT_FREE:
        assert run.total_steps == 0
    elif method.name == "finetune-short":
        assert run.total_steps == 1
    elif method.name == "oracle-finetune":
        assert run.total_steps == round(run.recipe.steps * (44 + 14) / 44)
    elif method.name == "lolsgd-deep":
        assert (run.total_steps, run.sequential_steps) == (2 * 12, 12)  # two local models
    elif method.name == "calibrated-pcv":
        assert run.total_steps == 3 * run.recipe.steps
    else:
        assert run.total_steps == run.recipe.steps


@each_method
def test_the_contract(method):
    assert method.__dataclass_params__.frozen
    assert all(f.type in ("bool", "int", "float", "str") for f in fields(method))
    assert all(isinstance(getattr(method(), f.name), eval(f.type)) for f in fields(method))
    assert method.__doc__.count(".") >= 1
    assert method.base in {None, *(m.name for m in METHODS)}


def test_every_method_is_registered_under_its_name():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    points = project["project"]["entry-points"]["holistic_transfer.methods"]
    assert points == {m.name: f"{m.__module__}:{m.__name__}" for m in METHODS}
