"""`htbench splits`: what show and export print, and that no command on manifests loads torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.choices import SPLIT_FORMATS
from benchmark.manifest.manifest import Manifest
from tests.benchmark.expected_roles import TASK, expected_roles
from tests.end_to_end.conftest import Mini
from tests.htbench.command import Htbench


def test_export_reports_what_it_wrote(htbench: Htbench, tmp_path: Path) -> None:
    arguments = ["splits", "export", "icons@2.0", "--task", "outline-solid", "--format", "txt"]
    status, out, err = htbench(*arguments, "--out", tmp_path / "lists")
    assert (status, err) == (0, "")
    assert "labels  manifest: the manifest's order" in out
    assert "   826  train\n" in out
    status, out, _ = htbench(*arguments, "--out", tmp_path / "lists", "--json")
    assert status == 0
    report = json.loads(out)
    assert report["written"] is False
    assert report["counts"]["test"] == 720


def test_the_home_of_an_unknown_user_is_a_folder_of_that_name(
    htbench: Htbench, tmp_path: Path
) -> None:
    words = ("splits", "export", "icons@2.0", "--task", TASK, "--format", "csv")
    status, _, err = htbench(*words, "--root", "~nobody-here/icons", "--out", tmp_path / "a.csv")
    assert status == 0, err
    assert "~nobody-here/icons is not on this machine" in err


def test_export_writes_all_tasks_with_paths_of_the_user(
    htbench: Htbench, icons: Manifest, tmp_path: Path
) -> None:
    arguments = ["splits", "export", "icons@2.0", "--format", "txt", "--root", "/data/my icons"]
    status, out, err = htbench(*arguments, "--out", tmp_path / "lists")
    assert status == 2
    assert "use --format csv" in err
    arguments[-1] = "/data/icons"
    status, out, err = htbench(*arguments, "--out", tmp_path / "lists", "--json")
    assert status == 0
    assert "/data/icons is not on this machine" in err
    tasks = [task.id for task in icons.tasks]
    assert [report["task"] for report in json.loads(out)] == tasks
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == sorted(tasks)
    for task in tasks:
        for line in (tmp_path / "lists" / task / "test.txt").read_text().splitlines():
            assert line.startswith("/data/icons/")
    arguments = ["splits", "export", "icons@2.0", "--format", "csv", "--out", tmp_path / "tables"]
    assert htbench(*arguments)[0] == 0
    assert sorted(path.stem for path in (tmp_path / "tables").iterdir()) == sorted(tasks)


def test_show_counts_classes(htbench: Htbench, icons: Manifest) -> None:
    status, out, _ = htbench("splits", "show", "icons@2.0", "--task", TASK, "--json")
    assert status == 0
    (task,) = json.loads(out)["tasks"]
    truth = expected_roles(icons, TASK)
    target = truth[truth["domain"] == "color"]
    for split in ("train", "test"):
        for group, seen in (("seen", True), ("missing", False)):
            rows = target[(target["split"] == split) & (target["seen"] == seen)]
            assert task["totals"][f"{split}_{group}"] == len(rows)
    assert [row["class"] for row in task["classes"]] == list(icons.classes)


@pytest.mark.parametrize("columns", [30, 60, 200])
def test_bars_fit_the_terminal(
    htbench: Htbench, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = htbench("splits", "show", "icons@2.0", "--task", "outline-solid")
    bars = [line for line in out.splitlines() if set(line) & set("█▉▊▋▌▍▎▏")]
    assert len(bars) == 65
    assert max(map(len, bars)) <= max(columns, 50)
    assert "seen     32 classes, 826 train, 344 test" in out
    _, out, _ = htbench("splits", "show", "icons@2.0")
    assert "outline+solid-color" in out or columns == 30


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "nope@1.0"], "unknown manifest 'nope@1.0'"),
        (["show", "icons@2.0", "--task", "nope"], "has no task 'nope'"),
        (["show", "icons@2.0", "--task", ""], "has no task ''"),
        (["export", "icons@2.0", "--task", "", "--format", "csv", "--out", "a"], "has no task ''"),
        (["show", "icons@2.0", "--figure", "a.png"], "--figure needs --task TASK"),
        (["show", "icons@2.0", "--task", TASK, "--figure", "a.gif"], r"\.svg, \.png, \.pdf"),
        (["export", "icons@2.0", "--task", TASK, "--format", "csv", "--out", "."], "a folder"),
    ],
)
def test_an_error_is_one_sentence(htbench: Htbench, arguments: list[str], sentence: str) -> None:
    status, out, err = htbench("splits", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("htbench: ")
    assert re.search(sentence, err)


def test_splits_and_their_neighbours_load_no_torch(mini: Mini, tmp_path: Path) -> None:
    reference, task = str(mini.manifest), ["--task", "outline-solid"]
    commands = [
        ["manifest", "croissant", reference],
        ["manifest", "diff", reference, reference],
        ["splits", "show", reference],
        ["splits", "show", reference, *task, "--figure", str(tmp_path / "f.svg")],
        *(
            ["splits", "export", reference, *task, "--format", form, "--out", str(tmp_path / form)]
            for form in SPLIT_FORMATS
        ),
        ["cite", reference, "board"],
    ]
    code = (
        "import sys\nfrom htbench.cli.main import main\n"
        f"for words in {commands!r}:\n"
        "    try:\n        main(words)\n"
        "    except SystemExit as error:\n        assert not error.code, words\n"
        "assert not {'torch', 'torchvision', 'datasets'} & set(sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_the_formats_are_listed_where_none_is_named(htbench: Htbench) -> None:
    status, _, err = htbench("splits", "export", "icons@2.0")
    assert status == 2
    assert "Missing option '--format'" in err
    assert "\n  txt,\n  csv," in err
