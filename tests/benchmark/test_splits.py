"""Splits taken elsewhere say the same as the manifest, and appear whole or not at all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.errors import DataError, ManifestError, UsageError
from benchmark.images.local import images_folder
from benchmark.manifest import Manifest, load_manifest
from benchmark.splits import COLUMNS, ROLES, class_counts, ordered_classes, role_frame, task_frame
from benchmark.splits.export import FOLDER_FORMATS, FORMATS, export, safe_names
from htbench import to_datasets, torch_dataset
from htbench.cli.main import main

Draft = Any  # that of conftest.py

TASK = "outline+solid-color"  # two sources
Htbench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def htbench(capsys: pytest.CaptureFixture[str]) -> Htbench:
    """The command in this process: exit status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def expected(manifest: Manifest, task: str) -> pd.DataFrame:
    """Image id to role, class and seen, from the Parquet file alone and one row at a time."""
    (found,) = [t for t in manifest.document["tasks"] if t["id"] == task]
    rows = []
    for row in pd.read_parquet(manifest.root / "images.parquet").to_dict("records"):
        seen = row["class"] in found["seen"]
        if row["domain"] in found["sources"]:
            role = f"source_{row['split']}"
        elif row["domain"] != found["target"]:
            continue
        elif row["split"] == "test":
            counts = seen or row["class"] in found.get("missing", [row["class"]])
            role = "test" if counts else "test_excluded"
        else:
            role = "train" if seen else "train_missing"
        rows.append({**row, "role": role, "seen": seen})
    return pd.DataFrame(rows).sort_values("image_id").reset_index(drop=True)


def same(found: pd.DataFrame, manifest: Manifest, task: str, classes: tuple[str, ...]) -> None:
    """Whether an export holds each image once, with what the manifest says of it."""
    wanted = expected(manifest, task)
    found = found.sort_values("image_id").reset_index(drop=True)
    for column in ("image_id", "path", "domain", "split", "role", "class", "seen"):
        assert found[column].tolist() == wanted[column].tolist(), column
    assert [classes[label] for label in found["label"]] == wanted["class"].tolist()


class TestFrame:
    def test_is_what_the_files_say(self, mini: Manifest) -> None:
        frame = mini.task_frame(TASK)
        same(frame, mini, TASK, mini.classes)
        assert list(frame.columns) == [*COLUMNS, "sha256", "group"]
        assert frame["label"].dtype == np.int64
        assert frame["seen"].dtype == np.bool_

    def test_is_ordered_by_role_and_id(self, mini: Manifest) -> None:
        frame = task_frame(mini, TASK)
        assert list(dict.fromkeys(frame["role"])) == list(ROLES)[:5]
        for _, part in frame.groupby("role"):
            assert part["image_id"].is_monotonic_increasing

    def test_agrees_with_the_runs_samples(self, icons: Manifest) -> None:
        for task in icons.tasks:
            frame = role_frame(icons, task.id, "test")
            test = icons.samples(task.target, "test")
            assert frame["image_id"].tolist() == list(test.ids)
            assert frame["label"].tolist() == test.labels.tolist()

    def test_class_orders(self, draft: Draft) -> None:
        draft.document["classes"] = ["star", "house", "airplane", "bug", "bell"]
        manifest = draft.read()
        task = manifest.tasks[0]
        assert ordered_classes(manifest, task) == ("star", "house", "airplane", "bug", "bell")
        ordered = ordered_classes(manifest, task, "sorted")
        assert ordered == ("airplane", "bell", "bug", "house", "star")
        ordered = ordered_classes(manifest, task, "seen-first")
        assert ordered == ("house", "bug", "bell", "star", "airplane")
        same(task_frame(manifest, task.id, "seen-first"), manifest, task.id, ordered)

    def test_counts_are_those_of_the_files(self, icons: Manifest) -> None:
        counts = class_counts(icons, TASK).set_index("class")
        wanted = expected(icons, TASK).groupby(["class", "role"]).size()
        assert list(counts.index) == list(icons.classes)
        for name in icons.classes:
            for role in ROLES:
                assert counts.loc[name, role] == wanted.get((name, role), 0)

    def test_a_class_in_neither_group_is_apart(self, draft: Draft, tmp_path: Path) -> None:
        draft.document["tasks"][0]["missing"] = ["star"]  # airplane counts in no metric
        manifest = draft.read()
        frame = task_frame(manifest, "outline-solid")
        same(frame, manifest, "outline-solid", manifest.classes)
        excluded = frame[frame["role"] == "test_excluded"]
        assert set(excluded["class"]) == {"airplane"}
        assert len(excluded) == 3
        export(manifest, "outline-solid", "txt", tmp_path / "lists")
        assert len((tmp_path / "lists" / "test_excluded.txt").read_text().splitlines()) == 3
        assert "test_excluded" in to_datasets(manifest, "outline-solid")
        groups = class_counts(manifest, "outline-solid")["group"].tolist()
        assert groups == ["excluded", "seen", "seen", "seen", "missing"]

    def test_says_what_is_wrong(self, mini: Manifest) -> None:
        with pytest.raises(ManifestError, match="has no task 'nope'"):
            mini.task_frame("nope")
        with pytest.raises(UsageError, match="no class order 'nope'; known: manifest"):
            mini.task_frame(TASK, "nope")
        with pytest.raises(UsageError, match="no role 'val'; known: source_train"):
            role_frame(mini, TASK, "val")


