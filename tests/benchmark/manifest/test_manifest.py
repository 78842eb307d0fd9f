"""The data classes: samples, masks and tasks of a manifest, and another network for it."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.errors import ManifestError
from benchmark.folders import packaged_manifests
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from benchmark.sources.features import features_folder
from benchmark.sources.spec import SourceCheckpoint, SourceSpec
from benchmark.tuning.folds import fold


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    path = packaged_manifests() / "icons" / "2.0" / "images.parquet"
    return pd.read_parquet(path, columns=["image_id", "domain", "class", "split"])


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    path = packaged_manifests() / "icons" / "2.0" / "manifest.toml"
    return tomllib.loads(path.read_text("utf-8"))


class TestIcons:
    """The shipped manifest against a naive reading of its two files."""

    def test_names_and_order(self, icons: Manifest, document: dict[str, Any]) -> None:
        assert icons.reference == "icons@2.0"
        assert icons.classes == tuple(document["classes"])
        assert [d.name for d in icons.domains] == ["outline", "solid", "color"]
        assert [t.id for t in icons.tasks] == [task["id"] for task in document["tasks"]]
        assert len(icons.tasks) == 27

    @pytest.mark.parametrize("split", ["train", "test"])
    @pytest.mark.parametrize("domains", ["solid", ("outline", "color")])
    def test_samples(
        self, icons: Manifest, rows: pd.DataFrame, domains: str | tuple[str, ...], split: str
    ) -> None:
        names = [domains] if isinstance(domains, str) else domains
        part = rows[rows["domain"].isin(names) & (rows["split"] == split)].sort_values("image_id")
        samples = icons.samples(domains, split)
        assert list(samples.ids) == part["image_id"].tolist()
        assert [icons.classes[i] for i in samples.labels] == part["class"].tolist()

    def test_counts_of_every_task(
        self, icons: Manifest, rows: pd.DataFrame, document: dict[str, Any]
    ) -> None:
        for task, entry in zip(icons.tasks, document["tasks"], strict=True):
            mask = icons.seen_mask(task)
            assert [c for c, seen in zip(icons.classes, mask, strict=True) if seen] == [
                c for c in document["classes"] if c in entry["seen"]
            ]
            for split in ("train", "test"):
                part = rows[(rows["domain"] == entry["target"]) & (rows["split"] == split)]
                labels = icons.samples(task.target, split).labels
                assert mask[labels].sum() == part["class"].isin(entry["seen"]).sum()
                assert (~mask)[labels].sum() == (~part["class"].isin(entry["seen"])).sum()

    def test_task_by_id(self, icons: Manifest) -> None:
        assert icons.task("solid-outline").sources == ("solid",)
        with pytest.raises(
            ManifestError, match="no task 'solid-outlin'; did you mean solid-outline "
        ):
            icons.task("solid-outlin")


def test_labels_and_masks_have_their_dtypes(mini: Manifest) -> None:
    samples = mini.samples("solid", "test")
    assert samples.labels.dtype == np.int64
    assert mini.seen_mask(mini.tasks[0]).tolist() == [False, True, True, True, False]


class TestWithModel:
    def test_the_digest_stays_and_every_computed_key_changes(self, mini, own_data):
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

    def test_the_manifest_s_own_network_is_not_another_one(self, mini, own_data):
        same = mini.with_model(dict(mini.document["model"]))
        assert same.other_model is None
        assert same.model_option == ()
        one, two = (SourceSpec.of(m, ("outline",), "cpu") for m in (mini, same))
        assert (one.key, one.imported_folder) == (two.key, two.imported_folder)

    def test_features_of_two_networks_with_equal_weights_have_two_folders(self):
        store = SimpleNamespace(root=Path("store"), index={"train": {"0": 1}})
        folders = {
            features_folder(SourceCheckpoint(Path("m"), "0" * 64, {"made_from": key}), store, "cpu")
            for key in ({"model": {"name": name}} for name in ("timm/test_vit", "timm/test_vit2"))
        }
        assert len(folders) == 2

    def test_tuning_folds_keep_the_network(self):
        icons = load_manifest("icons@2.0")
        other = icons.with_model({"name": "resnet18"})
        assert fold(other, other.tasks[0], 0).model == {"name": "resnet18"}
        assert fold(icons, icons.tasks[0], 0).other_model is None

    def test_the_manifest_s_own_network_can_be_restored(self, mini):
        restored = mini.with_model({"name": "resnet18"}).with_model(mini.document["model"])
        assert restored.other_model is None
