"""Nearest class means against scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from baselines.ncm import NCM, class_means
from baselines.ncm_source import NCMSource
from htbench import predict


@pytest.fixture
def data(whole_target):
    return replace(whole_target, features=None)


def reference(features, labels):
    """scikit-learn's nearest neighbour by cosine among the classes' normalised means."""
    unit = normalize(features.double().numpy())
    classes = np.unique(labels)
    means = normalize([unit[labels == c].mean(axis=0) for c in classes])
    return KNeighborsClassifier(1, metric="cosine").fit(means, classes), means


@pytest.mark.parametrize("method", [NCM, NCMSource])
def test_it_is_scikit_learns(method, source, data, new_run, tuned):
    run = new_run(base=tuned)
    features_of = tuned if method is NCM else source.copy()
    model = method().adapt(source, data, run)
    everything = data.with_missing()
    features = predict(features_of.eval().backbone, everything.images, run)
    known, means = reference(features, everything.labels.numpy())
    random = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (40, 3, 16, 16), generator=random, dtype=torch.uint8)
    tests = torch.cat([images, everything.images])
    found = predict(model, tests, run)
    asked = predict(features_of.backbone, tests, run).double().numpy()
    assert found.argmax(dim=1).tolist() == known.predict(asked).tolist()
    np.testing.assert_allclose(found.numpy(), normalize(asked) @ means.T, atol=1e-5)
    assert len(set(found.argmax(dim=1).tolist())) > 3


def test_a_class_without_an_image_is_never_predicted(source, data, new_run):
    without = replace(data, missing=data.missing.only([4]))
    model = NCMSource().adapt(source, without, new_run())
    logits = predict(model, data.missing.images, new_run())
    assert (logits[:, 1] < -1).all()
    assert logits[:, [0, 2, 3, 4, 5]].abs().max() <= 1.0001
    assert logits.isfinite().all()


def test_the_length_of_a_feature_does_not_count():
    random = torch.Generator().manual_seed(0)
    features, labels = torch.randn(30, 5, generator=random), torch.arange(30) % 3
    scale = torch.rand(30, 1, generator=random) + 0.1
    torch.testing.assert_close(
        class_means(features, labels, 3), class_means(features * scale, labels, 3)
    )


def test_only_an_oracle_is_given_what_it_takes(source, target, new_run, tuned):
    assert NCM.track == NCMSource.track == "oracle"
    with pytest.raises(ValueError, match="only a built-in method of the oracle track"):
        NCM().adapt(source, target, new_run(base=tuned))