class TestTables:
    @pytest.mark.parametrize("order", ["manifest", "sorted", "seen-first"])
    @pytest.mark.parametrize("form", ["csv", "parquet", "json"])
    def test_reads_back(self, mini: Manifest, tmp_path: Path, form: str, order: str) -> None:
        out = tmp_path / "deep" / f"task.{form}"
        done = export(mini, TASK, form, out, order)
        found = getattr(pd, f"read_{form}")(out)
        assert list(found.columns) == list(COLUMNS)
        same(found, mini, TASK, ordered_classes(mini, mini.task(TASK), order))
        assert done.written
        assert done.counts == found["role"].value_counts().to_dict()

    def test_a_parquet_file_says_what_it_is(self, mini: Manifest, tmp_path: Path) -> None:
        import pyarrow.parquet as pq

        export(mini, TASK, "parquet", tmp_path / "task.parquet", "seen-first")
        schema = pq.read_schema(tmp_path / "task.parquet")
        about = json.loads(schema.metadata[b"htbench"])
        assert about["digest"] == mini.digest
        assert about["class_order"].startswith("seen-first")


class TestLists:
    def test_lines_are_path_and_label(self, mini: Manifest, tmp_path: Path) -> None:
        export(mini, TASK, "txt", tmp_path / "lists", "seen-first")
        classes = tuple((tmp_path / "lists" / "classes.txt").read_text().splitlines())
        assert classes[:3] == mini.task(TASK).seen
        wanted = expected(mini, TASK)
        for role in list(ROLES)[:5]:
            lines = (tmp_path / "lists" / f"{role}.txt").read_text().splitlines()
            found = sorted((p, classes[int(n)]) for p, n in (line.split(" ") for line in lines))
            part = wanted[wanted["role"] == role]
            assert found == sorted(zip(part["path"], part["class"], strict=True))
        about = json.loads((tmp_path / "lists" / "export.json").read_text())
        assert about["class_order"].startswith("seen-first: the seen classes, then")
        assert about["digest"] == mini.digest

    def test_a_path_with_a_blank_has_no_line(self, draft: Draft, tmp_path: Path) -> None:
        row = draft.rows_of(domain="solid")[0]
        row["path"] = "my icons/one.png"
        with pytest.raises(UsageError, match=r"1 paths have blanks.*my icons/one.png.*csv"):
            export(draft.read(), "outline-solid", "txt", tmp_path / "lists")
        assert not (tmp_path / "lists").exists()


