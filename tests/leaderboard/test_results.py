"""The results file: one row per run, scored once, and never from a run that was changed."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.records import PREDICTIONS_FILE, read_predictions
from leaderboard import results as module
from leaderboard import score
from leaderboard.results import RESULTS_FILE, update_results
from leaderboard.rows import COUNTS, METRICS, SCHEMA
from tests.leaderboard.runs import FAILED, WriteRun, change_record, folder_of


class TestRows:
    def test_a_workspace_without_runs(self, tmp_path: Path, icons: Manifest) -> None:
        assert update_results(tmp_path, [icons]).equals(SCHEMA.empty_table())
        assert list(tmp_path.iterdir()) == []

    def test_scores_are_those_of_the_scorer(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        record = write_run(tmp_path, "lolsgd", "outline+solid-color", seed=2)
        (row,) = update_results(tmp_path, [icons]).to_pylist()
        ids, logits = read_predictions(folder_of(tmp_path, record) / PREDICTIONS_FILE)
        task = icons.task("outline+solid-color")
        test = icons.samples("color", "test")
        assert ids == test.ids
        expected = score(logits, test.labels, icons.seen_mask(task)).as_dict()
        assert {name: row[name] for name in (*METRICS, *COUNTS)} == expected
        assert row["overall"] == 100 * np.mean(logits.argmax(axis=1) == test.labels)

    def test_rows_are_in_the_order_of_the_keys(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        records = [write_run(tmp_path, "lolsgd", seed=seed) for seed in range(5)]
        (tmp_path / "runs" / ".building-x").mkdir()  # of a run in progress
        table = update_results(tmp_path, [icons])
        assert table["key"].to_pylist() == sorted(record.key for record in records)


class TestFile:
    def test_a_second_call_writes_nothing(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for seed in range(3):
            write_run(tmp_path, "finetune", seed=seed)
        write_run(tmp_path, "lolsgd", **FAILED)
        first = update_results(tmp_path, [icons])
        path = tmp_path / RESULTS_FILE
        before, stat = path.read_bytes(), path.stat()
        monkeypatch.setattr(module, "score_run", lambda *_: pytest.fail("scored again"))
        assert update_results(tmp_path, [icons]).equals(first)
        assert path.read_bytes() == before
        assert (path.stat().st_mtime_ns, path.stat().st_ino) == (stat.st_mtime_ns, stat.st_ino)
        assert pq.read_table(path).select(SCHEMA.names).equals(first)

    def test_rebuilt_from_nothing_it_has_the_same_bytes(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        write_run(tmp_path, "finetune")
        update_results(tmp_path, [icons])
        write_run(tmp_path, "source", seed=1)
        update_results(tmp_path, [icons])
        path = tmp_path / RESULTS_FILE
        grown = path.read_bytes()
        path.unlink()
        update_results(tmp_path, [icons])
        assert path.read_bytes() == grown
        assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == [
            "outcomes",
            RESULTS_FILE,
            "runs",
        ]

    def test_a_run_that_is_gone_has_no_row(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        record = write_run(tmp_path, "source")
        run = write_run(tmp_path, "finetune")
        update_results(tmp_path, [icons])
        shutil.rmtree(folder_of(tmp_path, run))
        assert update_results(tmp_path, [icons])["key"].to_pylist() == [record.key]
        assert pq.read_table(tmp_path / RESULTS_FILE)["key"].to_pylist() == [record.key]

    def test_another_scorer_scores_again(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_run(tmp_path, "lolsgd")
        update_results(tmp_path, [icons])
        monkeypatch.setattr(module, "scorer_digest", lambda: "other")
        assert update_results(tmp_path, [icons])["scorer_digest"].to_pylist() == ["other"]

    @pytest.mark.parametrize("damage", [b"", b"PAR1", None])
    def test_a_damaged_or_older_file_is_rebuilt(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, damage: bytes | None
    ) -> None:
        write_run(tmp_path, "finetune")
        first = update_results(tmp_path, [icons])
        path = tmp_path / RESULTS_FILE
        if damage is None:
            pq.write_table(pa.table({"key": ["a"]}), path)
        else:
            path.write_bytes(damage)
        assert update_results(tmp_path, [icons]).equals(first)
        assert pq.read_table(path).select(SCHEMA.names).equals(first)

    def test_several_at_once(self, tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
        for seed in range(3):
            write_run(tmp_path, "finetune", seed=seed)
        tables: list[pa.Table] = []
        threads = [
            threading.Thread(target=lambda: tables.append(update_results(tmp_path, [icons])))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(table.equals(tables[0]) for table in tables)
        assert len(tables) == 3


class TestTrust:
    def test_a_folder_of_another_name(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        folder = folder_of(tmp_path, write_run(tmp_path, "finetune"))
        folder.rename(folder.with_name("0" * 64))
        with pytest.warns(UserWarning, match="does not match the name of its folder"):
            update_results(tmp_path, [icons])

    def test_a_changed_record(self, tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
        record = write_run(tmp_path, "finetune")
        change_record(tmp_path, record, made_from={**record.made_from, "seed": 3})
        with pytest.warns(UserWarning, match="so the file was modified"):
            update_results(tmp_path, [icons])


class TestOtherManifests:
    """A workspace may hold runs of manifests that are not given."""

    def test_has_no_scores(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, mini: Manifest
    ) -> None:
        write_run(tmp_path, "finetune")
        write_run(tmp_path, "finetune", manifest=mini)
        by_manifest = {
            row["manifest"]: row for row in update_results(tmp_path, [icons]).to_pylist()
        }
        assert by_manifest["mini@0.1"]["overall"] is None
        assert by_manifest["icons@2.0"]["overall"] is not None

    def test_keeps_the_scores_it_had(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, mini: Manifest
    ) -> None:
        write_run(tmp_path, "finetune", manifest=mini)
        scored = update_results(tmp_path, [mini])
        assert scored["overall"].null_count == 0
        assert update_results(tmp_path, [icons]).equals(scored)

    def test_is_known_by_its_digest_and_not_by_its_name(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        write_run(tmp_path, "finetune", made={"manifest": "f" * 64})
        (row,) = update_results(tmp_path, [icons]).to_pylist()
        assert (row["manifest"], row["overall"]) == ("icons@2.0", None)


class TestCost:
    def test_a_run_that_starts_from_another_costs_both(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        base = write_run(tmp_path, "finetune")
        middle = write_run(tmp_path, "wise", made={"base": base.key})
        write_run(tmp_path, "calibrated", made={"base": middle.key})
        for _ in range(2):  # the second time from results.parquet: nothing is added twice
            rows = {r["method"]: r for r in update_results(tmp_path, [icons]).to_pylist()}
            assert [rows[m]["total_steps"] for m in ("finetune", "wise", "calibrated")] == [
                200,
                400,
                600,
            ]
            assert rows["calibrated"]["measured_adapt_seconds"] == 6.0
            assert rows["calibrated"]["measured_finished"] == 1000.0

    def test_what_was_not_measured_is_empty(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        base = write_run(tmp_path, "base", cost={}, **FAILED)
        write_run(tmp_path, "wise", cost={}, made={"base": base.key}, **FAILED)
        for row in update_results(tmp_path, [icons]).to_pylist():
            assert (row["total_steps"], row["measured_peak_memory"]) == (None, None)

    def test_a_base_that_is_not_here_is_not_counted(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        write_run(tmp_path, "wise", made={"base": "0" * 64})
        (row,) = update_results(tmp_path, [icons]).to_pylist()
        assert row["total_steps"] == 200


def test_the_cost_of_a_run_includes_those_it_starts_from(
    tmp_path: Path, icons: Manifest, write_run: WriteRun
) -> None:
    cost = {"adapt_seconds": 2.0, "wall_seconds": 3.0, "total_steps": 100, "sequential_steps": 10}
    first = write_run(tmp_path, "first", cost=cost | {"peak_memory": 500})
    second = write_run(
        tmp_path, "second", cost=cost | {"peak_memory": 700}, made={"base": first.key}
    )
    third = write_run(
        tmp_path, "third", cost=cost | {"peak_memory": 600}, made={"base": second.key}
    )
    for _ in range(2):  # the second time from the rows before
        rows = {row["key"]: row for row in update_results(tmp_path, [icons]).to_pylist()}
        for times, record in enumerate((first, second, third), start=1):
            assert rows[record.key]["total_steps"] == 100 * times
            assert rows[record.key]["sequential_steps"] == 10 * times
            assert rows[record.key]["measured_adapt_seconds"] == 2.0 * times
            assert rows[record.key]["measured_wall_seconds"] == 3.0
        assert {row["measured_device_peak_memory"] for row in rows.values()} == {None}, "no GPU"
        memory = [rows[record.key]["measured_peak_memory"] for record in (first, second, third)]
        assert memory == [500, 700, 700], "they do not run at the same time: the largest counts"


def test_a_run_of_a_manifest_that_is_not_given_keeps_the_scores_it_had(
    tmp_path: Path, icons: Manifest, write_run: WriteRun
) -> None:
    write_run(tmp_path, "lolsgd")
    (unscored,) = update_results(tmp_path, []).to_pylist()
    assert unscored["status"] == "ok"
    assert unscored["overall"] is None
    (scored,) = update_results(tmp_path, [icons]).to_pylist()
    assert scored["overall"] is not None
    assert update_results(tmp_path, []).to_pylist() == [scored]


class TestManyRuns:
    def test_predictions_that_take_too_much_memory_cost_their_own_row(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for seed in range(3):
            record = write_run(tmp_path, "lwf", seed=seed)
        score = module.score_run

        def score_run(folder: Path, *arguments: object) -> object:
            if folder.name == record.key:
                raise MemoryError
            return score(folder, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "score_run", score_run)
        reports: list[str] = []
        assert update_results(tmp_path, [icons], reports.append).num_rows == 2
        (report,) = reports
        assert f"{record.key} cannot be read: its predictions take more memory" in report

    def test_processes_side_by_side_give_the_same_rows_and_reports(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for seed in range(6):
            write_run(tmp_path, "finetune", seed=seed, skill=2.0)
        write_run(tmp_path, "source", **FAILED)
        for name, seed in (("a", 7), ("b", 8)):
            record = write_run(tmp_path, name, seed=seed)
            (folder_of(tmp_path, record) / PREDICTIONS_FILE).unlink()
        outcomes = []
        for part, pool_from in ((250, 1024), (2, 2)):
            monkeypatch.setattr(module, "PART", part)
            monkeypatch.setattr("benchmark.pool.POOL_FROM", pool_from)
            (tmp_path / RESULTS_FILE).unlink(missing_ok=True)
            reports: list[str] = []
            outcomes.append((update_results(tmp_path, [icons], reports.append), reports))
        (one, first), (other, second) = outcomes
        assert one.num_rows == 6 + 6 + 1  # with a gamma-star row for each run of finetune
        assert other.equals(one)
        assert second == first
        assert len(first) == 2
