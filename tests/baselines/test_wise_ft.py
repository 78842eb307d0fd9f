"""Interpolation between the source and the fine-tuned model."""

from __future__ import annotations

import pytest
import torch

from baselines.wise_ft import WiSEFT


def test_alpha_0_is_the_source_and_alpha_1_the_fine_tuned_model(
    source, target, tuned, new_run, changed
):
    run = new_run(base=tuned)
    counters = {name for name in tuned.state_dict() if name.endswith("num_batches_tracked")}
    assert changed(source.copy(), WiSEFT(alpha=0.0).adapt(source, target, run)) == counters
    assert not changed(tuned, WiSEFT(alpha=1.0).adapt(source, target, run))


def test_alpha_0_predicts_the_same_bits_as_the_source(source, target, tuned, new_run):
    run = new_run(base=tuned)
    images = run.transforms.evaluate(target.images)
    model = WiSEFT(alpha=0.0).adapt(source, target, run)
    assert torch.equal(model(images), source.logits(images))


@pytest.mark.parametrize("alpha", [0.5, 0.2])
def test_weights_and_batch_norm_statistics_are_interpolated(alpha, source, target, tuned, new_run):
    model = WiSEFT(alpha=alpha).adapt(source, target, new_run(base=tuned))
    start, end = source.copy().state_dict(), tuned.state_dict()
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value == end[name]
        else:
            expected = (1 - alpha) * start[name].double() + alpha * end[name].double()
            torch.testing.assert_close(value, expected.float())


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_alpha_must_lie_between_0_and_1(alpha):
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        WiSEFT(alpha=alpha)


def test_alpha_is_one_half_by_default_and_the_base_does_not_change(
    source, target, tuned, new_run, changed
):
    before = tuned.copy()
    assert WiSEFT().alpha == 0.5
    WiSEFT().adapt(source, target, new_run(base=tuned))
    assert not changed(before, tuned)
