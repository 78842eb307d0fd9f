"""Names of networks: the texts that users write, and the tables that they mean."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from benchmark.errors import UsageError
from benchmark.networks.names import library_of, network_label, parse_network

OWN = {"name": "convnet", "width": 16}


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("resnet18", {"name": "resnet18"}),
        (
            "resnet18@ResNet18_Weights.IMAGENET1K_V1",
            {"name": "resnet18", "weights": "ResNet18_Weights.IMAGENET1K_V1"},
        ),
        ("timm/resnet10t", {"name": "timm/resnet10t"}),
        ("timm/resnet10t.c3_in1k", {"name": "timm/resnet10t", "weights": "resnet10t.c3_in1k"}),
    ],
)
def test_a_text_and_its_table_agree(text, table):
    assert parse_network(text, OWN) == table
    assert network_label(table) == text


def test_the_manifest_s_own_name_is_its_own_network():
    assert parse_network("convnet", OWN) is OWN
    assert parse_network("convnet", {"name": "resnet50"}) == {"name": "convnet"}


@pytest.mark.parametrize(
    "text",
    ["", "a b", "resnet18@", "@x", "resnet18.a1", "timm/", "timm/resnet18@a1", "a/b", "../x"],
)
def test_any_other_text_is_an_error_with_the_right_form(text):
    with pytest.raises(UsageError, match=r"such as resnet18\) or a timm network \(timm/NAME"):
        parse_network(text, OWN)


def test_the_library_and_its_version():
    assert library_of(OWN) == {}
    assert library_of({"name": "resnet18"}) == {"torchvision": version("torchvision")}
    assert library_of({"name": "timm/test_vit"}) == {"timm": version("timm")}


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("benchmark.networks.names.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'holistic-transfer-bench\[timm\]'"):
        library_of({"name": "timm/resnet18"})
