"""Image folders: each library that reads an export gets the same roles with the same labels."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import DataError, UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.roles import role_frame
from benchmark.splits.export import export_task
from benchmark.splits.imagefolder import safe_names
from tests.benchmark.expected_roles import TASK, expected_roles

Draft = Any  # the class in conftest.py
pytestmark = pytest.mark.usefixtures("hub_cache")
EXPORTED = ("source_train", "source_test", "train", "test")


def datasets_labels(path: object, data_dir: Path | None = None) -> dict[str, list[Any]]:
    """The sorted pairs of pixels and class of each split that `datasets` finds."""
    from datasets import load_dataset

    splits = load_dataset(str(path), data_dir=str(data_dir) if data_dir else None)
    (names,) = {tuple(split.features["label"].names) for split in splits.values()}
    return {
        role: sorted(
            (image.convert("RGB").tobytes(), names[label], label) for image, label in pairs
        )
        for role, split in splits.items()
        for pairs in [list(zip(split["image"], split["label"], strict=True))]
    }


def counts_of(manifest: Manifest, task: str) -> dict[str, Counter[str]]:
    """How many images of each class each exported role has, from the manifest."""
    truth = expected_roles(manifest, task)
    return {role: Counter(truth[truth["role"] == role]["class"]) for role in EXPORTED}


class TestDatasets:
    """Hugging Face `datasets`, as users type it."""

    def test_each_role_is_a_split(self, mini: Manifest, tmp_path: Path) -> None:
        out = tmp_path / "images"
        export_task(mini, TASK, "imagefolder", out)
        classes = (out / "classes.txt").read_text().splitlines()
        for loaded in (datasets_labels("imagefolder", data_dir=out), datasets_labels(out)):
            counts = {role: Counter(name for _, name, _ in loaded[role]) for role in loaded}
            assert counts == counts_of(mini, TASK)
            assert all(classes[n] == name for role in loaded for _, name, n in loaded[role])

    @pytest.mark.parametrize("role", EXPORTED)
    def test_one_role_has_the_same_labels(self, mini: Manifest, tmp_path: Path, role: str) -> None:
        out = tmp_path / "images"
        export_task(mini, TASK, "imagefolder", out)
        assert (
            datasets_labels("imagefolder", data_dir=out / role)["train"]
            == (datasets_labels(out)[role])
        )

    def test_linked_images_are_not_copied(
        self, folder_manifest: Manifest, images: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "images"
        export_task(folder_manifest, "outline-solid", "imagefolder", out)
        splits = datasets_labels(out)
        expected = counts_of(folder_manifest, "outline-solid")
        assert {r: Counter(name for _, name, _ in splits[r]) for r in splits} == expected
        targets = datasets_labels("imagefolder", data_dir=out)
        assert targets == {role: splits[role] for role in ("train", "test")}
        assert sum(p.stat().st_size for p in out.rglob("*.png") if not p.is_symlink()) == 0
        assert not list(out.rglob("*.zip"))

    def test_a_class_named_like_a_split_stays_in_its_role(
        self, draft: Draft, tmp_path: Path
    ) -> None:
        other = {"airplane": "train", "bell": "test"}

        def rename(names: list[str]) -> list[str]:
            return [other.get(name, name) for name in names]

        draft.document["classes"] = rename(draft.document["classes"])
        for task in draft.document["tasks"]:
            task["seen"] = rename(task["seen"])
        for row in draft.rows:
            (row["class"],) = rename([row["class"]])
        manifest, out = draft.read(), tmp_path / "images"
        export_task(manifest, "outline-solid", "imagefolder", out)
        splits = datasets_labels("imagefolder", data_dir=out)
        counts = {role: Counter(name for _, name, _ in splits[role]) for role in splits}
        assert counts == counts_of(manifest, "outline-solid")


class TestFolders:
    def test_torchvision_reads_the_same_labels(self, mini: Manifest, tmp_path: Path) -> None:
        from torchvision.datasets import ImageFolder

        export_task(mini, TASK, "imagefolder", tmp_path / "images")
        truth = expected_roles(mini, TASK)
        classes = (tmp_path / "images" / "classes.txt").read_text().splitlines()
        for role in EXPORTED:
            data = ImageFolder(str(tmp_path / "images" / role), allow_empty=True)
            assert data.classes == classes
            part = truth[truth["role"] == role]
            pixels = sorted((Path(p).read_bytes(), data.classes[n]) for p, n in data.samples)
            contents = [image["bytes"] for image in part["image"]]
            assert pixels == sorted(zip(contents, part["class"], strict=True))

    def test_a_reader_that_ignores_empty_folders_fails(
        self, mini: Manifest, tmp_path: Path
    ) -> None:
        """Labels numbered by the seen classes of `train` would differ from those of `test`."""
        from torchvision.datasets import ImageFolder

        export_task(mini, TASK, "imagefolder", tmp_path / "images")
        with pytest.raises(FileNotFoundError, match="airplane"):
            ImageFolder(str(tmp_path / "images" / "train"))

    def test_timm_reads_the_same_labels(self, mini: Manifest, tmp_path: Path) -> None:
        timm_data = pytest.importorskip("timm.data")
        from torchvision.datasets import ImageFolder

        out = tmp_path / "images"
        export_task(mini, TASK, "imagefolder", out)
        for role in EXPORTED:
            data = timm_data.create_dataset(
                "", str(out), split=role, class_map=str(out / "class_map.txt")
            )
            expected = ImageFolder(str(out / role), allow_empty=True).samples
            assert sorted(data.reader.samples) == sorted(expected)

    def test_missing_training_images_are_written_on_request(
        self, mini: Manifest, tmp_path: Path
    ) -> None:
        report = export_task(mini, TASK, "imagefolder", tmp_path / "images")
        assert list(report.counts) == list(EXPORTED)
        assert not list((tmp_path / "images").rglob("*train_missing*"))
        assert "train_missing" not in (tmp_path / "images" / "export.json").read_text()
        out = tmp_path / "oracle"
        report = export_task(mini, TASK, "imagefolder", out, with_missing_train=True)
        count = (expected_roles(mini, TASK)["role"] == "train_missing").sum()
        assert report.counts["train_missing"] == count
        assert len(list((out / "train_missing").rglob("*.png"))) == count
        assert len(datasets_labels("imagefolder", data_dir=out)["train_missing"]) == count

    def test_other_formats_name_the_missing_training_images_anyway(
        self, mini: Manifest, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match="--with-missing-train is for --format imagefolder"):
            export_task(mini, TASK, "txt", tmp_path / "lists", with_missing_train=True)

    def test_labels_must_be_sorted(self, mini: Manifest, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="number classes by sorted folder name"):
            export_task(mini, TASK, "imagefolder", tmp_path / "images", "seen-first")

    def test_hostile_names_stay_inside(self, draft: Draft, tmp_path: Path) -> None:
        names = ["../up", "a/b", "a b", "..", ".x"]
        hostile = dict(zip(draft.document["classes"], names, strict=True))
        draft.document["classes"] = list(hostile.values())
        for task in draft.document["tasks"]:
            task["seen"] = [hostile[name] for name in task["seen"]]
        for row in draft.rows:
            row["class"] = hostile[row["class"]]
        manifest = draft.read()
        out = tmp_path / "place" / "images"
        report = export_task(manifest, "outline-solid", "imagefolder", out)
        assert [p.name for p in (tmp_path / "place").iterdir()] == ["images"]
        folders = json.loads((out / "export.json").read_text())["folders"]
        assert len(folders) == len(set(folders)) == 5
        assert sorted(p.name for p in (out / "test").iterdir() if p.is_dir()) == folders
        classes = (out / "classes.txt").read_text().splitlines()
        truth = expected_roles(manifest, "outline-solid")
        for folder, name in zip(folders, classes, strict=True):
            part = truth[(truth["class"] == name) & (truth["role"] == "test")]
            contents = {p.read_bytes() for p in (out / "test" / folder).iterdir()}
            assert contents == {image["bytes"] for image in part["image"]}
        assert sum(report.counts.values()) == (truth["role"] != "train_missing").sum()
        assert (out / "class_map.txt").read_text().splitlines() == folders
        assert datasets_labels("imagefolder", data_dir=out) == datasets_labels(out)
        assert set(datasets_labels(out)) == {"source_train", "source_test", "train", "test"}

    def test_safe_names_are_plain_and_distinct(self) -> None:
        texts = ["a b", "a_b", "a/b", "A_b", "", ".", "..", "..x", "é", "x" * 400, "x" * 401, "c."]
        names = safe_names(texts)
        assert len({name.casefold() for name in names}) == len(texts)
        for name in names:
            assert Path(name).name == name
            assert not name.startswith(".")
            assert len(name.encode()) < 200
        assert safe_names(["Alarm_Clock", "t-shirt", "00001.jpg"]) == [
            "Alarm_Clock",
            "t-shirt",
            "00001.jpg",
        ]


class TestLinks:
    """A manifest whose images are files."""

    def test_links_lead_to_the_files(
        self, folder_manifest: Manifest, images: Path, tmp_path: Path
    ) -> None:
        report = export_task(folder_manifest, "outline-solid", "imagefolder", tmp_path / "out")
        links = [p for p in (tmp_path / "out").rglob("*") if p.is_symlink()]
        assert len(links) == sum(report.counts.values())
        assert all(link.readlink().is_relative_to(images) and link.is_file() for link in links)
        assert not export_task(
            folder_manifest, "outline-solid", "imagefolder", tmp_path / "out"
        ).written

    def test_a_missing_image_names_the_command(
        self, folder_manifest: Manifest, images: Path, tmp_path: Path
    ) -> None:
        path = role_frame(folder_manifest, "outline-solid", "test")["path"][0]
        (images / path).unlink()
        message = rf"1 of \d+ images of mini@0.1 are missing from .*{path}.*htbench data import"
        with pytest.raises(DataError, match=message):
            export_task(folder_manifest, "outline-solid", "imagefolder", tmp_path / "out")
        assert list(tmp_path.glob("out*")) == []
