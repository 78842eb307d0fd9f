"""The rules of [transforms], and that they are those of the operations."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from benchmark.errors import ManifestError
from benchmark.images.augment import _OPERATIONS, Transforms
from benchmark.manifest.catalogue import load_manifest, pinned_digests
from benchmark.manifest.transforms import OPERATIONS, OPTIONAL, check_transforms

NORMALISED = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
FLIP = {"op": "horizontal-flip", "p": 0.5}
CROP = {"op": "random-resized-crop", "scale": [0.7, 1.0]}


def test_the_rules_know_the_settings_of_every_operation() -> None:
    for name, operation in _OPERATIONS.items():
        parameters = inspect.signature(operation).parameters
        assert parameters.keys() == OPERATIONS[name].keys()
        optional = {key for key, one in parameters.items() if one.default is not one.empty}
        assert optional == {key for key in OPERATIONS[name] if key in OPTIONAL}
    assert OPERATIONS.keys() == _OPERATIONS.keys()


@pytest.mark.parametrize("reference", pinned_digests())
def test_published_transforms_pass(reference: str) -> None:
    check_transforms(load_manifest(reference).document["transforms"], ManifestError)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": "56"}, "transforms.size is '56'; it must be a whole number from 1 to 4096"),
        ({"size": 56.0}, "transforms.size is 56.0; it must be a whole number"),
        ({"size": True}, "transforms.size is True"),
        ({"mean": [0.5]}, "transforms.mean is [0.5]; it must be a list of 3 numbers"),
        ({"mean": [0.5, 0.5, "0.5"]}, "it must be a list of 3 numbers"),
        ({"std": None}, "transforms.std is None"),
        ({"std": [0.25, 0.0, 0.25]}, "pixels are divided by it"),
        ({"train": FLIP}, "transforms.train must be a list of tables"),
        ({"train": ["horizontal-flip"]}, "transforms.train must be a list of tables"),
        ({"train": [{"op": "flip"}]}, "transforms.train[0].op is 'flip'; known: affine, color-"),
        ({"train": [{"op": ["a"]}]}, "transforms.train[0].op is ['a']"),
        ({"train": [CROP, FLIP | {"p": "0.5"}]}, "train[1].p is '0.5'; it must be a number from 0"),
        ({"train": [FLIP | {"p": 50}]}, "transforms.train[0].p is 50; it must be a number from 0"),
        ({"train": [{"op": "grayscale"}]}, "transforms.train[0] has no p, which grayscale needs"),
        ({"train": [FLIP | {"chance": 1}]}, "has 'chance'; horizontal-flip has: p"),
        ({"train": [CROP | {"scale": 0.7}]}, "scale is 0.7; it must be two numbers from 1e-06 to"),
        ({"train": [CROP | {"scale": [1.0, 0.7]}]}, "the smaller one first"),
        ({"train": [CROP | {"scale": [0, 1]}]}, "it must be two numbers from 1e-06 to 1"),
        ({"train": [CROP | {"size": 0.5}]}, "size is 0.5; it must be a whole number from 1 to"),
        ({"train": [{"op": "color-jitter", "hue": 0.6}]}, "hue is 0.6; it must be a number from 0"),
    ],
)
def test_a_wrong_value_is_named_when_the_manifest_is_read(
    draft: Any, change: dict[str, Any], words: str
) -> None:
    draft.document["transforms"] = NORMALISED | {"train": [CROP, FLIP]}
    draft.read()
    draft.document["transforms"] |= change
    draft.document["transforms"] = {
        key: value for key, value in draft.document["transforms"].items() if value is not None
    }
    with pytest.raises(ManifestError) as caught:
        draft.read()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "train",
    [
        [],
        [{"op": "color-jitter"}],
        [CROP | {"ratio": [1, 1], "size": 8}, {"op": "grayscale", "p": 1}],
        [{"op": "affine", "degrees": 0, "translate": 0.1, "scale": [0.5, 2]}],
    ],
)
def test_what_the_rules_allow_can_be_built(train: list[dict[str, Any]]) -> None:
    settings = NORMALISED | {"size": 8, "train": train}
    check_transforms(settings, ManifestError)
    Transforms(settings)
