"""Croissant metadata: valid, true, and the same as what is kept beside a published manifest."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

import mlcroissant
import pandas as pd
import pytest

from benchmark.croissant import CROISSANT_FILE, croissant, croissant_text
from benchmark.folders import packaged_manifests
from benchmark.manifest import Manifest, load_manifest, read_manifest
from htbench.cli.main import main

Draft = Any  # that of conftest.py

# mlcroissant itself uses what rdflib and pandas have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib|mlcroissant")

PUBLISHED = sorted(path.parent for path in packaged_manifests().glob(f"*/*/{CROISSANT_FILE}"))


def load(path: Path) -> mlcroissant.Dataset:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mlcroissant.Dataset(path)


def records(dataset: mlcroissant.Dataset, name: str, limit: int) -> list[dict[str, object]]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(itertools.islice(dataset.records(name), limit))
    return [
        {
            k.removeprefix(f"{name}/"): v.decode() if isinstance(v, bytes) else v
            for k, v in r.items()
        }
        for r in found
    ]


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda p: f"{p.parent.name}@{p.name}")
class TestPublished:
    def test_is_up_to_date(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        kept = (folder / CROISSANT_FILE).read_text("utf-8")
        assert kept == croissant_text(manifest), (
            f"htbench manifest croissant {manifest.reference} --out .../{CROISSANT_FILE}"
        )

    def test_is_valid_and_complete(self, folder: Path) -> None:
        issues = load(folder / CROISSANT_FILE).metadata.ctx.issues
        assert not issues.errors
        assert not issues.warnings, "what Croissant recommends is there as well"

    def test_files_are_as_they_are_said_to_be(self, folder: Path) -> None:
        files = json.loads((folder / CROISSANT_FILE).read_text("utf-8"))["distribution"]
        local = [file for file in files if "://" not in file["contentUrl"]]
        assert {file["contentUrl"] for file in local} == {"manifest.toml", "images.parquet"}
        for file in local:
            data = (folder / file["contentUrl"]).read_bytes()
            assert file["contentSize"] == f"{len(data)} B"
            assert file["sha256"] == hashlib.sha256(data).hexdigest()


class TestIcons:
    @pytest.fixture
    def dataset(self) -> mlcroissant.Dataset:
        return load(packaged_manifests() / "icons" / "1.0" / CROISSANT_FILE)

    def test_a_loader_reads_the_images(self, dataset: mlcroissant.Dataset, icons: Manifest) -> None:
        table = pd.read_parquet(icons.root / "images.parquet")
        found = records(dataset, "images", 20)
        for record, row in zip(found, table.to_dict("records"), strict=False):
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


class TestAny:
    def test_a_manifest_of_the_users_is_valid(self, draft: Draft) -> None:
        draft.document["version"] = "2"
        draft.document["images"] = "folder"
        draft.document["mirrors"] = [
            {"title": "A zip", "address": "https://example.org/a.zip", "bytes": 9,
             "sha256": "0" * 64},
            {"title": "No checksum", "address": "https://example.org/b.zip"},
        ]  # fmt: skip
        draft.write(draft.table().drop_columns(["image", "group"]))
        manifest = load_manifest(draft.root)
        (draft.root / CROISSANT_FILE).write_text(croissant_text(manifest), "utf-8")
        dataset = load(draft.root / CROISSANT_FILE)
        assert not dataset.metadata.ctx.issues.errors
        assert dataset.metadata.version == "2.0.0"
        about = croissant(manifest)
        addresses = [file["contentUrl"] for file in about["distribution"]]
        assert addresses == ["manifest.toml", "images.parquet", "https://example.org/a.zip"]
        assert about["creator"] == [
            {"@type": "sc:Organization", "name": "The Holistic Transfer Bench developers"}
        ]

    def test_people_are_creators(self, draft: Draft) -> None:
        draft.document["citation"] = (
            "@article{a, author = {Saenko, Kate and\n  van Gogh, V. and Plato}, year = {2019}}"
        )
        about = croissant(draft.read())
        assert [c["name"] for c in about["creator"]] == ["Kate Saenko", "V. van Gogh", "Plato"]
        assert about["datePublished"] == "2019-01-01"

    def test_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for arguments in ([], ["--out", str(tmp_path / "c.json")]):
            with pytest.raises(SystemExit) as ended:
                main(["manifest", "croissant", "icons@1.0", *arguments])
            assert not ended.value.code
        printed = capsys.readouterr().out
        assert printed == (tmp_path / "c.json").read_text("utf-8")
        assert re.match(r'\{\n  "@context"', printed)
