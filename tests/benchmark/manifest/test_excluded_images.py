"""Test images in neither group of a task are predicted, but count in no metric."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmark.errors import HTBenchError
from benchmark.manifest.expand import write_expansion
from benchmark.records import write_predictions
from htbench.cli.score import command as score_command
from leaderboard import score
from leaderboard.predictions import score_predictions
from leaderboard.results import update_results
from tests.benchmark.manifest.cameras import Cameras


@pytest.fixture
def manifest(cameras: Cameras, tmp_path: Path) -> Any:
    cameras.days(cameras.targets[0], [1] * 30 + [3] * 30, [1, 3] * 20 + [2] * 20 + [15] * 11)
    return write_expansion(cameras.expand(tmp_path), tmp_path / "out")


def make_predictions(manifest: Any) -> tuple[Any, np.ndarray]:
    test = manifest.samples(manifest.tasks[0].target, "test")
    logits = np.random.default_rng(0).normal(size=(len(test.ids), 182)).astype(np.float32)
    logits[np.arange(len(test.ids)), test.labels] += 2
    return test, logits


def test_metrics_are_those_without_them(manifest: Any, tmp_path: Path) -> None:
    (task,) = manifest.tasks
    test, logits = make_predictions(manifest)
    write_predictions(tmp_path / "p.parquet", test.ids, logits)
    scores = score_predictions(tmp_path / "p.parquet", manifest, task.id).as_dict()
    rest = np.array([manifest.classes[y] in (*task.seen, *task.missing) for y in test.labels])
    expected = score(logits[rest], test.labels[rest], manifest.seen_mask(task)).as_dict()
    assert scores == {**expected, "n_excluded": 11}
    assert (scores["n_seen"], scores["n_missing"]) == (40, 20)


def test_their_logits_change_nothing(manifest: Any, tmp_path: Path) -> None:
    (task,) = manifest.tasks
    test, logits = make_predictions(manifest)
    path = tmp_path / "p.parquet"
    write_predictions(path, test.ids, logits)
    before = score_predictions(path, manifest, task.id)
    logits[test.labels == 15] = 0
    write_predictions(path, test.ids, logits)
    assert score_predictions(path, manifest, task.id) == before


def test_predictions_must_still_include_them(manifest: Any, tmp_path: Path) -> None:
    (task,) = manifest.tasks
    test, logits = make_predictions(manifest)
    path = tmp_path / "p.parquet"
    write_predictions(path, test.ids[:-1], logits[:-1])
    with pytest.raises(HTBenchError, match="1 missing sample id"):
        score_predictions(path, manifest, task.id)
    logits[np.flatnonzero(test.labels == 15)[0]] = np.nan
    write_predictions(path, test.ids, logits)
    with pytest.raises(HTBenchError, match="NaN or infinite"):
        score_predictions(path, manifest, task.id)


def test_the_results_count_them(
    manifest: Any, tmp_path: Path, write_run: Callable[..., Any]
) -> None:
    (task,) = manifest.tasks
    write_run(tmp_path / "w", "finetune", task.id, manifest=manifest)
    for _ in range(2):  # scored, then reused
        rows = update_results(tmp_path / "w", [manifest]).to_pylist()
        assert {row["method"] for row in rows} == {"finetune", "gamma-star"}
        for row in rows:
            assert (row["n_seen"], row["n_missing"], row["n_excluded"]) == (40, 20, 11)


def test_the_score_command_reports_them(
    manifest: Any, tmp_path: Path, write_run: Callable[..., Any]
) -> None:
    record = write_run(tmp_path / "w", "finetune", manifest.tasks[0].id, manifest=manifest)
    arguments = [
        record.key,
        "--workspace",
        str(tmp_path / "w"),
        "--json",
        "--suite",
        str(manifest.root / "iwildcam.toml"),
    ]
    result = CliRunner().invoke(score_command, arguments)
    assert json.loads(result.output)["n_excluded"] == 11
