"""A task as a DatasetDict of Hugging Face."""

from __future__ import annotations

from typing import Any

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.roles import ROLES
from htbench import to_datasets
from tests.benchmark.expected_roles import TASK, expected_roles

Draft = Any  # the class in conftest.py


def test_every_role_agrees_with_the_files(mini: Manifest) -> None:
    import datasets

    dataset_dict = to_datasets(mini, TASK)
    assert list(dataset_dict) == list(ROLES)[:5]
    truth = expected_roles(mini, TASK)
    for role, data in dataset_dict.items():
        part = truth[truth["role"] == role]
        assert isinstance(data.features["image"], datasets.Image)
        assert data.features["label"].names == list(mini.classes)
        assert data["image_id"][:] == part["image_id"].tolist()
        assert data["seen"][:] == part["seen"].tolist()
        names = [data.features["label"].int2str(n) for n in data["label"]]
        assert names == part["class"].tolist()
        raw = data.cast_column("image", datasets.Image(decode=False))
        assert [i["bytes"] for i in raw["image"]] == [i["bytes"] for i in part["image"]]
        assert data[0]["image"].size == (32, 32)


def test_images_in_neither_group_have_a_role(draft: Draft) -> None:
    draft.document["tasks"][0]["missing"] = ["star"]  # airplane counts in no metric
    assert "test_excluded" in to_datasets(draft.read(), "outline-solid")
