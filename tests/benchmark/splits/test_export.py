"""An export agrees with the manifest, and is written completely or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmark.choices import SPLIT_FORMATS
from benchmark.errors import DataError, UsageError
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.roles import COLUMNS, ROLES, ordered_classes, role_frame, task_frame
from benchmark.splits.export import ABOUT_FILE, FOLDER_FORMATS, export_task
from benchmark.splits.roots import paths_below
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
        with pytest.raises(UsageError, match=r"there are spaces in 1 path.*my icons/one.png.*csv"):
            export_task(draft.read(), "outline-solid", "txt", tmp_path / "lists")
        assert not (tmp_path / "lists").exists()

    def test_images_in_neither_group_have_a_list(self, draft: Draft, tmp_path: Path) -> None:
        draft.document["tasks"][0]["missing"] = ["star"]  # airplane counts in no metric
        export_task(draft.read(), "outline-solid", "txt", tmp_path / "lists")
        assert len((tmp_path / "lists" / "test_excluded.txt").read_text().splitlines()) == 3

    def test_images_are_not_needed(self, folder_manifest: Manifest, tmp_path: Path) -> None:
        assert export_task(folder_manifest, "outline-solid", "txt", tmp_path / "lists").written


class TestOwnPaths:
    """Lists with the paths of a copy that the user has."""

    @pytest.fixture
    def manifest(self, draft: Draft) -> Manifest:
        draft.document["images"] = "folder"
        draft.document["domains"][1]["folders"] = ["solid", "Solid Icons"]
        for i, row in enumerate(draft.rows):
            row["path"] = f"{row['domain']}/{row['class']}/{i}.png"
        draft.write(draft.table().drop_columns(["image"]))
        return load_manifest(draft.root)

    @pytest.fixture
    def root(self, draft: Draft, manifest: Manifest, tmp_path: Path) -> Path:
        """A copy with another name for one domain, some folders deep."""
        root = tmp_path / "my copy"
        for row in draft.rows:
            path = root / "deep" / row["path"].replace("solid/", "Solid Icons/", 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(row["image_id"])
        return root

    def test_the_folder_names_of_the_copy_are_written(
        self, manifest: Manifest, root: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "task.csv"
        export_task(manifest, "outline-solid", "csv", out, paths=paths_below(manifest, root))
        frame, plain = pd.read_csv(out), task_frame(manifest, "outline-solid")
        assert [Path(path).read_text() for path in frame["path"]] == plain["image_id"].tolist()
        assert all(path.startswith(f"{root}/deep/") for path in frame["path"])
        assert any("/Solid Icons/" in path for path in frame["path"])
        assert (frame["label"] == plain["label"]).all()

    def test_a_root_of_another_machine_is_put_before_the_paths(
        self, mini: Manifest, tmp_path: Path
    ) -> None:
        paths = paths_below(mini, Path("/cluster/icons"))
        export_task(mini, TASK, "txt", tmp_path / "lists", paths=paths)
        lines = (tmp_path / "lists" / "train.txt").read_text().splitlines()
        rows = role_frame(mini, TASK, "train")
        pairs = zip(rows["path"], rows["label"], strict=True)
        assert lines == [f"/cluster/icons/{path} {label}" for path, label in pairs]

    def test_a_root_may_have_dots(self, manifest: Manifest, root: Path) -> None:
        """It ended in a traceback."""
        dotted = Path(f"{root}/../{root.name}")
        plain = paths_below(manifest, root)
        assert paths_below(manifest, dotted) == {
            path: place.replace(str(root), str(dotted), 1) for path, place in plain.items()
        }

    def test_a_root_without_the_images_is_named(self, manifest: Manifest, root: Path) -> None:
        with pytest.raises(DataError, match=r"does not contain 60 of 90 images .*domains' folders"):
            paths_below(manifest, root / "deep" / "color")

    def test_images_have_no_other_root(self, mini: Manifest, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="--root is for lists and tables"):
            export_task(mini, TASK, "imagefolder", tmp_path / "out", paths={})


class TestWriting:
    @pytest.mark.parametrize("form", SPLIT_FORMATS)
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

    @pytest.mark.parametrize("form", SPLIT_FORMATS)
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

    @pytest.mark.parametrize("form", SPLIT_FORMATS)
    @pytest.mark.parametrize("force", [False, True])
    def test_a_folder_of_the_user_is_never_replaced(
        self, mini: Manifest, tmp_path: Path, form: str, force: bool
    ) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter.tex").write_text("words")
        with pytest.raises(UsageError, match=r"is a folder|never replaced|not an export"):
            export_task(mini, TASK, form, tmp_path / "thesis", force=force)
        assert (tmp_path / "thesis" / "chapter.tex").read_text() == "words"

    def test_a_mark_that_is_no_export_is_not_read_for_ever(
        self, mini: Manifest, tmp_path: Path
    ) -> None:
        """A FIFO was waited for, and the nesting of the other ended in a traceback."""
        for name in ("fifo", "deep"):
            (tmp_path / name).mkdir()
        os.mkfifo(tmp_path / "fifo" / ABOUT_FILE)
        (tmp_path / "deep" / ABOUT_FILE).write_text("[" * 100_000)
        for name in ("fifo", "deep"):
            with pytest.raises(UsageError, match="is not an export of htbench"):
                export_task(mini, TASK, "txt", tmp_path / name)

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
        with pytest.raises(DataError, match=r"cannot write .*No space left.*--out"):
            export_task(mini, TASK, "imagefolder", tmp_path / "out")
        assert list(tmp_path.iterdir()) == []
