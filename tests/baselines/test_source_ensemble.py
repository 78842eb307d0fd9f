"""The mean of two models' probabilities against scipy."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import logsumexp, softmax

from baselines.lolsgd_source_ensemble import LOLSGDSourceEnsemble
from baselines.source_ensemble import SourceEnsemble
from htbench import predict


def test_it_predicts_the_mean_of_the_probabilities(source, target, new_run, tuned):
    run = new_run(base=tuned)
    logits = predict(SourceEnsemble().adapt(source, target, run), target.images, run)
    both = [predict(m, target.images, run).double().numpy() for m in (source.copy(), tuned)]
    mean = np.mean([softmax(z, axis=1) for z in both], axis=0)
    np.testing.assert_allclose(np.exp(logits.double().numpy()), mean, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(logsumexp(logits.numpy(), axis=1), 0, atol=1e-5)
    assert len({tuple(z.argmax(axis=1)) for z in (*both, mean)}) == 3


def test_with_the_source_as_base_it_is_the_source(source, target, new_run):
    run = new_run(base=source.copy())
    logits = predict(SourceEnsemble().adapt(source, target, run), target.images, run)
    plain = predict(source.copy(), target.images, run).log_softmax(dim=1)
    torch.testing.assert_close(logits, plain, rtol=1e-5, atol=1e-5)


def test_it_trains_nothing_and_does_not_change_the_base(source, target, new_run, tuned, changed):
    before, run = tuned.copy(), new_run(base=tuned)
    SourceEnsemble().adapt(source, target, run)
    assert not changed(before, tuned)
    assert run.total_steps == 0


def test_lolsgd_source_ensemble_differs_only_by_its_base():
    assert (SourceEnsemble.base, LOLSGDSourceEnsemble.base) == ("finetune", "lolsgd")
    assert LOLSGDSourceEnsemble.adapt is SourceEnsemble.adapt
