"""Scores of stored predictions, and predictions files that cannot be trusted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.errors import RecordError, ScoringError
from benchmark.files import digest_file
from benchmark.manifest.manifest import Manifest
from benchmark.records import PREDICTIONS_FILE, read_predictions
from benchmark.records import write_predictions as write
from leaderboard import picks, predictions, scoring, scoring_input
from leaderboard.predictions import score_predictions, score_run, scorer_digest
from leaderboard.results import update_results
from tests.leaderboard.runs import WriteRun, folder_of


class TestTrust:
    def test_predictions_of_another_run(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        good = write_run(tmp_path, "finetune", skill=5)
        poor = write_run(tmp_path, "source", skill=0)
        better = (folder_of(tmp_path, good) / PREDICTIONS_FILE).read_bytes()
        (folder_of(tmp_path, poor) / PREDICTIONS_FILE).write_bytes(better)
        with pytest.warns(UserWarning, match="does not match the SHA-256"):
            update_results(tmp_path, [icons])

    def test_one_changed_byte(self, tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
        path = folder_of(tmp_path, write_run(tmp_path, "finetune")) / PREDICTIONS_FILE
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.warns(UserWarning, match="does not match the SHA-256"):
            update_results(tmp_path, [icons])

    def test_no_predictions(self, tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
        (folder_of(tmp_path, write_run(tmp_path, "finetune")) / PREDICTIONS_FILE).unlink()
        with pytest.warns(UserWarning, match="predictions.parquet is missing"):
            update_results(tmp_path, [icons])


class TestRuns:
    """Files that the benchmark wrote are not parsed, all others are; the scores are the same."""

    def test_the_suites_own_files_are_not_parsed(
        self,
        tmp_path: Path,
        write_run: WriteRun,
        icons: Manifest,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        record = write_run(tmp_path, "finetune", skill=1)
        folder = folder_of(tmp_path, record)
        expected = score_predictions(folder / PREDICTIONS_FILE, icons, record.task)
        monkeypatch.setattr(predictions, "read_predictions", lambda *_: pytest.fail("parsed"))
        scores, outcomes, _ = score_run(folder, record.predictions_sha256, icons, record.task)
        assert scores == expected
        assert 100 * outcomes.right.mean() == pytest.approx(expected.overall)

    def test_files_in_another_order_or_of_another_program_are(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        record = write_run(tmp_path, "finetune", skill=1)
        folder = folder_of(tmp_path, record)
        path = folder / PREDICTIONS_FILE
        expected = score_predictions(path, icons, record.task)
        ids, logits = read_predictions(path)
        write(path, ids[::-1], logits[::-1])
        assert score_run(folder, digest_file(path), icons, record.task).scores == expected
        pd.DataFrame({"sample_id": ids, "logits": list(logits)}).to_parquet(path)
        assert score_run(folder, digest_file(path), icons, record.task).scores == expected

    def test_a_file_of_another_digest_is_refused(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        record = write_run(tmp_path, "finetune")
        with pytest.raises(RecordError, match="does not match the SHA-256"):
            score_run(folder_of(tmp_path, record), "0" * 64, icons, record.task)


class TestScorePredictions:
    def rewrite(self, tmp_path: Path, icons: Manifest, change: Callable[[Any, Any], Any]) -> Path:
        test = icons.samples("solid", "test")
        logits = np.zeros((len(test.ids), 65), np.float32)
        ids, logits = change(list(test.ids), logits)
        write(tmp_path / PREDICTIONS_FILE, ids, logits)
        return tmp_path / PREDICTIONS_FILE

    def test_any_order_of_samples(
        self, tmp_path: Path, icons: Manifest, write_run: WriteRun
    ) -> None:
        record = write_run(tmp_path, "finetune")
        path = folder_of(tmp_path, record) / PREDICTIONS_FILE
        expected = score_predictions(path, icons, "outline-solid")
        ids, logits = read_predictions(path)
        write(path, ids[::-1], logits[::-1])
        assert digest_file(path) != record.predictions_sha256
        assert score_predictions(path, icons, "outline-solid") == expected

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda i, z: (i[1:], z[1:]), "1 missing sample id: "),
            (lambda i, z: (["x", *i[1:]], z), "1 unknown sample id: 'x'"),
            (lambda i, z: ([i[1], *i[1:]], z), "1 sample id repeated in"),
            (lambda i, z: (i, z[:, :64]), "64 columns, but the seen mask has 65 entries"),
            (lambda i, z: (i, z * np.nan), "NaN or infinite logits"),
        ],
    )
    def test_refused(
        self, tmp_path: Path, icons: Manifest, change: Callable[[Any, Any], Any], message: str
    ) -> None:
        path = self.rewrite(tmp_path, icons, change)
        with pytest.raises(ScoringError, match=message) as caught:
            score_predictions(path, icons, "outline-solid")
        assert str(caught.value).startswith(str(path))

    def test_of_another_task(self, tmp_path: Path, icons: Manifest) -> None:
        path = self.rewrite(tmp_path, icons, lambda i, z: (i, z))
        with pytest.raises(ScoringError, match="unknown sample id"):
            score_predictions(path, icons, "solid-outline")
        with pytest.raises(RecordError, match=r"has: 309 x 65; is it of another task\?"):
            score_predictions(path, icons, "outline-color")


@pytest.mark.parametrize("module", [picks, scoring, scoring_input])
def test_other_code_has_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    before = scorer_digest()
    scorer_digest.cache_clear()
    (tmp_path / "other.py").write_text("# other code\n")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "other.py"))
    changed = scorer_digest()
    scorer_digest.cache_clear()
    assert changed != before
