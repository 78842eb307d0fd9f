"""The recipes of new manifests: bounds, and which published manifest they follow."""

from __future__ import annotations

import pytest

from benchmark.manifest.catalogue import load_manifest
from benchmark.networks.names import parse_network
from benchmark.own_data.recipe import DEFAULT_MODEL, OWN_MODEL, network_settings

RATES = ("lr", "head_lr", "backbone_lr", "batch_size", "momentum", "nesterov", "weight_decay")


def steps(model: dict, source: int, seen: int) -> tuple[int, int]:
    settings = network_settings(model, source, seen)
    return settings["source"]["steps"], settings["recipe"]["steps"]


def test_the_default_is_that_of_pacs_but_for_steps_and_crops() -> None:
    pacs = load_manifest("pacs@1.0").document
    ours = network_settings(parse_network(DEFAULT_MODEL, OWN_MODEL), 1000, 1000)
    for name in ("model", "image_size", "transforms"):
        assert ours[name] == pacs[name]
    for table in ("source", "recipe"):
        assert {n: ours[table].get(n) for n in RATES} == {n: pacs[table].get(n) for n in RATES}


@pytest.mark.parametrize(
    ("source", "seen", "expected"),
    [
        (10, 10, (200, 200)),
        (6400, 640, (1000, 200)),
        (6401, 641, (1050, 250)),
        (10**6, 10**6, (10_000, 10_000)),
    ],
)
def test_steps_are_passes_rounded_up_within_bounds(
    source: int, seen: int, expected: tuple[int, int]
) -> None:
    """5 x 6400 / 32 = 1000 and 10 x 640 / 32 = 200."""
    assert steps({"name": "resnet18", "weights": "X"}, source, seen) == expected


def test_a_network_without_weights_trains_its_source_longer() -> None:
    assert steps(OWN_MODEL, 2560, 2560) == (2000, 400)  # 50 and 10 passes in batches of 64
    assert network_settings(OWN_MODEL, 1, 1)["transforms"]["size"] == 56
    assert network_settings({"name": "resnet18"}, 1, 1)["transforms"]["size"] == 112
