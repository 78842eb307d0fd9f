"""An export agrees with the manifest, and is written completely or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmark.errors import DataError, UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.roles import COLUMNS, ROLES, ordered_classes, role_frame
from benchmark.splits.export import FOLDER_FORMATS, FORMATS, export_task, safe_names
from tests.benchmark.expected_roles import TASK, check_roles, expected_roles

Draft = Any  # the class in conftest.py


class TestTables:
    @pytest.mark.parametrize("order", ["manifest", "sorted", "seen-first"])
    @pytest.mark.parametrize("form", ["csv", "parquet", "json"])
    def test_pandas_reads_it_back(
        self, mini: Manifest, tmp_path: Path, form: str, order: str
    ) -> None:
        out = tmp_path / "deep" / f"task.{form}"
        report = export_task(mini, TASK, form, out, order)
        frame = getattr(pd, f"read_{form}")(out)
        assert list(frame.columns) == list(COLUMNS)
        check_roles(frame, mini, TASK, ordered_classes(mini, mini.task(TASK), order))
        assert report.written
        assert report.counts == frame["role"].value_counts().to_dict()

    def test_a_parquet_file_describes_itself(self, mini: Manifest, tmp_path: Path) -> None:
        export_task(mini, TASK, "parquet", tmp_path / "task.parquet", "seen-first")
        schema = pq.read_schema(tmp_path / "task.parquet")
        description = json.loads(schema.metadata[b"htbench"])
        assert description["digest"] == mini.digest
        assert description["class_order"].startswith("seen-first")


class TestLists:
    def test_lines_are_path_and_label(self, mini: Manifest, tmp_path: Path) -> None:
        export_task(mini, TASK, "txt", tmp_path / "lists", "seen-first")
        classes = tuple((tmp_path / "lists" / "classes.txt").read_text().splitlines())
        assert classes[:3] == mini.task(TASK).seen
        truth = expected_roles(mini, TASK)
        for role in list(ROLES)[:5]:
            lines = (tmp_path / "lists" / f"{role}.txt").read_text().splitlines()
            pairs = sorted((p, classes[int(n)]) for p, n in (line.split(" ") for line in lines))
            part = truth[truth["role"] == role]
            assert pairs == sorted(zip(part["path"], part["class"], strict=True))
        description = json.loads((tmp_path / "lists" / "export.json").read_text())
        assert description["class_order"].startswith("seen-first: the seen classes, then")
        assert description["digest"] == mini.digest

    def test_a_path_with_a_space_cannot_be_a_line(self, draft: Draft, tmp_path: Path) -> None:
        row = draft.rows_of(domain="solid")[0]
        row["path"] = "my icons/one.png"
        with pytest.raises(UsageError, match=r"1 paths contain spaces.*my icons/one.png.*csv"):
            export_task(draft.read(), "outline-solid", "txt", tmp_path / "lists")
        assert not (tmp_path / "lists").exists()

    def test_images_in_neither_group_have_a_list(self, draft: Draft, tmp_path: Path) -> None:
        draft.document["tasks"][0]["missing"] = ["star"]  # airplane counts in no metric
        export_task(draft.read(), "outline-solid", "txt", tmp_path / "lists")
        assert len((tmp_path / "lists" / "test_excluded.txt").read_text().splitlines()) == 3


class TestImageFolder:
    def test_torchvision_reads_the_same_labels(self, mini: Manifest, tmp_path: Path) -> None:
        from torchvision.datasets import ImageFolder

        export_task(mini, TASK, "imagefolder", tmp_path / "images")
        truth = expected_roles(mini, TASK)
        classes = (tmp_path / "images" / "classes.txt").read_text().splitlines()
        for role in list(ROLES)[:5]:
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
        assert sorted(p.name for p in (out / "test").iterdir()) == folders
        classes = (out / "classes.txt").read_text().splitlines()
        truth = expected_roles(manifest, "outline-solid")
        for folder, name in zip(folders, classes, strict=True):
            part = truth[(truth["class"] == name) & (truth["role"] == "test")]
            contents = {p.read_bytes() for p in (out / "test" / folder).iterdir()}
            assert contents == {image["bytes"] for image in part["image"]}
        assert sum(report.counts.values()) == len(truth)

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


class TestFolderImages:
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
        message = rf"1 of 60 images of mini@0.1 are missing from .*{path}.*htbench data download"
        with pytest.raises(DataError, match=message):
            export_task(folder_manifest, "outline-solid", "imagefolder", tmp_path / "out")
        assert list(tmp_path.glob("out*")) == []

    def test_lists_need_no_images(self, folder_manifest: Manifest, tmp_path: Path) -> None:
        assert export_task(folder_manifest, "outline-solid", "txt", tmp_path / "lists").written


class TestWriting:
    @pytest.mark.parametrize("form", FORMATS)
    def test_a_second_export_has_the_same_bytes(
        self, mini: Manifest, tmp_path: Path, form: str
    ) -> None:
        def content(folder: Path) -> dict[str, bytes]:
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            return {str(p.relative_to(folder)): p.read_bytes() for p in files}

        export_task(mini, TASK, form, tmp_path / "a" / "out")
        export_task(mini, TASK, form, tmp_path / "b" / "out")
        assert content(tmp_path / "a") == content(tmp_path / "b")
        assert not export_task(mini, TASK, form, tmp_path / "a" / "out").written

    @pytest.mark.parametrize("form", FORMATS)
    def test_force_alone_replaces_another_export(
        self, mini: Manifest, tmp_path: Path, form: str
    ) -> None:
        out = tmp_path / "out"
        export_task(mini, "outline-solid", form, out)
        with pytest.raises(UsageError, match="add --force to replace it"):
            export_task(mini, TASK, form, out)
        assert not export_task(mini, "outline-solid", form, out).written, "the export is unchanged"
        assert export_task(mini, TASK, form, out, force=True).written
        assert not export_task(mini, TASK, form, out).written
        assert [p.name for p in tmp_path.iterdir()] == ["out"]

    @pytest.mark.parametrize("form", FORMATS)
    @pytest.mark.parametrize("force", [False, True])
    def test_a_folder_of_the_user_is_never_replaced(
        self, mini: Manifest, tmp_path: Path, form: str, force: bool
    ) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter.tex").write_text("words")
        with pytest.raises(UsageError, match=r"is a folder|never replaced|not an export"):
            export_task(mini, TASK, form, tmp_path / "thesis", force=force)
        assert (tmp_path / "thesis" / "chapter.tex").read_text() == "words"

    @pytest.mark.parametrize("form", FOLDER_FORMATS)
    def test_a_damaged_export_needs_force(self, mini: Manifest, tmp_path: Path, form: str) -> None:
        export_task(mini, TASK, form, tmp_path / "out")
        (tmp_path / "out" / "classes.txt").write_text("cat\n")
        with pytest.raises(UsageError, match="--force"):
            export_task(mini, TASK, form, tmp_path / "out")

    def test_a_failed_export_leaves_nothing(
        self, mini: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: Path, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match=r"cannot write .*No space left"):
            export_task(mini, TASK, "imagefolder", tmp_path / "out")
        assert list(tmp_path.iterdir()) == []
