"""Hostile folders, and forms: each is refused by a named check before more of it is read."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.manifest.manifest import Manifest
from leaderboard.accepted import SUBMITTED
from leaderboard.rows import rows_of_table
from leaderboard.submission import checks
from leaderboard.submission import folder as folders
from leaderboard.submission.state import FAILED, NOT_RUN, OK
from tests.leaderboard.submission.folders import (
    FILE,
    SUITE,
    TASK,
    Pack,
    WriteRun,
    change_form,
    checked,
    reasons,
    records,
    refresh_sums,
    write,
)


def test_an_honest_submission_passes_every_check(submit: Pack, published: Path) -> None:
    submission = checked(submit(), published)
    assert reasons(submission) == {}
    assert {result.state for result in submission.results} == {OK}
    assert len(submission.results) == len(checks.CHECKS) == 17
    rows = rows_of_table(submission.table(SUBMITTED))
    assert [(row["task"], row["seed"], row["provenance"]) for row in rows] == [
        (TASK, row["seed"], "submitted") for row in rows
    ]
    assert {row["seed"] for row in rows} == {0, 1}
    assert all(20 < row["overall"] < 80 for row in rows)


def test_a_refused_stage_ends_the_checks(submit: Pack, published: Path) -> None:
    folder = submit()
    (folder / "scores.json").write_text("{}")
    submission = checked(folder, published)
    states = [result.state for result in submission.results]
    assert states == [FAILED, *[NOT_RUN] * 16]


# --- the folder ----------------------------------------------------------------------------------


def link(folder: Path) -> None:
    (folder / "code" / FILE).unlink()
    (folder / "code" / FILE).symlink_to("/etc/passwd")


def folder_link(folder: Path) -> None:
    shutil.rmtree(folder / "code")
    (folder / "code").symlink_to("/etc")


def deep(folder: Path) -> None:
    folder.joinpath("code", *"abcdefghij").mkdir(parents=True)


def many_predictions(folder: Path) -> None:
    for i in range(65):
        run = folder / "runs" / f"{i:064x}"
        run.mkdir()
        (run / "predictions.parquet").touch()
        os.truncate(run / "predictions.parquet", 256 << 20)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (link, "not a regular file"),
    "folder-link": (folder_link, "not a regular file"),
    "fifo": (lambda f: os.mkfifo(f / "code" / "pipe.txt"), "not a regular file"),
    "deep": (deep, "nested more than"),
    "hidden": (lambda f: (f / ".git").mkdir(), "is not plain"),
    "control-characters": (lambda f: (f / "code" / "a\x1b[2Jb").touch(), "is not plain"),
    "spaces": (lambda f: (f / "code" / "a b.py").touch(), "is not plain"),
    "case": (lambda f: (f / "code" / "HALF_way.py").touch(), "same file on some systems"),
    "unexpected": (lambda f: (f / "results.parquet").touch(), "do not belong"),
    "weights": (
        lambda f: (records(f)[0].parent / "weights.safetensors").touch(),
        "do not belong",
    ),
    "huge-form": (lambda f: (f / "submission.toml").write_bytes(b"#" * 70_000), "the limit is"),
    "sparse": (lambda f: os.truncate(records(f)[0], 1 << 40), "the limit is"),
    "sparse-code": (
        lambda f: os.truncate(f / "code" / FILE, 1 << 40),
        "files of code have 1099511627776 bytes",
    ),
    "large-together": (many_predictions, "files of predictions.parquet have"),
    "no-form": (lambda f: (f / "submission.toml").unlink(), "submission.toml is missing"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_the_files_of_a_folder_are_checked_before_any_is_read(
    case: str, submit: Pack, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = submit()
    spoil, message = SPOILED[case]
    spoil(folder)
    monkeypatch.setattr(checks, "check_sums", None)  # nothing is opened
    found = reasons(checked(folder, published))
    assert list(found) == ["files"]
    assert message in found["files"]
    assert found["files"].isprintable()


def test_a_folder_of_many_files_is_not_read_to_its_end(
    submit: Pack, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = submit()
    for i in range(300):
        (folder / "code" / f"{i}.py").touch()
    monkeypatch.setattr(folders, "MAX_ENTRIES", 50)
    seen = []
    scandir = os.scandir

    class Counted:
        def __init__(self, path: Path) -> None:
            self.entries = scandir(path)

        def __enter__(self) -> Any:
            def count() -> Any:
                for entry in self.entries:
                    seen.append(entry)
                    yield entry

            return count()

        def __exit__(self, *_: object) -> None:
            self.entries.close()

    monkeypatch.setattr(folders.os, "scandir", Counted)
    start = time.monotonic()
    assert "more than 50 files" in reasons(checked(folder, published))["files"]
    assert len(seen) == 51
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{'0' * 64}  ../../outside", "files that are not here: '../../outside'"),
        (f"{'0' * 64}  /etc/passwd", "files that are not here: '/etc/passwd'"),
        ("no digest", "an invalid line"),
        ("", "an invalid line"),
    ],
)
def test_sums_that_name_other_files_open_none(
    line: str, message: str, submit: Pack, published: Path
) -> None:
    folder = submit()
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{line}\n")
    assert message in reasons(checked(folder, published))["sums"]


def test_a_file_that_was_changed_or_is_not_listed_is_refused(submit: Pack, published: Path) -> None:
    folder = submit()
    (folder / "environment.txt").write_text("torch==0\n")
    assert "do not match SHA256SUMS" in reasons(checked(folder, published))["sums"]
    (folder / "SHA256SUMS").write_text("")
    assert "does not list" in reasons(checked(folder, published))["sums"]


def test_a_form_of_windows_is_read(submit: Pack, published: Path) -> None:
    form = (folder := submit()) / "submission.toml"
    form.write_bytes(form.read_text().replace("\n", "\r\n").encode("utf-8-sig"))
    assert reasons(checked(folder, published)) == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('licence = "MIT"', 'licence = ""', "licence in submission.toml is not filled in"),
        ('licence = "MIT"', 'licence = "MIT\\u202e"', "must be printable"),
        ('licence = "MIT"', f'licence = "{"x" * 400}"', "at most 300 bytes"),
        ('licence = "MIT"', "licence = 1", "must be a text"),
        ('licence = "MIT"', 'licence = "MIT"\nscore = 100', "unknown entries: 'score'"),
        ('licence = "MIT"', f"licence = {'[' * 3000}", "not valid TOML"),
        ('paper = "none"', 'paper = "javascript:alert(1)"', "begins with https://"),
        ('code = "none"', 'code = "https://"', "begins with https://"),
        ('code = "none"', 'code = "https://a.b/c <script>"', "begins with https://"),
        ("half_way.py:", "../half_way.py:", "is not a file of code/"),
        ("half_way.py:HalfWay", "half_way.py", "is not a file of code/"),
        ("half_way.py:HalfWay", "half_way.py:Half", "code/half_way.py has no class Half"),
        ('suite = "icons"', 'suite = "../icons"', "suite in submission.toml is"),
    ],
)
def test_a_form_is_checked(old: str, new: str, message: str, submit: Pack, published: Path) -> None:
    folder = submit()
    change_form(folder, old, new)
    assert message in reasons(checked(folder, published))["form"]


def test_a_suite_must_be_a_published_one(submit: Pack, published: Path) -> None:
    folder = submit()
    change_form(folder, 'suite = "icons"', 'suite = "/etc/mine.toml"')
    found = reasons(checked(folder, published, own_suite=None))
    assert "is not a published suite" in found["suite"]
    change_form(folder, "/etc/mine.toml", "icons")
    found = reasons(checked(folder, published, own_suite=None))
    assert "are missing: 'outline-solid, seed 2', 'solid-outline, seed 0'" in found["grid"]


@pytest.mark.parametrize(
    ("name", "check", "message"),
    [
        ("finetune", "name", "is the name of a method of the benchmark"),
        ("../x", "records", "cannot be the name of a method"),
        ("Half-Way", "records", "cannot be the name of a method"),
        ("a b", "records", "cannot be the name of a method"),
    ],
)
def test_a_name_is_checked(
    name: str,
    check: str,
    message: str,
    submit: Pack,
    write_run: WriteRun,
    icons: Manifest,
    published: Path,
) -> None:
    folder = submit()
    shutil.rmtree(folder / "runs")
    for seed in SUITE.seeds:
        write(write_run, icons, folder, seed, method=name)
    for path in folder.glob("runs/*/code"):
        shutil.rmtree(path)
    change_form(folder, 'name = "half-way"', f'name = "{name}"')
    refresh_sums(folder)
    assert message in reasons(checked(folder, published))[check]
