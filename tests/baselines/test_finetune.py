"""Fine-tuning of all parameters: plain, short, and on all classes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from baselines.finetune import Finetune
from baselines.finetune_short import FinetuneShort
from baselines.lolsgd import LOLSGD
from baselines.oracle_finetune import OracleFinetune


def cosine_factors(steps):
    return [(1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]


@pytest.mark.parametrize("steps", [1, 12])
def test_finetune_is_sgd_with_nesterov_momentum_and_a_cosine(
    steps, source, target, new_run, naive_fit, same, changed
):
    model = Finetune().adapt(source, target, new_run(steps=steps))
    expected = source.copy()
    naive_fit(expected, target, new_run(steps=steps), cosine_factors(steps))
    same(model, expected)
    assert changed(source.copy(), model) == set(model.state_dict())


def test_finetune_short_takes_the_sequential_steps_of_lolsgd(
    source, target, new_run, naive_fit, same
):
    run = new_run(steps=24)
    model = FinetuneShort(local_models=4).adapt(source, target, run)
    assert run.total_steps == run.sequential_steps == 6
    expected = source.copy()
    naive_fit(expected, target, new_run(), cosine_factors(6))
    same(model, expected)

    other = new_run(steps=24)
    LOLSGD(local_models=4, local_steps=3).adapt(source, target, other)
    assert other.sequential_steps == 6


def test_finetune_short_takes_a_tenth_of_the_steps_by_default(source, target, new_run):
    run = new_run(steps=40)
    FinetuneShort().adapt(source, target, run)
    assert run.total_steps == 4


def test_oracle_finetune_is_finetune_on_all_classes(source, whole_target, new_run, changed):
    model = OracleFinetune().adapt(source, whole_target, new_run())
    missing = whole_target.missing
    joined = replace(
        whole_target,
        images=torch.cat([whole_target.images, missing.images]),
        labels=torch.cat([whole_target.labels, missing.labels]),
    )
    as_many_passes = new_run(steps=round(12 * 58 / 44))
    assert not changed(model, Finetune().adapt(source, joined, as_many_passes))
    assert changed(model, Finetune().adapt(source, whole_target, new_run()))


def test_oracle_finetune_is_an_oracle_and_needs_the_missing_data(source, target, new_run):
    assert OracleFinetune.track == "oracle"
    with pytest.raises(ValueError, match="data of missing classes is available only"):
        OracleFinetune().adapt(source, target, new_run())
