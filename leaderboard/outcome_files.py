"""Outcomes of runs on disk.

Outcomes are computed when a run is scored and kept in the workspace, so that intervals never read
the logits again. They are derived: a file that is missing, damaged or of other predictions is made
again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.errors import HTBenchError
from benchmark.files import canonical_json, read_bounded
from benchmark.manifest.manifest import Manifest
from benchmark.patterns import SHA256
from leaderboard import gamma_star
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import read_run, scorer_digest
from leaderboard.rows import Row
from leaderboard.scoring import outcomes_at

FOLDER = "outcomes"  # of a workspace
# What the outcomes of a row depend on, besides the code.
INPUTS = ("key", "predictions_sha256", "manifest_digest", "task", "config")
COLUMNS = (*INPUTS, "status", "method", "base", "n_seen", "n_missing")  # what a row must have
MAX_BYTES = 1 << 28
_DIGEST = hashlib.sha256().digest_size


def store_outcomes(workspace: Path, row: Row, outcomes: Outcomes) -> None:
    """Keep the outcomes of a row in its workspace, if that can be written to."""
    header = _header(row, scorer_digest())
    _write(outcomes_path(workspace, row["key"]), header, outcomes)


class WorkspaceOutcomes:
    """The outcomes of a workspace's runs, read from their files or computed from predictions."""

    def __init__(self, workspace: Path, manifest: Manifest) -> None:
        """Remember where runs are.

        Args:
            workspace: its folder.
            manifest: of the rows that are asked for.
        """
        self._workspace = workspace
        self._manifest = manifest
        self._scorer = scorer_digest()

    def __call__(self, row: Row) -> Outcomes | None:
        """The outcomes of a row; None if it has no predictions, or they cannot be read."""
        if row["status"] != "ok" or row["manifest_digest"] != self._manifest.digest:
            return None
        header = _header(row, self._scorer)
        path = outcomes_path(self._workspace, row["key"])
        outcomes = _read(path, header)
        if outcomes is None or outcomes.right.size != row["n_seen"] + row["n_missing"]:
            outcomes = self._compute(row)
            if outcomes is not None:
                _write(path, header, outcomes)
        return outcomes

    def _compute(self, row: Row) -> Outcomes | None:
        run = row["base"] if row["method"] == gamma_star.NAME else row["key"]
        gamma = json.loads(row["config"])["gamma"] if row["method"] == gamma_star.NAME else 0.0
        folder = self._workspace / "runs" / run
        try:
            digest = row["predictions_sha256"]
            logits, labels = read_run(folder, digest, self._manifest, row["task"])
            seen = self._manifest.seen_mask(self._manifest.task(row["task"]))
            return outcomes_at(logits, labels, seen, gamma)
        except (HTBenchError, OSError):  # the results report what is wrong with the run
            return None


def outcomes_path(workspace: Path, key: str) -> Path:
    """Where the outcomes of the row with a key are kept."""
    return Path(f"{workspace}/{FOLDER}/{key[:2]}/{key}")  # joined by pathlib, it is slower


def remove_outcomes(workspace: Path, run: str) -> None:
    """Remove the outcomes of a run that was removed, and of the row that is derived from it."""
    for key in (run, gamma_star.derived_key(run)):
        outcomes_path(workspace, key).unlink(missing_ok=True)


def useless_outcomes(workspace: Path, runs: Collection[str]) -> tuple[list[Path], list[Path]]:
    """The files of outcomes, and those among them that are damaged or belong to no run.

    Args:
        workspace: its folder.
        runs: the keys of its runs.
    """
    keys = {*runs, *map(gamma_star.derived_key, runs)}
    folders = entries(workspace / FOLDER)
    files = [path for folder in folders for path in entries(folder) if SHA256.fullmatch(path.name)]
    return files, [path for path in files if path.name not in keys or _body(path) is None]


def entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing if it is a link, which leads to other files."""
    try:
        return [] if folder.is_symlink() else sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _header(row: Row, scorer: str) -> bytes:
    """What outcomes depend on, as a line."""
    facts: Mapping[str, Any] = {name: row[name] for name in INPUTS}
    return canonical_json({**facts, "scorer": scorer}) + b"\n"


def _read(path: Path, header: bytes) -> Outcomes | None:
    """Read a file of outcomes; None if it is missing, damaged, or has another header."""
    body = _body(path)
    if body is None or not body.startswith(header):
        return None
    return Outcomes.from_bytes(body[len(header) :])


def _body(path: Path) -> bytes | None:
    """A file of outcomes without its digest; None if it is missing or damaged."""
    try:
        content = read_bounded(path, MAX_BYTES)
    except OSError:
        return None
    digest, body = content[:_DIGEST], content[_DIGEST:]
    if len(content) > MAX_BYTES or hashlib.sha256(body).digest() != digest:
        return None
    return body


def _write(path: Path, header: bytes, outcomes: Outcomes) -> None:
    """Write a file of outcomes, if the workspace can be written to.

    It is neither synced to disk nor renamed, as runs are: its digest shows whether all of it is
    there.
    """
    body = header + outcomes.to_bytes()
    content = hashlib.sha256(body).digest() + body
    with suppress(OSError):
        try:
            _create(path, content)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            _create(path, content)
        except FileExistsError:  # of other predictions, or damaged
            path.unlink()
            _create(path, content)


def _create(path: Path, content: bytes) -> None:
    with path.open("xb", buffering=0) as file:
        file.write(content)
