"""`htbench submit`: pack, check, accept and withdraw, on runs that are written and not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmark.files import SEAL, seal
from benchmark.keys import compute_digest
from benchmark.manifest.manifest import Manifest
from htbench.submission.verify import Cell, Verification, write_verification
from leaderboard.accepted import read_accepted, read_log
from leaderboard.submission.folder import digest_of
from tests.conftest import WriteRun
from tests.htbench.command import Htbench
from tests.leaderboard.submission.folders import SEEDS, TASK, change_form, write

BY = ("--by", "A. Maintainer")
FILLED_IN = ("--author", "A. Author", "--paper", "none", "--code", "none", "--licence", "MIT")
WriteSubmission = Callable[..., Path]


@pytest.fixture
def options(tmp_path: Path) -> tuple[Any, ...]:
    """Of a suite of one task, and of a folder of published results that has none."""
    suite = tmp_path / "slice.toml"
    suite.write_text(
        f'title = "A slice"\nmanifest = "icons@2.0"\ntasks = ["{TASK}"]\n'
        f'methods = ["source"]\nseeds = {list(SEEDS)}\n'
    )
    (tmp_path / "published").mkdir()
    return "--suite", suite, "--published", tmp_path / "published"


@pytest.fixture
def submission(
    tmp_path: Path,
    write_run: WriteRun,
    icons: Manifest,
    htbench: Htbench,
    options: tuple[Any, ...],
) -> WriteSubmission:
    """Pack a submission: ``submission(skill=1)`` gives its folder."""

    def pack(*words: str, skill: float = 2.0) -> Path:
        for seed in SEEDS:
            made = {"compute": compute_digest()}
            write(write_run, icons, tmp_path / "ws", seed, made=made, skill=skill)
        out = tmp_path / "half-way"
        at = ("--workspace", tmp_path / "ws", "--out", out)
        status, text, err = htbench("submit", "pack", "half-way", *options[:2], *at, *words)
        assert (status, err) == (0, "")
        blank = "" if words else f"fill in authors, paper, code, licence in {out}/submission.toml, "
        check = f"htbench submit check {out} --suite {options[1]}"
        assert text == f"wrote {out}; {blank}then run `{check}`\n"
        return out

    return pack


def verification(folder: Path, **changes: Any) -> Verification:
    facts: dict[str, Any] = {
        "submission": digest_of(folder),
        "by": "A. Maintainer",
        "when": "2026-01-02T03:04:05+00:00",
        "chosen": "at random",
        "machine": {},
        "cells": [Cell(TASK, 0, True, True, "identical", "", {})],
        "verified": True,
    }
    return Verification(**{**facts, **changes})


def test_the_log_takes_no_empty_and_no_unprintable_texts(
    htbench: Htbench, submission: WriteSubmission, options: tuple[Any, ...], tmp_path: Path
) -> None:
    folder, published = submission(*FILLED_IN), options[2:]
    withdraw = ("submit", "withdraw", "half-way", *published)
    for words in (
        ("submit", "accept", folder, *options, "--by", " "),
        ("submit", "accept", folder, *options, "--by", "A\nB"),
        ("submit", "accept", folder, *options, *BY, "--why", "\x1b[31mred"),
        ("submit", "verify", folder, *options, "--by", ""),
        (*withdraw, *BY, "--why", ""),
        (*withdraw, *BY, "--why", "x" * 1001),
    ):
        status, _, err = htbench(*words)
        assert status == 2
        assert "it is empty" in err or "one printable line of at most 1000 bytes" in err
    assert not (tmp_path / "published" / "submissions").exists()


def test_check_prints_each_check_and_counts_them(
    htbench: Htbench, submission: WriteSubmission, options: tuple[Any, ...]
) -> None:
    folder = submission()
    status, out, _ = htbench("submit", "check", folder, *options)
    assert status == 1
    lines = out.splitlines()
    assert lines[0].startswith("ok       files        few, small, plain files")
    assert lines[2] == "failed   form         authors in submission.toml is not filled in"
    assert lines[-1] == "2 ok, 1 failed, 14 not run"
    for name in ("paper", "code"):
        change_form(folder, f'{name} = ""', f'{name} = "none"')
    change_form(folder, 'authors = [""]', 'authors = ["A. Author"]')
    change_form(folder, 'licence = ""', 'licence = "MIT"')
    status, out, _ = htbench("submit", "check", folder, *options)
    assert (status, out.splitlines()[-1]) == (0, "17 ok")
    status, out, _ = htbench("submit", "check", folder, *options, "--json")
    assert status == 0
    assert json.loads(out)[2] == {
        "check": "form",
        "purpose": "submission.toml is filled in",
        "state": "ok",
        "reason": "",
    }


def test_pack_prints_json(
    htbench: Htbench, submission: WriteSubmission, options: tuple[Any, ...], tmp_path: Path
) -> None:
    submission()  # writes the runs
    out = tmp_path / "again"
    at = ("--workspace", tmp_path / "ws", "--out", out, "--license", "MIT", "--json")
    status, text, err = htbench("submit", "pack", "half-way", *options[:2], *at)
    assert (status, err) == (0, "")
    assert json.loads(text) == {
        "folder": str(out),
        "fill_in": ["authors", "paper", "code"],
        "next": f"htbench submit check {out} --suite {options[1]}",
    }


def test_accept_and_withdraw_change_the_rows_and_the_log(
    htbench: Htbench, submission: WriteSubmission, options: tuple[Any, ...], tmp_path: Path
) -> None:
    folder, published = submission(*FILLED_IN), tmp_path / "published"
    accept = ("submit", "accept", folder, *BY, *options)
    commit = f"commit {published}/submissions\n"
    assert htbench(*accept) == (
        0,
        f"accept: 2 rows of half-way on slice, not verified; {commit}",
        "",
    )
    (accepted,) = read_accepted(published)
    assert set(accepted.results["provenance"].to_pylist()) == {"submitted"}
    assert accepted.form["authors"] == ["A. Author"]
    file = tmp_path / "v.json"
    write_verification(file, verification(folder))
    verified = f"2 rows of half-way on slice, verified; {commit}"
    assert htbench(*accept, "--verification", file) == (0, f"verify: {verified}", "")
    (accepted,) = read_accepted(published)
    assert set(accepted.results["provenance"].to_pylist()) == {"verified"}
    # Accepted again, it keeps its verification.
    status, _, err = htbench(*accept)
    assert status == 2
    assert "is on the board of slice already, with the same rows" in err
    withdraw = ("submit", "withdraw", "half-way", *BY, "--published", published)
    assert htbench(*withdraw, "--why", "asked by its author") == (
        0,
        f"withdrew half-way from slice\n{commit}",
        "",
    )
    assert read_accepted(published) == []
    assert [entry.action for entry in read_log(published)] == ["accept", "verify", "withdraw"]


def test_a_folder_of_other_files_is_not_taken_for_published_results(
    htbench: Htbench, submission: WriteSubmission, options: tuple[Any, ...], tmp_path: Path
) -> None:
    """Every submission passes a comparison with nothing."""
    folder = submission(*FILLED_IN)
    file = tmp_path / "published" / "README.md"
    file.touch()
    for words in (("check", folder), ("accept", folder, *BY)):
        assert htbench("submit", *words, *options) == (
            2,
            "",
            f"htbench: {file.parent} has files but no published results; name the folder "
            "leaderboard/published of a checkout, or an empty one\n",
        )
    withdraw = ("submit", "withdraw", "half-way", *BY, "--why", "asked", "--published", file)
    status, _, err = htbench(*withdraw)
    assert status == 2
    assert "README.md" in err


def test_accept_and_withdraw_print_their_lines_of_the_log(
    htbench: Htbench, submission: WriteSubmission, options: tuple[Any, ...], tmp_path: Path
) -> None:
    folder, published = submission(*FILLED_IN), tmp_path / "published"
    _, accepted, _ = htbench("submit", "accept", folder, *BY, *options, "--json")
    withdraw = ("submit", "withdraw", "half-way", *BY, "--published", published)
    _, withdrawn, _ = htbench(*withdraw, "--why", "asked by its author", "--json")
    entries = [json.loads(accepted), *json.loads(withdrawn)]
    assert entries == [asdict(entry) for entry in read_log(published)]
    assert [entry["action"] for entry in entries] == ["accept", "withdraw"]


def test_a_verification_that_came_with_a_submission_is_not_used(
    htbench: Htbench, submission: WriteSubmission, options: tuple[Any, ...], tmp_path: Path
) -> None:
    folder = submission(*FILLED_IN)
    file = folder.with_name("half-way.verification.json")
    file.write_bytes(seal(asdict(verification(folder))))
    status, out, _ = htbench("submit", "accept", folder, *BY, *options)
    assert status == 0
    assert "not verified" in out
    status, _, err = htbench("submit", "verify", folder, *BY, *options)
    assert status == 2
    assert f"{file} exists; delete it, or name another file with --out" in err
    write_verification(tmp_path / "v.json", verification(folder, verified=False))
    words = ("submit", "accept", folder, *BY, *options, "--verification", tmp_path / "v.json")
    status, _, err = htbench(*words)
    assert status == 2
    assert "says that runs could not be repeated" in err


@pytest.mark.parametrize("verified", [True, False])
def test_a_verification_as_json_is_what_its_file_has(
    htbench: Htbench,
    submission: WriteSubmission,
    options: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
    verified: bool,
) -> None:
    folder = submission(*FILLED_IN)
    result = verification(folder, verified=verified)
    monkeypatch.setattr("htbench.submission.verify.verify", lambda *arguments: result)
    status, out, _ = htbench("submit", "verify", folder, *BY, *options, "--json")
    assert status == (0 if verified else 1)
    written = json.loads(folder.with_name("half-way.verification.json").read_bytes())
    del written[SEAL]
    assert json.loads(out) == written
    assert (written["verified"], len(written["cells"])) == (verified, len(result.cells))


def test_where_a_verification_cannot_be_written_nothing_is_repeated(
    htbench: Htbench,
    submission: WriteSubmission,
    options: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = submission(*FILLED_IN)
    monkeypatch.setattr("htbench.submission.verify.verify", lambda *arguments: pytest.fail("ran"))
    out = folder.with_name("file") / "verification.json"
    out.parent.touch()
    status, _, err = htbench("submit", "verify", folder, *BY, *options, "--out", out)
    assert status == 2
    assert f"{out.parent}" in err
    link = folder.with_name("link")
    link.symlink_to(folder)
    for out in (folder / "v.json", folder / "new" / "v.json", link / "runs" / "v.json"):
        status, _, err = htbench("submit", "verify", folder, *BY, *options, "--out", out)
        assert status == 2
        assert f"--out {out} is inside the submission {folder}" in err
    assert not (folder / "new").exists()
    status, _, err = htbench("submit", "verify", "/", *BY, *options)
    assert status == 2
    assert "/ cannot be a submission" in err


def test_a_flagged_submission_is_accepted_with_a_reason_only(
    htbench: Htbench, submission: WriteSubmission, options: tuple[Any, ...], tmp_path: Path
) -> None:
    folder = submission(*FILLED_IN, skill=1000.0)
    status, out, _ = htbench("submit", "check", folder, *options)
    assert status == 0
    assert "flagged  labels       the predictions are nearly the labels" in out
    accept = ("submit", "accept", folder, *BY, *options)
    status, _, err = htbench(*accept)
    assert status == 2
    assert "flagged: labels: the predictions are nearly the labels" in err
    assert "say with --why why it may be accepted" in err
    assert not (tmp_path / "published" / "submissions").exists()
    assert htbench(*accept, "--why", "a test")[0] == 0
    assert read_log(tmp_path / "published")[0].why == "a test"


@pytest.mark.parametrize("command", ["accept", "verify"])
def test_a_submission_that_fails_a_check_goes_no_further(
    command: str,
    htbench: Htbench,
    submission: WriteSubmission,
    options: tuple[Any, ...],
    tmp_path: Path,
) -> None:
    folder = submission(*FILLED_IN)
    (folder / "code" / "half_way.py").write_text("raise SystemExit('it was imported')\n")
    status, out, err = htbench("submit", command, folder, *BY, *options)
    assert (status, out) == (2, "")
    check = f"`htbench submit check {folder} {' '.join(map(str, options))}`"
    assert f"the submission fails its checks; see {check}" in err
    assert not (tmp_path / "published" / "submissions").exists()
