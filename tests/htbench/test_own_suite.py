"""The suite that a workspace's newest runs belong to, which commands use by default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.records import RunRecord
from benchmark.runs.workspace import Workspace
from htbench.own_suite import chosen_suite
from leaderboard.results import update_results

WriteRun = Callable[..., RunRecord]


def chosen(workspace: Path) -> str:
    return chosen_suite(None, Workspace(workspace)).name


def test_an_empty_workspace_has_icons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen(tmp_path / "absent") == "icons"
    assert capsys.readouterr().err == ""


def test_a_suite_that_is_named_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen_suite("pacs", Workspace(tmp_path)).name == "pacs"
    assert capsys.readouterr().err == ""


def test_the_journal_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'title = "Mine"\nmanifest = "icons@2.0"\ntasks = ["outline-solid"]\n'
        'methods = ["finetune"]\nseeds = [0]\n'
    )
    workspace = Workspace(tmp_path)
    workspace.suite = str(file)
    workspace.note("start", "k", "finetune outline-solid seed 0")
    suite = chosen_suite(None, workspace)
    assert (suite.name, suite.argument) == ("mine", str(file))
    err = capsys.readouterr().err
    assert f"suite {file}, that of the newest runs in {tmp_path}; choose another with" in err
    file.unlink()  # a suite that is gone is not an error
    assert chosen(tmp_path) == "icons"
    err = capsys.readouterr().err
    assert err == (
        f"suite icons; that of the newest runs in {tmp_path}, {file}, cannot be read; name its "
        "file with --suite\n"
    )


@pytest.mark.parametrize(
    ("method", "task", "recipe", "suite"),
    [
        ("finetune", "outline-solid", "default", "icons"),
        ("swad", "outline-solid", "default", "icons-full"),
        ("mine", "outline-solid", "default", "icons"),
        ("finetune", "outline-solid.draw2", "default", "icons-draws"),
        ("finetune", "outline-solid.seen8.draw1", "default", "icons-partial"),
        ("finetune", "outline-solid", "hot", "icons-hot"),
    ],
)
def test_without_a_suite_in_the_journal_rows_decide(
    tmp_path: Path,
    icons: Manifest,
    write_run: WriteRun,
    method: str,
    task: str,
    recipe: str,
    suite: str,
) -> None:
    write_run(tmp_path, "source", finished=1.0)
    made = {"recipe": icons.with_recipe(recipe).recipe}
    write_run(tmp_path, method, task, finished=2.0, made=made)
    update_results(tmp_path, [icons])
    assert chosen(tmp_path) == suite
