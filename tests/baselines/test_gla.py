"""The adjusted sum of logits against its formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines.gla import GLA
from htbench import predict


@pytest.fixture
def uneven(target):
    """Seen classes with 11, 8, 4 and 1 images; two classes without."""
    rows = torch.tensor([*range(11), *range(11, 19), *range(22, 26), 33])
    return target.rows(rows)


@pytest.mark.parametrize("floor", [1.0, 2.5])
def test_it_is_the_sum_without_priors(source, uneven, new_run, tuned, floor):
    run = new_run(base=tuned)
    model = GLA(floor=floor).adapt(source, uneven, run)
    images = uneven.images
    one, two, total = (
        predict(m, images, run).double().numpy() for m in (source.copy(), tuned, model)
    )
    images_of_class = np.maximum([11, 0, 8, 4, 0, 1], floor)
    prior = images_of_class / images_of_class.sum()
    np.testing.assert_allclose(total, one + two - np.log(prior), rtol=1e-5, atol=1e-5)


def test_with_equal_counts_and_floor_only_the_sum_matters(source, target, new_run, tuned):
    """A constant for all classes changes no prediction."""
    run = new_run(base=tuned)
    model = GLA(floor=11.0).adapt(source, target, run)
    total = sum(predict(m, target.images, run) for m in (source.copy(), tuned))
    assert torch.equal(predict(model, target.images, run).argmax(1), total.argmax(1))


def test_a_floor_of_0_is_refused():
    with pytest.raises(ValueError, match="floor is 0; it must be positive"):
        replace(GLA(), floor=0)
