"""The GitHub Action of docs/results-repository: its step that checks, run in a repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "docs" / "results-repository"
# Stands in for the command: notes its arguments, and refuses a folder with a file "bad".
HTBENCH = '#!/bin/sh\necho "$@" >> "$CALLS"\n[ ! -e "$3/bad" ]\n'


def git(repository: Path, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.quotePath=true")
    result = subprocess.run(
        ["git", *who, *words], cwd=repository, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one submission, which no test changes unless it says so."""
    folder = tmp_path / "repository"
    (folder / "submissions" / "old").mkdir(parents=True)
    (folder / "submissions" / "old" / "submission.toml").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "htbench").write_text(HTBENCH)
    (tmp_path / "bin" / "htbench").chmod(0o755)
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def commit(repository: Path) -> None:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "a change")


def check(repository: Path) -> tuple[int, list[str], str]:
    """Commit what changed and run the step on it: its status, the commands and what it printed."""
    base = git(repository, "rev-parse", "HEAD")
    commit(repository)
    workflow = yaml.safe_load((FOLDER / ".github/workflows/submissions.yml").read_text("utf-8"))
    (job,) = workflow["jobs"].values()
    calls = repository.parent / "calls"
    calls.touch()
    path = f"{repository.parent / 'bin'}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", job["steps"][-1]["run"]],
        cwd=repository,
        env={**os.environ, "PATH": path, "BASE": base, "CALLS": str(calls)},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, calls.read_text().splitlines(), result.stdout + result.stderr


def submit(repository: Path, name: str, *files: str) -> Path:
    folder = repository / "submissions" / name
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_only_submissions_that_changed_are_checked(repository: Path) -> None:
    submit(repository, "half-way", "submission.toml", "code/half_way.py")
    status, calls, _ = check(repository)
    assert (status, calls) == (0, ["submit check submissions/half-way"])


def test_a_submission_that_fails_fails_the_step(repository: Path) -> None:
    submit(repository, "half-way", "submission.toml")
    submit(repository, "bad-one", "bad")
    status, calls, _ = check(repository)
    assert (status, calls) == (1, ["submit check submissions/bad-one"])


def test_a_submission_may_be_removed(repository: Path) -> None:
    shutil.rmtree(repository / "submissions" / "old")
    status, calls, _ = check(repository)
    assert (status, calls) == (0, [])


@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        ".github/workflows/other.yml",
        "submissions/half-way.verification.json",
        "submissions/a b/submission.toml",
        "submissions/$(touch x)/submission.toml",
        "other\nsubmissions/half-way/submission.toml",
    ],
)
def test_other_files_are_refused(file: str, repository: Path) -> None:
    path = repository / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    status, calls, out = check(repository)
    assert (status, calls) == (1, [])
    assert "files outside of a folder of submissions/ changed" in out


def test_a_link_is_not_followed(repository: Path) -> None:
    (repository / "submissions" / "half-way").symlink_to("old")
    status, calls, _ = check(repository)
    assert (status, calls) == (1, [])


def test_the_action_has_no_right_to_write() -> None:
    workflow = yaml.safe_load((FOLDER / ".github/workflows/submissions.yml").read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow[True] == "pull_request"  # YAML reads `on` as true; not pull_request_target
