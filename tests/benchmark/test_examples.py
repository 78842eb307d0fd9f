"""The examples in the docstrings of the names that authors of methods use."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.errors import NotApplicable
from benchmark.images.augment import Transforms
from benchmark.method import Method, Run, SourceModel, TargetData, TrainingRecipe, check_share
from benchmark.networks.build import Classifier, build
from benchmark.numerics import Streams
from benchmark.training import Batch, cosine, fit, fit_head, predict

pytest.importorskip("htbench")

CLASSES = ("bell", "bug", "house", "key")
NAMES = [
    Batch,
    Classifier,
    Method,
    NotApplicable,
    Run,
    SourceModel,
    TargetData,
    check_share,
    cosine,
    fit,
    fit_head,
    predict,
]


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, object]:
    """The variables of the examples: ``source``, ``target`` and ``run``, as ``adapt`` gets them."""
    torch.manual_seed(0)
    source = SourceModel(build({"name": "convnet", "width": 2}, len(CLASSES)), "0" * 64)
    images = torch.randint(0, 256, (30, 3, 16, 16), dtype=torch.uint8)
    seen = torch.tensor([True, True, True, False])
    target = TargetData(images, torch.arange(30) % 3, CLASSES, seen)
    run = Run(
        device=torch.device("cpu"),
        recipe=TrainingRecipe(3, 8, 0.1, 0.01, momentum=0.9, nesterov=True, weight_decay=0.0),
        transforms=Transforms({"mean": [0.5] * 3, "std": [0.25] * 3, "train": []}),
        stream=Streams(0),
        scratch=tmp_path,
    )
    features = source.features(run.transforms.evaluate(images))
    return {
        "source": source,
        "target": replace(target, features=features),
        "run": run,
        "torch": torch,
    }


@pytest.mark.parametrize("item", NAMES, ids=lambda item: item.__name__)
def test_the_example_runs(item: type, variables: dict[str, object]) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(item, globs=variables)
    assert example.examples, "no example"
    results = doctest.DocTestRunner().run(example)
    assert results.failed == 0