class TestImageFolder:
    def test_torchvision_reads_the_same_labels(self, mini: Manifest, tmp_path: Path) -> None:
        from torchvision.datasets import ImageFolder

        export(mini, TASK, "imagefolder", tmp_path / "images")
        wanted = expected(mini, TASK)
        classes = (tmp_path / "images" / "classes.txt").read_text().splitlines()
        for role in list(ROLES)[:5]:
            found = ImageFolder(str(tmp_path / "images" / role), allow_empty=True)
            assert found.classes == classes
            part = wanted[wanted["role"] == role]
            pixels = sorted((Path(p).read_bytes(), found.classes[n]) for p, n in found.samples)
            truth = [image["bytes"] for image in part["image"]]
            assert pixels == sorted(zip(truth, part["class"], strict=True))

    def test_seen_classes_alone_are_refused_by_a_careless_reader(
        self, mini: Manifest, tmp_path: Path
    ) -> None:
        """Labels of `train` counted from its seen classes would not be those of `test`."""
        from torchvision.datasets import ImageFolder

        export(mini, TASK, "imagefolder", tmp_path / "images")
        with pytest.raises(FileNotFoundError, match="airplane"):
            ImageFolder(str(tmp_path / "images" / "train"))

    def test_only_sorted_labels(self, mini: Manifest, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="number classes by sorted folder name"):
            export(mini, TASK, "imagefolder", tmp_path / "images", "seen-first")

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
        done = export(manifest, "outline-solid", "imagefolder", out)
        assert [p.name for p in (tmp_path / "place").iterdir()] == ["images"]
        folders = json.loads((out / "export.json").read_text())["folders"]
        assert len(folders) == len(set(folders)) == 5
        assert sorted(p.name for p in (out / "test").iterdir()) == folders
        classes = (out / "classes.txt").read_text().splitlines()
        wanted = expected(manifest, "outline-solid")
        for folder, name in zip(folders, classes, strict=True):
            part = wanted[(wanted["class"] == name) & (wanted["role"] == "test")]
            found = {p.read_bytes() for p in (out / "test" / folder).iterdir()}
            assert found == {image["bytes"] for image in part["image"]}
        assert sum(done.counts.values()) == len(wanted)

    def test_safe_names_are_plain_and_different(self) -> None:
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
    """A manifest without pixels: its images are files below the data folder."""

    @pytest.fixture
    def manifest(self, draft: Draft, own_data: Path) -> Manifest:
        draft.document["images"] = "folder"
        table = draft.table().drop_columns(["image"])
        draft.write(table)
        return load_manifest(draft.root)

    @pytest.fixture
    def images(self, manifest: Manifest, draft: Draft) -> Path:
        for row in draft.rows:
            path = images_folder(manifest) / row["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row["image"]["bytes"])
        return images_folder(manifest)

    def test_links_lead_to_the_files(
        self, manifest: Manifest, images: Path, tmp_path: Path
    ) -> None:
        done = export(manifest, "outline-solid", "imagefolder", tmp_path / "out")
        links = [p for p in (tmp_path / "out").rglob("*") if p.is_symlink()]
        assert len(links) == sum(done.counts.values())
        assert all(link.readlink().is_relative_to(images) and link.is_file() for link in links)
        assert not export(manifest, "outline-solid", "imagefolder", tmp_path / "out").written

    def test_a_missing_image_names_the_command(
        self, manifest: Manifest, images: Path, tmp_path: Path
    ) -> None:
        path = role_frame(manifest, "outline-solid", "test")["path"][0]
        (images / path).unlink()
        message = rf"1 of 60 images of mini@0.1 are not in .*{path}.*htbench data download"
        with pytest.raises(DataError, match=message):
            export(manifest, "outline-solid", "imagefolder", tmp_path / "out")
        assert list(tmp_path.glob("out*")) == []
        with pytest.raises(DataError, match="htbench data download"):
            torch_dataset(manifest, "outline-solid", "test")

    def test_lists_need_no_images(self, manifest: Manifest, tmp_path: Path) -> None:
        assert export(manifest, "outline-solid", "txt", tmp_path / "lists").written

    def test_both_loaders_read_them(self, manifest: Manifest, images: Path, mini: Manifest) -> None:
        embedded = torch_dataset(mini, "outline-solid", "test")
        files = torch_dataset(manifest, "outline-solid", "test")
        hub = to_datasets(manifest, "outline-solid")["test"]
        for (a, label), (b, other), row in zip(embedded, files, hub, strict=True):
            assert a.tobytes() == b.tobytes() == row["image"].convert("RGB").tobytes()
            assert label == other == row["label"]


class TestWriting:
    @pytest.mark.parametrize("form", FORMATS)
    def test_again_is_the_same_bytes(self, mini: Manifest, tmp_path: Path, form: str) -> None:
        def content(place: Path) -> dict[str, bytes]:
            files = sorted(p for p in place.rglob("*") if p.is_file())
            return {str(p.relative_to(place)): p.read_bytes() for p in files}

        export(mini, TASK, form, tmp_path / "a" / "out")
        export(mini, TASK, form, tmp_path / "b" / "out")
        assert content(tmp_path / "a") == content(tmp_path / "b")
        assert not export(mini, TASK, form, tmp_path / "a" / "out").written

    @pytest.mark.parametrize("form", FORMATS)
    def test_another_export_is_replaced_by_force_only(
        self, mini: Manifest, tmp_path: Path, form: str
    ) -> None:
        out = tmp_path / "out"
        export(mini, "outline-solid", form, out)
        with pytest.raises(UsageError, match="--force replaces it"):
            export(mini, TASK, form, out)
        assert not export(mini, "outline-solid", form, out).written, "it is as it was"
        assert export(mini, TASK, form, out, force=True).written
        assert not export(mini, TASK, form, out).written
        assert [p.name for p in tmp_path.iterdir()] == ["out"]

    @pytest.mark.parametrize("form", FORMATS)
    @pytest.mark.parametrize("force", [False, True])
    def test_a_folder_of_the_users_is_never_replaced(
        self, mini: Manifest, tmp_path: Path, form: str, force: bool
    ) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter.tex").write_text("words")
        with pytest.raises(UsageError, match=r"is a folder|never replaced|not an export"):
            export(mini, TASK, form, tmp_path / "thesis", force=force)
        assert (tmp_path / "thesis" / "chapter.tex").read_text() == "words"

    @pytest.mark.parametrize("form", FOLDER_FORMATS)
    def test_a_damaged_export_is_not_the_same(
        self, mini: Manifest, tmp_path: Path, form: str
    ) -> None:
        export(mini, TASK, form, tmp_path / "out")
        (tmp_path / "out" / "classes.txt").write_text("cat\n")
        with pytest.raises(UsageError, match="--force"):
            export(mini, TASK, form, tmp_path / "out")

    def test_nothing_is_left_of_a_failed_one(
        self, mini: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: Path, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match=r"cannot write .*No space left"):
            export(mini, TASK, "imagefolder", tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


class TestLoaders:
    def test_torch_dataset(self, mini: Manifest) -> None:
        from torch.utils.data import DataLoader, Dataset
        from torchvision.transforms.v2.functional import pil_to_tensor

        wanted = expected(mini, TASK)
        for role in list(ROLES)[:5]:
            part = wanted[wanted["role"] == role]
            data = torch_dataset(mini, TASK, role, pil_to_tensor)
            assert isinstance(data, Dataset)
            assert len(data) == len(part)
            assert data.image_ids == part["image_id"].tolist()
            assert [data.classes[n] for n in data.labels] == part["class"].tolist()
            images, labels = next(iter(DataLoader(data, batch_size=len(data))))
            assert images.shape == (len(part), 3, 32, 32)
            assert labels.tolist() == data.labels

    def test_torch_dataset_without_a_transform_gives_pictures(self, mini: Manifest) -> None:
        image, label = torch_dataset(mini, TASK, "test", class_order="seen-first")[0]
        assert isinstance(image, Image.Image)
        assert image.mode == "RGB"
        assert isinstance(label, int)

    def test_hugging_face_datasets(self, mini: Manifest) -> None:
        import datasets

        found = to_datasets(mini, TASK)
        assert list(found) == list(ROLES)[:5]
        wanted = expected(mini, TASK)
        for role, data in found.items():
            part = wanted[wanted["role"] == role]
            assert isinstance(data.features["image"], datasets.Image)
            assert data.features["label"].names == list(mini.classes)
            assert data["image_id"][:] == part["image_id"].tolist()
            assert data["seen"][:] == part["seen"].tolist()
            names = [data.features["label"].int2str(n) for n in data["label"]]
            assert names == part["class"].tolist()
            raw = data.cast_column("image", datasets.Image(decode=False))
            assert [i["bytes"] for i in raw["image"]] == [i["bytes"] for i in part["image"]]
            assert data[0]["image"].size == (32, 32)


class TestCommand:
    def test_export_says_what_it_wrote(self, htbench: Htbench, tmp_path: Path) -> None:
        arguments = ["splits", "export", "icons@1.0", "--task", "outline-solid", "--format", "txt"]
        status, out, err = htbench(*arguments, "--out", tmp_path / "lists")
        assert (status, err) == (0, "")
        assert "labels  manifest: the order of the manifest" in out
        assert "   658  train\n" in out
        status, out, _ = htbench(*arguments, "--out", tmp_path / "lists", "--json")
        assert status == 0
        said = json.loads(out)
        assert said["written"] is False
        assert said["counts"]["test"] == 1119

    def test_show_counts_classes(self, htbench: Htbench, icons: Manifest) -> None:
        status, out, _ = htbench("splits", "show", "icons@1.0", "--task", TASK, "--json")
        assert status == 0
        (task,) = json.loads(out)["tasks"]
        wanted = expected(icons, TASK)
        target = wanted[wanted["domain"] == "color"]
        for split in ("train", "test"):
            for group, seen in (("seen", True), ("missing", False)):
                rows = target[(target["split"] == split) & (target["seen"] == seen)]
                assert task["totals"][f"{split}_{group}"] == len(rows)
        assert [row["class"] for row in task["classes"]] == list(icons.classes)

    @pytest.mark.parametrize("columns", [30, 60, 200])
    def test_bars_fit_the_terminal(
        self, htbench: Htbench, monkeypatch: pytest.MonkeyPatch, columns: int
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        _, out, _ = htbench("splits", "show", "icons@1.0", "--task", "outline-solid")
        bars = [line for line in out.splitlines() if "█" in line or "▏" in line]
        assert len(bars) == 65
        assert max(map(len, bars)) <= max(columns, 50)
        assert "seen     32 classes, 658 train, 520 test" in out
        _, out, _ = htbench("splits", "show", "icons@1.0")
        assert "outline+solid-color" in out or columns == 30

    @pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
    def test_figure(self, htbench: Htbench, mini: Manifest, tmp_path: Path, kind: str) -> None:
        for name in ("a", "b"):
            out = tmp_path / f"{name}.{kind}"
            arguments = ["show", mini.root, "--task", TASK, "--figure", out]
            status, said, err = htbench("splits", *arguments)
            assert status == 0, err
            assert f"figure  {out}" in said
        first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("a", "b"))
        assert first == second
        if kind == "svg":
            assert all(word in first.decode() for word in ("airplane", "mini@0.1", "withheld"))

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["show", "nope@1.0"], "no manifest 'nope@1.0'"),
            (["show", "icons@1.0", "--task", "nope"], "has no task 'nope'"),
            (["show", "icons@1.0", "--figure", "a.png"], "name it with --task"),
            (["show", "icons@1.0", "--task", TASK, "--figure", "a.gif"], r"\.png, \.svg, \.pdf"),
            (["export", "icons@1.0", "--task", TASK, "--format", "csv", "--out", "."], "a folder"),
        ],
    )
    def test_a_mistake_is_one_sentence(
        self, htbench: Htbench, arguments: list[str], sentence: str
    ) -> None:
        status, out, err = htbench("splits", *arguments)
        assert (status, out) == (2, "")
        assert err.startswith("htbench: ")
        with pytest.raises(AssertionError, match=sentence):
            raise AssertionError(err)

    def test_loads_no_torch(self, mini: Manifest, tmp_path: Path) -> None:
        where, task = str(mini.root), ["--task", TASK]
        commands = [
            ["manifest", "croissant", where],
            ["manifest", "diff", where, where],
            ["splits", "show", where],
            ["splits", "show", where, *task, "--figure", str(tmp_path / "f.svg")],
            *(
                ["splits", "export", where, *task, "--format", form, "--out", str(tmp_path / form)]
                for form in FORMATS
            ),
            ["cite", where, "board"],
        ]
        code = (
            "import sys\nfrom htbench.cli.main import main\n"
            f"for words in {commands!r}:\n"
            "    try:\n        main(words)\n"
            "    except SystemExit as end:\n        assert not end.code, words\n"
            "assert not {'torch', 'torchvision', 'datasets'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class TestCite:
    def test_every_method_that_ships_has_its_papers(self) -> None:
        from importlib.metadata import entry_points

        from benchmark.citations import read_citations

        table = read_citations()
        found = entry_points(group="holistic_transfer.methods")
        shipped = {point.name for point in found if point.value.startswith("baselines.")}
        assert shipped <= set(table["methods"]), "add it to benchmark/citations.toml"
        used = {key for keys in table["methods"].values() for key in keys}
        assert used | set(table["board"]["keys"]) == set(table["entries"])
        for key, bibtex in table["entries"].items():
            assert bibtex.strip().split("{", 1)[1].startswith(f"{key},")
            assert bibtex.count("{") == bibtex.count("}")

    @pytest.mark.parametrize(
        ("key", "words", "link"),
        [
            ("li2018explicit", "Li et al., ICML 2018", "https://arxiv.org/abs/1802.01483"),
            ("li2016learning", "Li and Hoiem, ECCV 2016", "https://arxiv.org/abs/1606.09282"),
            ("wu2021rethinking", "Wu and Johnson, arXiv 2021", "https://arxiv.org/abs/2105.07576"),
            ("wortsman2022robust", "Wortsman et al., CVPR 2022", "https://arxiv.org/abs/2109.01903"),
            ("kirkpatrick2017overcoming", "Kirkpatrick et al., PNAS 2017",
             "https://arxiv.org/abs/1612.00796"),
            ("mensink2013distance", "Mensink et al., TPAMI 2013",
             "https://doi.org/10.1109/TPAMI.2013.83"),
            ("htbench", "this suite", None),
        ],
    )  # fmt: skip
    def test_a_paper_in_a_few_words(self, key: str, words: str, link: str | None) -> None:
        from benchmark.citations import short_reference

        assert short_reference(key) == (words, link)

    def test_the_source_of_every_method_is_short_and_can_be_followed(self) -> None:
        from benchmark.citations import read_citations, short_reference

        table = read_citations()
        first = {keys[0] for keys in table["methods"].values()}
        first.remove("htbench")
        for words, link in (short_reference(key) for key in first):
            assert re.fullmatch(r"[^,]{2,30}, [A-Za-z]{3,7} (19|20)\d\d", words), words
            assert link is not None

    def test_prints_each_paper_once(self, htbench: Htbench) -> None:
        _, out, _ = htbench("cite", "wise-ft", "board", "icons@1.0")
        assert out.count("2311.01420") == 1
        assert "% wise-ft, board\n@inproceedings{tu2023holistic," in out
        assert "@misc{holistic-transfer-bench-icons," in out

    def test_everything_as_json(self, htbench: Htbench) -> None:
        _, out, _ = htbench("cite", "--json")
        entries: list[dict[str, Any]] = json.loads(out)
        assert {"icons@1.0", "iwildcam@1.0", "wise-ft", "board"} <= {
            entry["for"] for entry in entries
        }
        assert all(entry["bibtex"].startswith("@") for entry in entries)

    def test_an_unknown_name_lists_what_there_is(self, htbench: Htbench) -> None:
        status, _, err = htbench("cite", "nope")
        assert status == 2
        assert "icons@1.0" in err
        assert "wise-ft" in err
