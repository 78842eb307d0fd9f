"""A manifest that is not the published one of its name is shown as changed everywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmark.folders import packaged_manifests
from benchmark.manifest.catalogue import pinned_digests, shown_reference
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.read import read_manifest
from benchmark.manifest.suite import load_suite
from benchmark.runs.workspace import Workspace
from htbench.results import load_results, suite_boards
from leaderboard.render import FORMATS
from leaderboard.render.data import to_frame
from leaderboard.render.methods import means
from tests.htbench.command import Htbench
from tests.leaderboard.runs import WriteRun

TASKS = load_suite("icons").tasks


def test_the_name_of_a_manifest(icons: Manifest) -> None:
    assert shown_reference("icons@2.0", icons.digest) == "icons@2.0"
    assert shown_reference("icons@2.0", "1a2b3c4d" * 8) == "icons@2.0 (changed: 1a2b3c4d)"
    assert shown_reference("mine@1.0", "1a2b3c4d" * 8) == "mine@1.0", "nothing is published"
    office = pinned_digests()["office-home@1.0"]
    assert shown_reference("icons@2.0", office) == f"icons@2.0 (changed: {office[:8]})"


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The icons with another recipe under the same name."""
    folder = tmp_path_factory.mktemp("changed") / "icons" / "2.0"
    shutil.copytree(packaged_manifests() / "icons" / "2.0", folder)
    text = (folder / "manifest.toml").read_text("utf-8")
    (folder / "manifest.toml").write_text(text.replace("title = ", "title = 'x' # ", 1), "utf-8")
    return read_manifest(folder)


@pytest.fixture
def suite_file(tmp_path: Path, changed: Manifest) -> Path:
    text = (packaged_manifests() / "suites" / "icons.toml").read_text("utf-8")
    path = tmp_path / "icons.toml"
    path.write_text(text.replace('"icons@2.0"', json.dumps(str(changed.root))), "utf-8")
    return path


@pytest.fixture
def shown(changed: Manifest) -> str:
    return f"icons@2.0 (changed: {changed.digest[:8]})"


def test_runs_and_tables(
    htbench: Htbench,
    tmp_path: Path,
    changed: Manifest,
    suite_file: Path,
    shown: str,
    write_run: WriteRun,
) -> None:
    workspace = tmp_path / "ws"
    for task in TASKS:
        for seed in range(3):
            record = write_run(workspace, "source", task, seed, manifest=changed)
    at = ("--workspace", workspace, "--suite", suite_file)
    predictions = workspace / "runs" / record.key / "predictions.parquet"
    outputs = {
        arguments: htbench(*arguments, *at)
        for arguments in (
            ("leaderboard",),
            ("leaderboard", "--format", "csv"),
            ("leaderboard", "--format", "json"),
            ("list", "runs"),
            ("list", "runs", "--json"),
            ("show", record.key),
            ("show", record.key, "--json"),
            ("score", record.key),
            ("score", record.key, "--json"),
            ("score", predictions, "--task", record.task),
        )
    }
    for arguments, (status, out, err) in outputs.items():
        assert status == 0, err
        assert shown in out, arguments
        assert "icons@2.0" not in out.replace(shown, ""), arguments
    heading = outputs["leaderboard",][1].splitlines()[0]
    assert heading == f"# Leaderboard: icons, {shown}"
    assert set(load_results(workspace, changed)["manifest"]) == {shown}
    boards = suite_boards(load_suite(str(suite_file)), Workspace(workspace))
    assert set(to_frame(boards)["table"]) == {f"icons, {shown}"}
    assert means(boards, "source")["overall"] is not None, "it is the manifest's own network"
    assert shown in FORMATS["markdown"](boards)


def test_manifests_and_splits(htbench: Htbench, changed: Manifest, shown: str) -> None:
    for arguments in (
        ("manifest", "show", changed.root),
        ("manifest", "show", changed.root, "--json"),
        ("manifest", "verify", changed.root),
        ("manifest", "verify", changed.root, "--json"),
        ("splits", "show", changed.root),
        ("splits", "show", changed.root, "--task", TASKS[0]),
        ("splits", "show", changed.root, "--json"),
    ):
        status, out, err = htbench(*arguments)
        assert status == 0, err
        assert shown in out, arguments
    assert "(not the pinned one)" in htbench("manifest", "verify", changed.root)[1]


def test_a_changed_manifest_among_the_published_ones(
    htbench: Htbench, icons: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = {**pinned_digests(), "icons@2.0": "0" * 64}
    monkeypatch.setattr("benchmark.manifest.catalogue.pinned_digests", lambda: pins)
    label = f"icons@2.0 (changed: {icons.digest[:8]})"
    for what in ("datasets", "tasks", "suites"):
        for form in ((), ("--json",)):
            _, out, _ = htbench("list", what, *form)
            assert label in out
            assert "icons@2.0" not in out.replace(label, "")
    assert label in htbench("data", "status")[1]


def test_published_names_are_shown_as_they_are(htbench: Htbench) -> None:
    for what in ("datasets", "tasks", "suites"):
        assert "changed" not in htbench("list", what)[1]
