"""Submissions of written runs: one task of the icons with two seeds, and a method of one file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmark.files import SEAL, seal
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, load_suite
from benchmark.records import RunRecord
from benchmark.runs.workspace import Workspace
from htbench.submission.pack import pack
from leaderboard.submission.checks import inspect
from leaderboard.submission.folder import FORM_FILE, SUMS_FILE, list_files, sums_of
from leaderboard.submission.state import Submission

WriteRun = Callable[..., RunRecord]
Pack = Callable[..., Path]
TASK = "outline-solid"
SEEDS = (0, 1)
FILE = "half_way.py"
CODE = 'class HalfWay:\n    name = "half-way"\n'
COMPUTE = "the code of the suite"
ISOLATION = ("no-new-privileges", "no-network")
SUITE = dataclasses.replace(
    load_suite("icons"), tasks=(TASK,), seeds=SEEDS, methods=("source", "oracle-finetune")
)


def pins(manifest: Manifest, task: str) -> dict[int, str]:
    """The pinned source models of a task by seed."""
    sources = set(manifest.task(task).sources)
    return {pin.seed: pin.sha256 for pin in manifest.checkpoints if set(pin.sources) == sources}


def write(
    write_run: WriteRun,
    icons: Manifest,
    workspace: Path,
    seed: int,
    *,
    method: str = "half-way",
    code: dict[str, str] | None = None,
    made: dict[str, Any] | None = None,
    **fields: Any,
) -> RunRecord:
    """A run of the method in a workspace, with the files that it ran."""
    code = {FILE: CODE} if code is None else code
    files = [[name, sha256(text.encode()).hexdigest()] for name, text in code.items()]
    facts = {
        "source": pins(icons, TASK)[seed % icons.source_seeds],
        "compute": COMPUTE,
        "method": {"name": method, "code": {"files": files, "distributions": []}},
        **(made or {}),
    }
    fields = {
        "environment": {"cpu": "a CPU", "torch": "2.6"},
        "isolation": list(ISOLATION),
        "skill": 2.0,
        **fields,
    }
    record = write_run(workspace, method, TASK, seed, made=facts, **fields)
    for name, text in code.items():
        path = workspace / "runs" / record.key / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return record


def packed(
    write_run: WriteRun, icons: Manifest, folder: Path, suite: Suite = SUITE, **options: Any
) -> Path:
    """The folder of a submission that passes all checks unless ``options`` spoil it."""
    for seed in suite.seeds:
        write(write_run, icons, folder / "workspace", seed, **options)
    out = folder / "half-way"
    filled_in = {"authors": ["A. Author"], "paper": "none", "code": "none", "licence": "MIT"}
    pack("half-way", suite, Workspace(folder / "workspace"), out, **filled_in)
    return out


def checked(folder: Path, published: Path, **changes: Any) -> Submission:
    """A submission after its checks."""
    facts: dict[str, Any] = {"taken": {"finetune", "source", "oracle-finetune"}, "compute": COMPUTE}
    facts |= {"published": published, "own_suite": SUITE, **changes}
    submission = Submission(folder, **facts)
    list(inspect(submission))
    return submission


def reasons(submission: Submission) -> dict[str, str]:
    """The checks that did not pass, with their reasons."""
    return {r.check: r.reason for r in submission.results if r.state in ("failed", "flagged")}


def refresh_sums(folder: Path) -> None:
    """Write SHA256SUMS as someone would who has changed files."""
    (folder / SUMS_FILE).write_bytes(sums_of(folder, list_files(folder)))


def change_form(folder: Path, old: str, new: str) -> None:
    path = folder / FORM_FILE
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def records(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs/*/run.json"))


def change_record(path: Path, **changes: Any) -> None:
    """Change a record as someone would who also recomputes its checksum and the sums."""
    entries = json.loads(path.read_text())
    del entries[SEAL]
    path.write_bytes(seal({**entries, **changes}))
    refresh_sums(path.parents[2])
