"""Croissant metadata is valid, correct, and equal to the file beside a published manifest."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import warnings
from pathlib import Path
from typing import Any

import mlcroissant
import pandas as pd
import pytest

from benchmark.folders import packaged_manifests
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.croissant import croissant_text, to_croissant
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.read import read_manifest
from htbench.cli.main import main

Draft = Any  # the class in conftest.py

# mlcroissant uses deprecated functions of rdflib and pandas.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib|mlcroissant")

CROISSANT_FILE = "croissant.json"
PUBLISHED = sorted(path.parent for path in packaged_manifests().glob(f"*/*/{CROISSANT_FILE}"))


def load(path: Path) -> mlcroissant.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mlcroissant.Dataset(path)


def records(dataset: mlcroissant.Dataset, name: str, limit: int) -> list[dict[str, object]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = list(itertools.islice(dataset.records(name), limit))
    return [
        {
            k.removeprefix(f"{name}/"): v.decode() if isinstance(v, bytes) else v
            for k, v in r.items()
        }
        for r in rows
    ]


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda p: f"{p.parent.name}@{p.name}")
class TestPublished:
    def test_is_up_to_date(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        text = (folder / CROISSANT_FILE).read_text("utf-8")
        assert text == croissant_text(manifest), (
            f"htbench manifest croissant {manifest.reference} --out .../{CROISSANT_FILE}"
        )

    def test_is_valid_and_complete(self, folder: Path) -> None:
        issues = load(folder / CROISSANT_FILE).metadata.ctx.issues
        assert not issues.errors
        assert not issues.warnings, "every recommended property is present"

    def test_sizes_and_checksums_of_the_files_are_right(self, folder: Path) -> None:
        files = json.loads((folder / CROISSANT_FILE).read_text("utf-8"))["distribution"]
        local = [file for file in files if "://" not in file["contentUrl"]]
        pins = {pin.file for pin in read_manifest(folder).checkpoints}
        names = {file["contentUrl"] for file in local}
        assert names == {"manifest.toml", "images.parquet", *pins}
        for file in local:
            data = (folder / file["contentUrl"]).read_bytes()
            assert file["contentSize"] == f"{len(data)} B"
            assert file["sha256"] == hashlib.sha256(data).hexdigest()


class TestIcons:
    @pytest.fixture
    def dataset(self) -> mlcroissant.Dataset:
        return load(packaged_manifests() / "icons" / "2.0" / CROISSANT_FILE)

    def test_a_loader_reads_the_images(self, dataset: mlcroissant.Dataset, icons: Manifest) -> None:
        table = pd.read_parquet(icons.root / "images.parquet")
        examples = records(dataset, "images", 20)
        for record, row in zip(examples, table.to_dict("records"), strict=False):
            image = record.pop("image")
            assert image.size == (32, 32)  # type: ignore[attr-defined]
            assert record == {k: v for k, v in row.items() if k != "image"}

    def test_a_loader_reads_classes_and_tasks(
        self, dataset: mlcroissant.Dataset, icons: Manifest
    ) -> None:
        classes = records(dataset, "classes", 100)
        assert [(c["label"], c["name"]) for c in classes] == list(enumerate(icons.classes))
        tasks = records(dataset, "tasks", 100)
        assert [t["id"] for t in tasks] == [t.id for t in icons.tasks]
        assert [tuple(t["seen"]) for t in tasks] == [t.seen for t in icons.tasks]  # type: ignore[arg-type]


class TestCroissant:
    def test_a_user_s_manifest_is_valid(self, draft: Draft) -> None:
        draft.document["version"] = "2"
        draft.document["images"] = "folder"
        draft.document["mirrors"] = [
            {
                "title": "A zip",
                "address": "https://example.org/a.zip",
                "bytes": 9,
                "sha256": "0" * 64,
            },
            {"title": "No checksum", "address": "https://example.org/b.zip"},
        ]
        draft.write(draft.table().drop_columns(["image", "group"]))
        manifest = load_manifest(draft.root)
        (draft.root / CROISSANT_FILE).write_text(croissant_text(manifest), "utf-8")
        dataset = load(draft.root / CROISSANT_FILE)
        assert not dataset.metadata.ctx.issues.errors
        assert dataset.metadata.version == "2.0.0"
        metadata = to_croissant(manifest)
        addresses = [file["contentUrl"] for file in metadata["distribution"]]
        assert addresses == ["manifest.toml", "images.parquet", "https://example.org/a.zip"]
        assert metadata["creator"] == [
            {"@type": "sc:Organization", "name": "The Holistic Transfer Bench developers"}
        ]

    def test_people_are_creators(self, draft: Draft) -> None:
        draft.document["citation"] = (
            "@article{a, author = {Saenko, Kate and\n  van Gogh, V. and Plato}, year = {2019}}"
        )
        metadata = to_croissant(draft.read())
        assert [c["name"] for c in metadata["creator"]] == ["Kate Saenko", "V. van Gogh", "Plato"]
        assert metadata["datePublished"] == "2019-01-01"

    def test_the_command_prints_or_writes_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for arguments in ([], ["--out", str(tmp_path / "c.json")]):
            with pytest.raises(SystemExit) as exit_info:
                main(["manifest", "croissant", "icons@2.0", *arguments])
            assert not exit_info.value.code
        output = capsys.readouterr().out
        assert output == (tmp_path / "c.json").read_text("utf-8")
        assert re.match(r'\{\n  "@context"', output)
