"""gamma-star: a row beside every scored run of finetune, from its predictions and test labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmark.errors import UsageError
from benchmark.files import digest_file
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, load_suite
from benchmark.records import (
    PREDICTIONS_FILE,
    read_predictions,
    write_predictions,
)
from leaderboard import gamma_star, predictions, results, score
from leaderboard.board import MEAN, Board, build_boards
from leaderboard.columns import COLUMNS
from leaderboard.gamma_star import NAME as GAMMA_STAR
from leaderboard.gamma_star import derived_key, refuse_key, scores_as_text, scores_to_show
from leaderboard.results import RESULTS_FILE, update_results
from leaderboard.rows import COUNTS, METRICS
from tests.leaderboard.runs import FAILED, WriteRun, change_record

TASKS = ("outline-solid", "solid-outline", "outline+solid-color")
DOES_NOT_APPLY = {**FAILED, "status": "not-applicable"}


def by_method(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in table.to_pylist()}


def naive_best(logits: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> float:
    """The best overall accuracy of all constants: between all margins, beyond the ends, and 0."""
    margins = sorted({*(logits[:, seen].max(axis=1) - logits[:, ~seen].max(axis=1)).tolist()})
    gammas = [margins[0] - 1, *((a + b) / 2 for a, b in pairwise(margins)), margins[-1] + 1, 0.0]
    added = np.zeros(len(seen))
    best = 0.0
    for gamma in gammas:
        added[~seen] = gamma
        best = max(best, 100 * float(np.mean((logits + added).argmax(axis=1) == labels)))
    return best


class TestScores:
    @pytest.mark.parametrize("task", TASKS)
    @pytest.mark.parametrize("bias", [-1.0, 0.0, 3.0, 100.0])
    def test_the_best_of_a_naive_search(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, task: str, bias: float
    ) -> None:
        record = write_run(tmp_path, "finetune", task, skill=2.0, bias=bias)
        rows = by_method(update_results(tmp_path, [icons]))
        plain, star = rows["finetune"], rows[GAMMA_STAR]
        _, logits = read_predictions(tmp_path / "runs" / record.key / PREDICTIONS_FILE)
        seen = icons.seen_mask(icons.task(task))
        labels = icons.samples(icons.task(task).target, "test").labels
        exact = logits.astype(np.float64)
        assert star["overall"] == naive_best(exact, labels, seen)
        assert star["overall"] >= plain["overall"]
        gamma = json.loads(star["config"])["gamma"]
        assert json.loads(star["config"]) == {"gamma": gamma}
        expected = score(exact + gamma * ~seen, labels, seen).as_dict()
        assert {name: star[name] for name in (*METRICS, *COUNTS)} == expected
        if bias == 100.0:  # no missing class was ever predicted
            assert plain["missing"] == 0 < star["missing"]
            assert gamma == pytest.approx(bias, abs=5)

    def test_where_nothing_is_better_than_0_gamma_is_0(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        write_run(tmp_path, "finetune", skill=100.0)
        rows = by_method(update_results(tmp_path, [icons]))
        assert rows[GAMMA_STAR]["config"] == '{"gamma":0.0}'
        metrics = (*METRICS, *COUNTS)
        assert [rows[GAMMA_STAR][m] for m in metrics] == [rows["finetune"][m] for m in metrics]

    def test_images_of_neither_group_are_left_out(
        self, tmp_path: Path, draft: Any, write_run: WriteRun
    ) -> None:
        draft.document["tasks"][0]["missing"] = ["star"]  # and the fifth class in neither group
        mini = draft.read()
        write_run(tmp_path, "finetune", manifest=mini, bias=5.0)
        rows = by_method(update_results(tmp_path, [mini]))
        counts = [[rows[m][n] for n in (*COUNTS, "n_excluded")] for m in ("finetune", GAMMA_STAR)]
        assert counts[0] == counts[1]
        assert counts[0][2] > 0


class TestRow:
    def test_it_is_beside_finetune_and_no_other(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        base = write_run(tmp_path, "finetune", seed=1, notes=["said"], log=[{"loss": 1.0}])
        for method in ("source", "finetune-short", "oracle-finetune", "lp-ft"):
            write_run(tmp_path, method)
        write_run(tmp_path, "wise-ft", made={"base": base.key})
        rows = update_results(tmp_path, [icons]).to_pylist()
        (star,) = [row for row in rows if row["method"] == GAMMA_STAR]
        (finetune,) = [row for row in rows if row["method"] == "finetune"]
        assert len(rows) == 7
        assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
        expected = {
            "key": derived_key(base.key),
            "label": GAMMA_STAR,
            "track": "oracle",
            "base": base.key,
            "notes": "[]",
            "total_steps": 200,
            "sequential_steps": 100,
            "declared_steps": None,
            "measured_adapt_seconds": 2.0,
            "measured_peak_memory": 512 * 2**20,
            "measured_predict_seconds": None,
            "measured_wall_seconds": None,
        }
        assert {name: star[name] for name in expected} == expected
        own = {*METRICS, *expected, "method", "config"}
        assert {n: star[n] for n in star if n not in own} == {
            n: finetune[n] for n in star if n not in own
        }

    @pytest.mark.parametrize(
        ("label", "of_star"),
        [
            ("finetune(tuned)", "gamma-star(tuned)"),
            ("finetune(like=finetune)", "gamma-star(like=finetune)"),
        ],
    )
    def test_whatever_its_settings(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, label: str, of_star: str
    ) -> None:
        write_run(tmp_path, "finetune")
        search = {"by": "a", "folds": 1, "steps": 2, "chosen": {"x": "1"}, "tried": []}
        write_run(tmp_path, "finetune", config={"x": 1}, label=label, made={"search": search})
        rows = update_results(tmp_path, [icons]).to_pylist()
        by_label = {row["label"]: row for row in rows}
        assert set(by_label) == {"finetune", GAMMA_STAR, label, of_star}
        assert by_label[of_star]["base"] == by_label[label]["key"]
        assert by_label[of_star]["search"] == by_label[label]["search"]
        assert json.loads(by_label[label]["search"]) == search

    @pytest.mark.parametrize("ended", [FAILED, DOES_NOT_APPLY], ids=lambda e: e["status"])
    def test_a_run_without_predictions_has_none(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, ended: dict[str, Any]
    ) -> None:
        write_run(tmp_path, "finetune", **ended)
        assert update_results(tmp_path, [icons])["method"].to_pylist() == ["finetune"]

    def test_it_disappears_with_its_run(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        folder = tmp_path / "runs" / write_run(tmp_path, "finetune").key
        assert update_results(tmp_path, [icons]).num_rows == 2
        shutil.rmtree(folder)
        assert update_results(tmp_path, [icons]).num_rows == 0


class TestTakenOver:
    """A row is computed again if the predictions or the scorer changed, and only then."""

    @pytest.fixture
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        calls: list[Path] = []
        real = gamma_star.score_gamma_star

        def counting(path: Path, *rest: Any) -> Any:
            calls.append(path)
            return real(path, *rest)

        monkeypatch.setattr(gamma_star, "score_gamma_star", counting)
        return calls

    def test_nothing_changed(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, counted: list[Path]
    ) -> None:
        for seed in range(3):
            write_run(tmp_path, "finetune", seed=seed, bias=2.0)
        first = update_results(tmp_path, [icons])
        path = tmp_path / RESULTS_FILE
        data, stat = path.read_bytes(), path.stat()
        assert len(counted) == 3
        assert update_results(tmp_path, [icons]).equals(first)
        assert len(counted) == 3
        assert path.read_bytes() == data
        assert (path.stat().st_mtime_ns, path.stat().st_ino) == (stat.st_mtime_ns, stat.st_ino)
        path.unlink()
        update_results(tmp_path, [icons])
        assert path.read_bytes() == data

    def test_the_predictions_are_read_once_for_both_rows(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = write_run(tmp_path, "finetune", bias=2.0)
        real, folders = predictions.read_run, []

        def counting(folder: Path, *rest: Any) -> Any:
            folders.append(folder)
            return real(folder, *rest)

        monkeypatch.setattr(predictions, "read_run", counting)
        both = by_method(update_results(tmp_path, [icons]))
        assert folders == [tmp_path / "runs" / record.key]
        alone = gamma_star.score_gamma_star(
            folders[0], record.predictions_sha256, icons, record.task
        )
        assert len(folders) == 2
        assert {name: both[GAMMA_STAR][name] for name in METRICS} == {
            name: getattr(alone.scores, name) for name in METRICS
        }

    def test_another_scorer(
        self,
        tmp_path: Path,
        write_run: WriteRun,
        icons: Manifest,
        counted: list[Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write_run(tmp_path, "finetune")
        update_results(tmp_path, [icons])
        monkeypatch.setattr(results, "scorer_digest", lambda: "other")
        table = update_results(tmp_path, [icons])
        assert len(counted) == 2
        assert table["scorer_digest"].to_pylist() == ["other", "other"]

    def test_other_predictions(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, counted: list[Path]
    ) -> None:
        record = write_run(tmp_path, "finetune", bias=2.0)
        write_run(tmp_path, "finetune", seed=1)
        before = {r["key"]: r for r in update_results(tmp_path, [icons]).to_pylist()}
        folder = tmp_path / "runs" / record.key
        ids, logits = read_predictions(folder / PREDICTIONS_FILE)
        write_predictions(folder / PREDICTIONS_FILE, ids, logits[::-1])
        digest = digest_file(folder / PREDICTIONS_FILE)
        change_record(tmp_path, record, predictions_sha256=digest)
        after = {r["key"]: r for r in update_results(tmp_path, [icons]).to_pylist()}
        assert len(counted) == 3
        moved = {key for key in after if after[key] != before[key]}
        assert moved == {record.key, derived_key(record.key)}

    def test_predictions_are_checked_where_only_this_row_is_new(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file of results from before there was such a row, and a file changed since."""
        record = write_run(tmp_path, "finetune")
        with monkeypatch.context() as patch:
            patch.setattr(gamma_star, "derive_rows", lambda *_: [])
            assert update_results(tmp_path, [icons]).num_rows == 1
        path = tmp_path / "runs" / record.key / PREDICTIONS_FILE
        good = path.read_bytes()
        ids, logits = read_predictions(path)
        write_predictions(path, ids, logits[::-1])
        with pytest.warns(UserWarning, match="does not match the SHA-256"):
            update_results(tmp_path, [icons])
        path.write_bytes(good)
        assert update_results(tmp_path, [icons]).num_rows == 2

    def test_a_manifest_that_is_not_given(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        write_run(tmp_path, "finetune")
        assert update_results(tmp_path, []).num_rows == 1, "nothing is scored"
        scored = update_results(tmp_path, [icons])
        assert scored.num_rows == 2
        assert update_results(tmp_path, []).equals(scored)


class TestShow:
    """What `htbench show` prints, and the keys that it refuses."""

    def test_scores_are_those_of_the_row(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        record = write_run(tmp_path, "finetune", bias=3.0)
        folder = tmp_path / "runs" / record.key
        star = by_method(update_results(tmp_path, [icons]))[GAMMA_STAR]
        scores = scores_to_show(record, folder, icons)
        assert scores["gamma"] == json.loads(star["config"])["gamma"]
        assert {name: scores[name] for name in METRICS} == {name: star[name] for name in METRICS}
        assert scores_as_text(scores) == (
            f"gamma-star (oracle): overall {star['overall']:.2f}, seen {star['seen']:.2f}, "
            f"missing {star['missing']:.2f} "
            f"with {scores['gamma']:+.4g} added to the missing-class logits"
        )

    def test_another_method_has_none(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        record = write_run(tmp_path, "lolsgd")
        folder = tmp_path / "runs" / record.key
        assert scores_to_show(record, folder, icons) == {}

    def test_its_key_is_refused(self, tmp_path: Path, write_run: WriteRun) -> None:
        key = write_run(tmp_path, "finetune").key
        other = write_run(tmp_path, "lolsgd").key
        with pytest.raises(UsageError, match=f"gamma-star row derived from run {key[:12]}. "):
            refuse_key(derived_key(key)[:12], tmp_path / "runs")
        refuse_key(derived_key(other), tmp_path / "runs")
        refuse_key(key, tmp_path / "runs")


class TestBoard:
    @pytest.fixture
    def build(self, tmp_path: Path, write_run: WriteRun, icons: Manifest) -> Callable[..., Board]:
        """The board of runs of finetune on every task and seed, some of them different."""
        suite = Suite("s", "S", "icons@2.0", TASKS, ("source", "finetune"), (0, 1, 2))

        def write_and_build(**odd: dict[str, Any] | None) -> Board:
            for task in TASKS:
                for seed in suite.seeds:
                    write_run(tmp_path, "source", task, seed, skill=0.5)
                    how = odd.get(f"{task} {seed}", {})
                    if how is not None:
                        write_run(tmp_path, "finetune", task, seed, bias=2.0, **how)
            (result,) = build_boards(suite, icons, update_results(tmp_path, [icons]))
            return result

        return write_and_build

    def test_a_whole_grid(self, build: Callable[..., Board]) -> None:
        table = build()
        assert table.labels[-1] == GAMMA_STAR, "shown last, and not ranked"
        assert set(table.labels) == {"source", "finetune", GAMMA_STAR}
        assert table.problems == ()
        for task in (*TASKS, MEAN):
            cells = table.of_task(task)
            star, finetune = cells[GAMMA_STAR], cells["finetune"]
            assert (star["state"], star["track"]) == ("ok", "oracle")
            assert star["overall"] >= finetune["overall"]
            cost = ("total_steps", "sequential_steps", "measured_adapt_seconds", "peak_mib")
            assert [star[name] for name in cost] == [200, 100, 2.0, 512]
            assert [star[name] for name in cost] == [finetune[name] for name in cost]
            assert star["disruption"] == pytest.approx(cells["source"]["missing"] - star["missing"])

    def test_a_failed_finetune_is_named_once_and_never_averaged_over(
        self, build: Callable[..., Board]
    ) -> None:
        table = build(**{"outline-solid 1": FAILED})
        assert table.problems == ("failed: finetune on outline-solid, seed 1: m",)
        for label in ("finetune", GAMMA_STAR):
            for task in (TASKS[0], MEAN):
                cell = table.of_task(task)[label]
                assert cell["state"] == "failed"
                assert all(np.isnan(cell[c.key]) for c in COLUMNS)
            assert table.of_task(TASKS[1])[label]["state"] == "ok"

    def test_a_seed_that_was_not_run_is_missing_in_both(self, build: Callable[..., Board]) -> None:
        table = build(**{"outline-solid 1": None})
        assert table.problems == ("not run: finetune on outline-solid, seed 1",)
        for label in ("finetune", GAMMA_STAR):
            cell = table.of_task(TASKS[0])[label]
            assert (cell["state"], cell["seeds"]) == ("partial", 2)
            assert table.of_task(MEAN)[label]["state"] == "partial"

    def test_a_row_that_is_missing_beside_a_run_that_succeeded_is_named(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        for seed in range(3):
            write_run(tmp_path, "finetune", seed=seed)
        results = update_results(tmp_path, [icons])
        rows = [r for r in results.to_pylist() if (r["method"], r["seed"]) != (GAMMA_STAR, 2)]
        suite = Suite("s", "S", "icons@2.0", TASKS[:1], ("finetune",), (0, 1, 2))
        (table,) = build_boards(suite, icons, pa.Table.from_pylist(rows, schema=results.schema))
        assert table.problems == ("not run: gamma-star on outline-solid, seed 2",)

    def test_a_finetune_that_always_fails_has_no_row(self, build: Callable[..., Board]) -> None:
        table = build(**{f"{task} {seed}": FAILED for task in TASKS for seed in range(3)})
        assert set(table.labels) == {"source", "finetune"}
        assert not any(GAMMA_STAR in problem for problem in table.problems)

    def test_a_suite_without_finetune(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        write_run(tmp_path, "source")
        suite = load_suite("icons")
        (table,) = build_boards(suite, icons, update_results(tmp_path, [icons]))
        assert table.labels == ["source"]
        assert not any(GAMMA_STAR in problem for problem in table.problems)
