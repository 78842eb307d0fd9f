"""Outcomes of test samples: what they hold, and that a file of them is never believed blindly."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.manifest.manifest import Manifest
from benchmark.records import RunRecord
from leaderboard import gamma_star, outcome_files
from leaderboard.outcome_files import FOLDER, WorkspaceOutcomes
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import counted_samples
from leaderboard.results import update_results
from leaderboard.rows import rows_of_table
from leaderboard.scoring import outcomes_at, score, score_with_outcomes

PROPERTY = settings(deadline=None, database=None, max_examples=60)
WriteRun = Callable[..., RunRecord]


def same(a: Outcomes | None, b: Outcomes | None) -> bool:
    assert a is not None
    assert b is not None
    pairs = ((a.right, b.right), (a.within, b.within), (a.margin, b.margin))
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in pairs)


@given(st.integers(0, 300), st.integers(0, 2**32 - 1))
@PROPERTY
def test_bytes_give_the_same_outcomes(size: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    right, within = generator.random((2, size)) < 0.5
    outcomes = Outcomes(right, within, generator.normal(0, 1, size).astype(np.float32))
    assert same(Outcomes.from_bytes(outcomes.to_bytes()), outcomes)


def test_sizes_of_no_number_of_samples_are_refused() -> None:
    sizes = {
        len(Outcomes(*np.zeros((2, n), bool), np.zeros(n, "f4")).to_bytes()) for n in range(40)
    }
    for size in range(160):
        assert (Outcomes.from_bytes(bytes(size)) is not None) == (size in sizes)


@given(st.integers(0, 2**32 - 1), st.sampled_from([-1.5, 0.0, 0.25]))
@PROPERTY
def test_outcomes_follow_from_the_logits(seed: int, gamma: float) -> None:
    generator = np.random.default_rng(seed)
    seen = np.array([True, False, True, False, False])
    logits = np.round(generator.normal(0, 1, (30, 5)) * 4) / 4
    labels = np.concatenate([[0, 1], generator.integers(0, 5, 28)])
    outcomes = outcomes_at(logits, labels, seen, gamma)
    for i, label in enumerate(labels):
        shifted = logits[i] + gamma * ~seen
        own = np.flatnonzero(seen == seen[label])
        assert outcomes.right[i] == (shifted.argmax() == label)
        assert outcomes.within[i] == (own[logits[i, own].argmax()] == label)
        assert outcomes.margin[i] == shifted[seen].max() - shifted[~seen].max()
    if gamma == 0:
        scores, plain = score_with_outcomes(logits, labels, seen)
        assert same(plain, outcomes)
        assert scores == score(logits, labels, seen)
        assert scores.overall == pytest.approx(100 * outcomes.right.mean())


class TestFiles:
    @pytest.fixture
    def workspace(self, tmp_path: Path, write_run: WriteRun, icons: Manifest) -> Path:
        write_run(tmp_path, "finetune", skill=2.0)
        return tmp_path

    def rows(self, workspace: Path, icons: Manifest) -> dict[str, dict[str, object]]:
        return {r["label"]: r for r in rows_of_table(update_results(workspace, [icons]))}

    def test_scoring_keeps_them_and_nobody_reads_logits_again(
        self, workspace: Path, icons: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = self.rows(workspace, icons)["finetune"]
        monkeypatch.setattr(outcome_files, "read_run", lambda *_: pytest.fail("read again"))
        outcomes = WorkspaceOutcomes(workspace, icons)(row)
        assert outcomes is not None
        assert 100 * outcomes.right.mean() == pytest.approx(row["overall"])
        is_seen = counted_samples(icons, str(row["task"])).is_seen
        assert 100 * outcomes.right[is_seen].mean() == pytest.approx(row["seen"])
        assert 100 * outcomes.within[~is_seen].mean() == pytest.approx(row["missing_within"])

    def test_gamma_star_has_outcomes_that_give_its_scores(
        self, workspace: Path, icons: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = self.rows(workspace, icons)[gamma_star.NAME]
        (path,) = (workspace / FOLDER).rglob(str(row["key"]))
        path.unlink()
        computed = WorkspaceOutcomes(workspace, icons)(row)
        assert computed is not None
        assert 100 * computed.right.mean() == pytest.approx(row["overall"])
        shutil.rmtree(workspace / FOLDER)
        (workspace / "results.parquet").unlink()
        self.rows(workspace, icons)
        monkeypatch.setattr(outcome_files, "read_run", lambda *_: pytest.fail("read again"))
        assert same(WorkspaceOutcomes(workspace, icons)(row), computed)

    def test_nothing_is_written_through_a_link(self, workspace: Path, icons: Manifest) -> None:
        row = self.rows(workspace, icons)["finetune"]
        (path,) = (workspace / FOLDER).rglob(str(row["key"]))
        content = path.read_bytes()
        for link in (Path.symlink_to, Path.hardlink_to):
            other = workspace / "other"
            other.write_bytes(b"somebody else's")
            path.unlink()
            link(path, other)
            assert WorkspaceOutcomes(workspace, icons)(row) is not None
            assert other.read_bytes() == b"somebody else's"
            assert not path.is_symlink()
            assert path.read_bytes() == content

    def test_a_file_that_is_damaged_or_of_another_run_is_made_again(
        self, workspace: Path, icons: Manifest
    ) -> None:
        row = self.rows(workspace, icons)["finetune"]
        whole = WorkspaceOutcomes(workspace, icons)(row)
        (path,) = (workspace / FOLDER).rglob(str(row["key"]))
        content = path.read_bytes()
        for position in range(0, len(content), 97):
            damaged = bytearray(content)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            assert same(WorkspaceOutcomes(workspace, icons)(row), whole)
            assert path.read_bytes() == content
        for other in (b"", content[:40], content * 2):
            path.write_bytes(other)
            assert same(WorkspaceOutcomes(workspace, icons)(row), whole)
        other_row = {**row, "predictions_sha256": "0" * 64}
        assert WorkspaceOutcomes(workspace, icons)(other_row) is None

    def test_without_the_folder_they_are_computed(self, workspace: Path, icons: Manifest) -> None:
        row = self.rows(workspace, icons)["finetune"]
        (path,) = (workspace / FOLDER).rglob(str(row["key"]))
        whole = path.read_bytes()
        path.unlink()
        (workspace / FOLDER).rename(workspace / "aside")
        (workspace / FOLDER).write_text("a file where a folder should be")
        assert WorkspaceOutcomes(workspace, icons)(row) is not None
        (workspace / FOLDER).unlink()
        assert WorkspaceOutcomes(workspace, icons)(row) is not None
        assert path.read_bytes() == whole

    def test_a_run_without_predictions_has_none(self, workspace: Path, icons: Manifest) -> None:
        row = self.rows(workspace, icons)["finetune"]
        (path,) = (workspace / FOLDER).rglob(str(row["key"]))
        path.unlink()
        (workspace / "runs" / str(row["key"]) / "predictions.parquet").unlink()
        assert WorkspaceOutcomes(workspace, icons)(row) is None
        assert WorkspaceOutcomes(workspace, icons)({**row, "status": "failed"}) is None
