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
    """Return scikit-learn's nearest neighbour by cosine among the normalised class means."""
    unit = normalize(features.double().numpy())
    classes = np.unique(labels)
    means = normalize([unit[labels == c].mean(axis=0) for c in classes])
    return KNeighborsClassifier(1, metric="cosine").fit(means, classes), means


@pytest.mark.parametrize("method", [NCM, NCMSource])
def test_it_predicts_as_scikit_learn(method, source, data, new_run, tuned):
    run = new_run(base=tuned)
    network = tuned if method is NCM else source.copy()
    model = method().adapt(source, data, run)
    all_classes = data.with_missing()
    features = predict(network.eval().backbone, all_classes.images, run)
    neighbours, means = reference(features, all_classes.labels.numpy())
    random = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (40, 3, 16, 16), generator=random, dtype=torch.uint8)
    tests = torch.cat([images, all_classes.images])
    logits = predict(model, tests, run)
    test_features = predict(network.backbone, tests, run).double().numpy()
    assert logits.argmax(dim=1).tolist() == neighbours.predict(test_features).tolist()
    np.testing.assert_allclose(logits.numpy(), normalize(test_features) @ means.T, atol=1e-5)
    assert len(set(logits.argmax(dim=1).tolist())) > 3


def test_a_class_without_an_image_is_never_predicted(source, data, new_run):
    without = replace(data, missing=data.missing.only([4]))
    model = NCMSource().adapt(source, without, new_run())
    logits = predict(model, data.missing.images, new_run())
    assert (logits[:, 1] < -1).all()
    assert logits[:, [0, 2, 3, 4, 5]].abs().max() <= 1.0001
    assert logits.isfinite().all()


def test_the_length_of_a_feature_does_not_matter():
    random = torch.Generator().manual_seed(0)
    features, labels = torch.randn(30, 5, generator=random), torch.arange(30) % 3
    scale = torch.rand(30, 1, generator=random) + 0.1
    torch.testing.assert_close(
        class_means(features, labels, 3), class_means(features * scale, labels, 3)
    )


def test_it_is_an_oracle_and_needs_the_missing_data(source, target, new_run, tuned):
    assert NCM.track == NCMSource.track == "oracle"
    with pytest.raises(ValueError, match="only to built-in methods on the oracle track"):
        NCM().adapt(source, target, new_run(base=tuned))
