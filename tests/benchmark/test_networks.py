"""Names of networks, and manifests with another network in the place of their own."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark import networks
from benchmark.errors import UsageError
from benchmark.manifest import load_manifest, network_label
from benchmark.networks import library_of, parse_network
from benchmark.source import SourceCheckpoint, SourceSpec
from benchmark.sources.features import features_folder
from benchmark.tune import fold

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
def test_a_text_and_the_table_it_means(text, table):
    assert parse_network(text, OWN) == table
    assert network_label(table) == text


def test_the_manifest_s_own_name_is_its_own_network():
    assert parse_network("convnet", OWN) is OWN
    assert parse_network("convnet", {"name": "resnet50"}) == {"name": "convnet"}


@pytest.mark.parametrize(
    "text",
    ["", "a b", "resnet18@", "@x", "resnet18.a1", "timm/", "timm/resnet18@a1", "a/b", "../x"],
)
def test_anything_else_is_an_error_that_says_how_to_write_it(text):
    with pytest.raises(UsageError, match="such as resnet18, or timm/NAME"):
        parse_network(text, OWN)


def test_the_library_and_its_version():
    assert library_of(OWN) == {}
    assert library_of({"name": "resnet18"}) == {"torchvision": version("torchvision")}
    assert library_of({"name": "timm/test_vit"}) == {"timm": version("timm")}


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(networks, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'holistic-transfer-bench\[timm\]'"):
        library_of({"name": "timm/resnet18"})


class TestWithModel:
    def test_the_digest_stays_and_everything_computed_is_another(self, mini, own_data):
        other = mini.with_model({"name": "resnet18"})
        assert other.digest == mini.digest
        assert (mini.model, other.model) == (mini.document["model"], {"name": "resnet18"})
        ours, theirs = (SourceSpec.of(m, ("outline",), "cpu") for m in (mini, other))
        assert ours.key != theirs.key
        assert ours.imported_folder != theirs.imported_folder
        assert theirs.facts.to_json()["model"] == {"name": "resnet18"}
        assert theirs.facts.to_json()["torchvision"] == version("torchvision")
        assert "torchvision" not in ours.facts.to_json()
        assert theirs.name.endswith("outline (resnet18)")

    def test_the_manifest_s_own_network_is_no_other(self, mini, own_data):
        same = mini.with_model(dict(mini.document["model"]))
        assert same.other_model is None
        assert same.model_option == ""
        one, two = (SourceSpec.of(m, ("outline",), "cpu") for m in (mini, same))
        assert (one.key, one.imported_folder) == (two.key, two.imported_folder)

    def test_features_of_two_networks_with_equal_states_are_apart(self):
        store = SimpleNamespace(root=Path("store"), index={"train": {"0": 1}})
        folders = {
            features_folder(
                SourceCheckpoint(Path("m"), "0" * 64, {"made_from": made}), store, "cpu"
            )
            for made in ({"model": {"name": name}} for name in ("timm/test_vit", "timm/test_vit2"))
        }
        assert len(folders) == 2

    def test_folds_of_a_search_keep_it(self):
        icons = load_manifest("icons@1.0")
        other = icons.with_model({"name": "resnet18"})
        assert fold(other, other.tasks[0], 0).model == {"name": "resnet18"}
        assert fold(icons, icons.tasks[0], 0).other_model is None

    def test_its_own_can_be_put_back(self, mini):
        back = mini.with_model({"name": "resnet18"}).with_model(mini.document["model"])
        assert back.other_model is None
