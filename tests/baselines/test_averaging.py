"""Means of weights against numpy and torch's averaged model."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from baselines.averaging import Mean, interpolate_


@pytest.fixture
def states():
    """Seven states of a small network, with a counter and a part that is equal in all of them."""
    random = torch.Generator().manual_seed(0)
    return [
        {
            "weight": torch.randn(3, 4, generator=random),
            "frozen": torch.full((2,), 0.1),
            "counter": torch.tensor(i),
        }
        for i in range(7)
    ]


def test_it_is_the_weighted_mean(states):
    mean = Mean()
    weights = [1, 5, 2, 2, 9, 1, 3]
    for state, weight in zip(states, weights, strict=True):
        mean.add(state, weight)
    values = np.stack([state["weight"].double().numpy() for state in states])
    expected = np.average(values, axis=0, weights=weights)
    np.testing.assert_allclose(mean.state["weight"].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert mean.weight == sum(weights)
    assert torch.equal(mean.state["frozen"], states[0]["frozen"])
    assert mean.state["counter"] == 6


def test_it_equals_the_averaged_model_of_torch():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = AveragedModel(nn.Linear(3, 2))
    ours = Mean()
    for _ in range(5):
        model = nn.Linear(3, 2)
        theirs.update_parameters(model)
        ours.add(model.state_dict())
    torch.testing.assert_close(ours.state, dict(theirs.module.state_dict()))


def test_the_states_do_not_change(states):
    before = [{k: v.clone() for k, v in state.items()} for state in states]
    mean = Mean()
    for state in states:
        mean.add(state)
    for state, old in zip(states, before, strict=True):
        assert all(torch.equal(state[k], old[k]) for k in state)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_interpolation_is_exact_at_both_ends(states, share):
    state, other = states[0], states[1]
    start = {k: v.clone() for k, v in state.items()}
    interpolate_(state, other, share)
    expected = start["weight"].double() * (1 - share) + other["weight"].double() * share
    torch.testing.assert_close(state["weight"], expected.float())
    if share in (0.0, 1.0):
        assert torch.equal(state["weight"], (start, other)[int(share)]["weight"])
