"""`htbench publish`: others load, check and cite what it writes; it replaces only its own files."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import mlcroissant
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from benchmark.files import digest_file
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.read import read_manifest
from benchmark.records import RunRecord, read_predictions
from leaderboard.rows import COUNTS, METRICS, STEPS
from tests.conftest import Once
from tests.htbench.command import Htbench
from tests.leaderboard.runs import FAILED

WriteRun = Callable[..., RunRecord]
TASK = "outline-solid"
PYTHON = Path(sys.executable)
SUITE = f"""
title = "Two methods"
manifest = "icons@2.0"
tasks = ["{TASK}"]
methods = ["source", "finetune"]
seeds = [0]
"""


@pytest.fixture
def place(once: Once, write_run: WriteRun) -> Path:
    """A suite with two runs in a workspace; tests only read it."""

    def fill(folder: Path) -> None:
        (folder / "two.toml").write_text(SUITE)
        for method, skill in (("source", 0.5), ("finetune", 2.0)):
            write_run(folder / "workspace", method, TASK, 0, skill=skill, finished=86400.0 * 365)

    return once("publish", fill)


def words(place: Path, out: Path, *more: object) -> tuple[object, ...]:
    options = ("--suite", place / "two.toml", "--workspace", place / "workspace", "--out", out)
    return "publish", *options, *more


@pytest.fixture
def release(once: Once, place: Path, htbench: Htbench) -> Path:
    """What the command writes; tests only read it."""

    def fill(folder: Path) -> None:
        authors = ("--author", "Ada Lovelace", "--author", 'A "B": {c}')
        options = ("--title", "Two: methods", "--licence", "CC-BY-4.0", "--predictions")
        status, _, err = htbench(*words(place, folder, *authors, *options))
        assert status == 0, err
        assert "version 1" in err

    return once("release", fill)


@pytest.mark.usefixtures("hub_cache")
class TestLoadDataset:
    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def load(self, folder: Path, name: str | None = None) -> pd.DataFrame:
        import datasets

        (split,) = datasets.load_dataset(str(folder), name).values()
        frame: pd.DataFrame = split.to_pandas()
        return frame

    def test_the_runs_are_the_default(self, release: Path) -> None:
        runs = self.load(release)
        assert sorted(runs["label"]) == ["finetune", "gamma-star", "source"]
        assert runs["overall"].between(0, 100).all()

    def test_the_board(self, release: Path) -> None:
        board = self.load(release, "board").set_index(["label", "task"])
        runs = self.load(release).set_index("label")
        for label in ("source", "finetune"):
            assert board["overall"][label, TASK] == runs["overall"][label]

    def test_the_predictions_are_those_of_the_workspace(self, release: Path, place: Path) -> None:
        predictions = self.load(release, "predictions")
        for key, of_run in predictions.groupby("key"):
            ids, logits = read_predictions(
                place / "workspace" / "runs" / str(key) / "predictions.parquet"
            )
            assert tuple(of_run["sample_id"]) == ids
            assert [list(row) for row in of_run["logits"]] == logits.tolist()
        runs = self.load(release)
        assert set(predictions["key"]) == set(runs["key"][runs["method"] != "gamma-star"])

    def test_the_images(self, release: Path, icons: Manifest) -> None:
        import datasets

        images = datasets.load_dataset(str(release), "images", split="images")
        assert images.num_rows == icons.table.num_rows
        assert images[0]["image"].size == (32, 32)

    def test_new_results_in_the_same_folder_are_not_the_cached_ones(
        self, place: Path, tmp_path: Path, htbench: Htbench, write_run: WriteRun
    ) -> None:
        own, out = tmp_path / "own", tmp_path / "out"
        shutil.copytree(place, own)
        command = words(own, out, "--author", "A")
        assert htbench(*command)[0] == 0
        before = self.load(out)
        replace_source(own, write_run)
        assert htbench(*command)[0] == 0
        after = self.load(out)
        assert after["key"].tolist() == pd.read_parquet(out / "results.parquet")["key"].tolist()
        assert set(after["key"]) != set(before["key"])

    def test_the_example_of_the_card(self, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (code,) = re.findall(r"```python\n(.*?)```", (release / "README.md").read_text(), re.DOTALL)
        monkeypatch.chdir(release)
        names: dict[str, Any] = {}
        exec(code, names)
        assert names["runs"].num_rows == 3

    def test_the_commands_of_the_documentation(self, release: Path, tmp_path: Path) -> None:
        page = (Path(__file__).parents[2] / "docs" / "publishing.md").read_text("utf-8")
        (commands,) = re.findall(r"```bash\n(\([^`]*SHA256SUMS[^`]*)```", page)
        (tmp_path / "release").symlink_to(release)
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "PATH": f"{PYTHON.parent}:/usr/bin:/bin"}
        shell = ["bash", "-e", "-c", commands]
        done = subprocess.run(shell, cwd=tmp_path, env=offline, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "num_rows: " in done.stdout


def test_sha256sum_accepts_the_digests_of_all_files(release: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=release, check=True)
    names = {line.split("  ")[1] for line in (release / "SHA256SUMS").read_text().splitlines()}
    files = {p.relative_to(release).as_posix() for p in release.rglob("*") if p.is_file()}
    assert names == files - {"SHA256SUMS"}
    assert "site/index.html" in names


def test_the_manifest_is_the_suite_s_and_its_croissant_is_valid(
    release: Path, icons: Manifest
) -> None:
    folder = release / "manifests" / "icons" / "2.0"
    copy = read_manifest(folder)
    assert copy.digest == icons.digest
    assert icons.digest in (release / "README.md").read_text("utf-8")
    assert (folder / "ATTRIBUTION.csv").is_file()
    for pin in copy.checkpoints:
        assert pin.file is not None
        assert digest_file(folder / pin.file) == pin.sha256
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        issues = mlcroissant.Dataset(folder / "croissant.json").metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings


def test_the_citation_and_the_archive_s_metadata_name_the_authors(release: Path) -> None:
    citation = yaml.safe_load((release / "CITATION.cff").read_text("utf-8"))
    authors = [{"name": "Ada Lovelace"}, {"name": 'A "B": {c}'}]
    assert (citation["title"], citation["authors"]) == ("Two: methods", authors)
    assert (citation["type"], citation["license"]) == ("dataset", "CC-BY-4.0")
    assert (citation["version"], citation["date-released"]) == ("1", "1971-01-01")
    record = json.loads((release / ".zenodo.json").read_text("utf-8"))
    assert (record["title"], record["creators"]) == ("Two: methods", authors)
    assert (record["license"], record["version"]) == ("cc-by-4.0", "1")
    links = {entry["identifier"] for entry in record["related_identifiers"]}
    assert "https://arxiv.org/abs/2311.01420" in links
    bibtex = (release / "references.bib").read_text("utf-8")
    assert "{tu2023holistic," in bibtex
    assert "{holistic-transfer-bench-icons," in bibtex
    assert "{wortsman2022robust," not in bibtex, "wise-ft has no runs"


def test_the_card_has_the_board_and_the_terms_of_the_data(release: Path, icons: Manifest) -> None:
    card = (release / "README.md").read_text("utf-8")
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert (metadata["pretty_name"], metadata["license"]) == ("Two: methods", "cc-by-4.0")
    assert [c["config_name"] for c in metadata["configs"] if c.get("default")] == ["results"]
    assert f"## {TASK} (n_seen = " in card
    assert "| finetune " in card
    for line in icons.document["terms"].strip().splitlines():
        assert f"> {line}" in card
    assert "- Version 1 (1971-01-01): 3 rows added: `finetune`, `gamma-star`, `source`." in card


def replace_source(own: Path, write_run: WriteRun) -> Path:
    """Put another run of ``source`` in the place of the one in a workspace; the folder that was."""
    (source,) = (
        path.parent
        for path in own.glob("workspace/runs/*/run.json")
        if json.loads(path.read_text())["method"] == "source"
    )
    shutil.rmtree(source)
    write_run(
        own / "workspace", "source", TASK, 0, skill=0.7, finished=86400.0 * 400, made={"torch": "9"}
    )
    return source


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_two_times_gives_the_same_bytes_and_other_results_a_new_version(
    release: Path, place: Path, tmp_path: Path, htbench: Htbench, write_run: WriteRun
) -> None:
    own, out = tmp_path / "own", tmp_path / "out"
    shutil.copytree(place, own)
    options = ("--title", "Two: methods", "--license", "CC-BY-4.0", "--predictions")
    authors = ("--author", "Ada Lovelace", "--author", 'A "B": {c}')
    command = words(own, out, *authors, *options)
    assert htbench(*command)[0] == 0
    assert contents(out) == contents(release)

    status, _, err = htbench(*command)
    assert (status, "no result changed" in err) == (0, True), err
    assert contents(out) == contents(release)

    source = replace_source(own, write_run)
    assert htbench(*command)[0] == 0
    first, second = json.loads((out / "changes.json").read_text())
    assert first["version"] == 1
    assert second == {
        "version": 2,
        "date": "1971-02-05",
        "added": 1,
        "removed": 1,
        "changed": 0,
        "labels": ["source"],
    }
    assert "- Version 2 (1971-02-05): 1 row added, 1 row removed: `source`." in (
        out / "README.md"
    ).read_text("utf-8")
    assert not (out / "predictions" / f"{source.name}.parquet").exists()


def test_a_failed_run_has_no_scores_and_changes_nothing_the_second_time(
    place: Path, tmp_path: Path, htbench: Htbench, write_run: WriteRun
) -> None:
    own, out = tmp_path / "own", tmp_path / "out"
    shutil.copytree(place, own)
    write_run(own / "workspace", "lora", TASK, 0, **FAILED, cost={"finished": 1e15})
    command = words(own, out, "--author", "A")
    assert htbench(*command)[0] == 0
    (failed,) = (
        pq.read_table(out / "results.parquet").filter(pc.field("label") == "lora").to_pylist()
    )
    assert failed["status"] == "failed"
    assert {failed[name] for name in (*METRICS, *COUNTS, *STEPS)} == {None}
    (page,) = (out / "site").glob("methods/lora-*.html")
    assert ">nan<" not in page.read_text("utf-8")
    before = contents(out)
    status, _, err = htbench(*command)
    assert (status, "no result changed" in err) == (0, True), err
    assert contents(out) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [("notes.txt", "did not write, such as 'notes.txt'"), ("README.md", "was edited after")],
)
def test_files_of_others_and_edited_files_are_not_replaced(
    release: Path, place: Path, tmp_path: Path, htbench: Htbench, name: str, message: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(release, out)
    with (out / name).open("a") as file:
        file.write("mine")
    before = contents(out)
    status, _, err = htbench(*words(place, out, "--author", "A"))
    assert (status, message in err) == (2, True), err
    assert contents(out) == before


def test_refusals(place: Path, tmp_path: Path, htbench: Htbench) -> None:
    for more, message in (
        ((), "name the authors"),
        (("--author", "A", "--author", " "), "--author is empty"),
        (("--author", "A", "--title", " "), "--title is empty"),
        (("--published",), "--workspace cannot be combined with --published"),
        (("--author", "A", "--workspace", tmp_path / "empty"), "has no runs of suite two"),
    ):
        status, _, err = htbench(*words(place, tmp_path / "out", *more))
        assert (status, message in err) == (2, True), err
    published = ("--suite", "icons-hot", "--published", "--predictions")
    status, _, err = htbench("publish", *published, "--out", tmp_path / "out")
    assert (status, "icons-hot.parquet does not" in err) == (2, True), err
    assert not (tmp_path / "out").exists()


def test_a_damaged_run_is_named_and_nothing_is_written(
    place: Path, tmp_path: Path, htbench: Htbench
) -> None:
    shutil.copytree(place, tmp_path / "own")
    command = words(tmp_path / "own", tmp_path / "out", "--author", "A")
    assert htbench(*command)[0] == 0
    path = min((tmp_path / "own").glob("workspace/runs/*/predictions.parquet"))
    before = contents(tmp_path / "out")
    path.write_bytes(path.read_bytes()[:-9] + b"PAR1")
    status, _, err = htbench(*command, "--predictions")
    assert status == 2
    assert path.parent.name[:12] in err, err
    repair = f"run `htbench workspace repair --workspace {tmp_path / 'own' / 'workspace'}` first"
    assert repair in err
    assert contents(tmp_path / "out") == before


class TestPush:
    def test_the_folder_is_uploaded_to_a_data_set(
        self, place: Path, tmp_path: Path, htbench: Htbench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[tuple[str, dict[str, object]]] = []
        real = huggingface_hub.HfApi

        class Client:
            def create_repo(self, name: str, **options: object) -> None:
                inspect.signature(real.create_repo).bind(self, name, **options)
                calls.append((name, options))

            def upload_folder(self, *, folder_path: Path, **options: object) -> str:
                inspect.signature(real.upload_folder).bind(self, folder_path=folder_path, **options)
                calls.append((str(folder_path), options))
                return "https://example.org/commit/1"

        monkeypatch.setattr("huggingface_hub.HfApi", Client)
        command = words(place, tmp_path / "out", "--author", "A", "--push", "ada/two")
        status, _, err = htbench(*command)
        assert (status, "uploaded https://example.org/commit/1" in err) == (0, True), err
        (name, creation), (folder, upload) = calls
        assert (name, creation) == ("ada/two", {"repo_type": "dataset", "exist_ok": True})
        assert folder == str(tmp_path / "out")
        assert (upload["repo_id"], upload["repo_type"]) == ("ada/two", "dataset")
        # Files of an earlier version, which the new one does not have, are removed.
        assert upload["delete_patterns"] == ["manifests/*", "predictions/*", "site/*"]

    def test_a_failure_keeps_the_folder_and_says_why(
        self, place: Path, tmp_path: Path, htbench: Htbench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        command = words(place, tmp_path / "out", "--author", "A", "--push", "a/b/c/d")
        status, _, err = htbench(*command)
        assert status == 2
        assert "cannot upload" in err, err
        assert "a/b/c/d" in err
        assert (tmp_path / "out" / "SHA256SUMS").is_file()


def test_the_results_have_the_columns_of_a_workspace_s(release: Path) -> None:
    from leaderboard.rows import SCHEMA

    table: pa.Table = pq.read_table(release / "results.parquet")
    assert table.schema.equals(SCHEMA)
