"""One row per run, computed from stored predictions, and nothing that cannot be trusted."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.errors import RecordError, ScoringError
from benchmark.files import digest_file
from benchmark.manifest import Manifest
from benchmark.records import PREDICTIONS_FILE, RECORD_FILE, RunRecord, read_predictions
from benchmark.records import write_predictions as write
from leaderboard import results as module
from leaderboard import score
from leaderboard.results import (
    COUNTS,
    MEASURED,
    METRICS,
    RESULTS_FILE,
    SCHEMA,
    score_predictions,
    scorer_digest,
    update_results,
)

WriteRun = Callable[..., RunRecord]
FAILED = {"status": "failed", "error": {"kind": "exception", "message": "m", "traceback": "t"}}


def folder_of(workspace: Path, record: RunRecord) -> Path:
    return workspace / "runs" / record.key


def change_record(workspace: Path, record: RunRecord, **changes: object) -> None:
    path = folder_of(workspace, record) / RECORD_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


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

    def test_identity(self, tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
        config = {"alpha": 0.5}
        record = write_run(
            tmp_path, "wise", seed=1, config=config, label="wise(alpha=0.5)", track="oracle"
        )
        (row,) = update_results(tmp_path, [icons]).to_pylist()
        expected = {
            "key": record.key,
            "provenance": "local",
            "status": "ok",
            "manifest": "icons@1.0",
            "manifest_digest": icons.digest,
            "source_digest": record.made_from["source"],
            "task": "outline-solid",
            "method": "wise",
            "label": "wise(alpha=0.5)",
            "config": '{"alpha":0.5}',
            "track": "oracle",
            "seed": 1,
            "predictions_sha256": record.predictions_sha256,
            "scorer_digest": scorer_digest(),
            "isolation": '["child-process"]',
            "total_steps": 200,
            "sequential_steps": 100,
            "measured_adapt_seconds": 2.0,
            "measured_peak_memory": 512 * 2**20,
            "error_kind": None,
        }
        assert {name: row[name] for name in expected} == expected
        assert set(row) == set(SCHEMA.names)
        assert all(f"measured_{name}" in row for name in MEASURED)

    def test_a_failed_run_is_a_row_without_scores(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        write_run(tmp_path, "finetune", **FAILED)
        (row,) = update_results(tmp_path, [icons]).to_pylist()
        assert row["status"] == "failed"
        assert (row["error_kind"], row["error_message"], row["error_traceback"]) == (
            "exception", "m", "t"
        )  # fmt: skip
        assert all(row[name] is None for name in (*METRICS, *COUNTS))

    def test_a_message_that_has_no_utf8(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        """A method may name a file whose name is no text: the board must not fall over it."""
        message = os.fsdecode(b"no file caf\xe9")
        error = {"kind": "exception", "message": message, "traceback": ""}
        write_run(tmp_path, "finetune", status="failed", error=error)
        (row,) = update_results(tmp_path, [icons]).to_pylist()
        assert row["error_message"] == "no file caf?"
        assert update_results(tmp_path, [icons]).to_pylist() == [row]

    def test_rows_are_in_the_order_of_the_keys(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        records = [write_run(tmp_path, "lolsgd", seed=seed) for seed in range(5)]
        (tmp_path / "runs" / ".building-x").mkdir()  # of a run in hand
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
        monkeypatch.setattr(module, "score_predictions", lambda *_: pytest.fail("scored again"))
        assert update_results(tmp_path, [icons]).equals(first)
        assert path.read_bytes() == before
        assert (path.stat().st_mtime_ns, path.stat().st_ino) == (stat.st_mtime_ns, stat.st_ino)
        assert pq.read_table(path).equals(first)

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
            RESULTS_FILE, "runs"
        ]  # fmt: skip

    def test_a_run_that_is_gone_has_no_row(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        record = write_run(tmp_path, "finetune")
        kept = write_run(tmp_path, "source")
        update_results(tmp_path, [icons])
        for path in folder_of(tmp_path, record).iterdir():
            path.unlink()
        assert update_results(tmp_path, [icons])["key"].to_pylist() == [kept.key]
        assert pq.read_table(tmp_path / RESULTS_FILE)["key"].to_pylist() == [kept.key]

    def test_another_scorer_scores_anew(
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
        assert pq.read_table(path).equals(first)

    def test_several_at_once(self, tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
        for seed in range(3):
            write_run(tmp_path, "finetune", seed=seed)
        found: list[pa.Table] = []
        threads = [
            threading.Thread(target=lambda: found.append(update_results(tmp_path, [icons])))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(table.equals(found[0]) for table in found)
        assert len(found) == 3


class TestTrust:
    def test_predictions_of_another_run(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        good = write_run(tmp_path, "finetune", skill=5)
        poor = write_run(tmp_path, "source", skill=0)
        better = (folder_of(tmp_path, good) / PREDICTIONS_FILE).read_bytes()
        (folder_of(tmp_path, poor) / PREDICTIONS_FILE).write_bytes(better)
        with pytest.raises(RecordError, match="is not the file that the run wrote"):
            update_results(tmp_path, [icons])

    def test_one_changed_byte(self, tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
        path = folder_of(tmp_path, write_run(tmp_path, "finetune")) / PREDICTIONS_FILE
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(RecordError, match="is not the file that the run wrote"):
            update_results(tmp_path, [icons])

    def test_no_predictions(self, tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
        (folder_of(tmp_path, write_run(tmp_path, "finetune")) / PREDICTIONS_FILE).unlink()
        with pytest.raises(RecordError, match="is not the file that the run wrote"):
            update_results(tmp_path, [icons])

    @pytest.mark.parametrize(
        "changes",
        [
            {"task": "solid-outline"},
            {"seed": 1},
            {"method": "lolsgd"},
            {"label": "lolsgd"},
            {"config": {"alpha": 1}},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_what_the_table_shows_is_what_the_run_was_made_from(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, changes: dict[str, object]
    ) -> None:
        change_record(tmp_path, write_run(tmp_path, "finetune"), **changes)
        with pytest.raises(RecordError, match="are not what the run was made from"):
            update_results(tmp_path, [icons])

    @pytest.mark.parametrize("name", ["manifest", "recipe", "source", "seed", "method"])
    def test_a_key_of_too_little(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, name: str
    ) -> None:
        write_run(tmp_path, "finetune", made={name: None})
        with pytest.raises(RecordError, match=f"made_from has no {name}"):
            update_results(tmp_path, [icons])

    def test_a_search_of_too_little(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        write_run(tmp_path, "finetune", made={"search": {"by": "nobody", "folds": "3"}})
        with pytest.raises(RecordError, match="search that chose the settings has no folds"):
            update_results(tmp_path, [icons])

    def test_a_folder_of_another_name(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest
    ) -> None:
        folder = folder_of(tmp_path, write_run(tmp_path, "finetune"))
        folder.rename(folder.with_name("0" * 64))
        with pytest.raises(RecordError, match="which is not its folder's name"):
            update_results(tmp_path, [icons])

    def test_a_changed_record(self, tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
        record = write_run(tmp_path, "finetune")
        change_record(tmp_path, record, made_from={**record.made_from, "seed": 3})
        with pytest.raises(RecordError, match="the file was changed"):
            update_results(tmp_path, [icons])


class TestOtherManifests:
    """A workspace may hold runs of manifests that are not at hand."""

    def test_has_no_scores(
        self, tmp_path: Path, write_run: WriteRun, icons: Manifest, mini: Manifest
    ) -> None:
        write_run(tmp_path, "finetune")
        write_run(tmp_path, "finetune", manifest=mini)
        by_manifest = {
            row["manifest"]: row for row in update_results(tmp_path, [icons]).to_pylist()
        }
        assert by_manifest["mini@0.1"]["overall"] is None
        assert by_manifest["icons@1.0"]["overall"] is not None

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
        assert (row["manifest"], row["overall"]) == ("icons@1.0", None)


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
                200, 400, 600
            ]  # fmt: skip
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
            (lambda i, z: (i[1:], z[1:]), r"1 missing sample id\(s\): "),
            (lambda i, z: (["x", *i[1:]], z), r"1 unknown sample id\(s\): 'x'"),
            (lambda i, z: ([i[1], *i[1:]], z), r"1 sample id\(s\) more than once"),
            (lambda i, z: (i, z[:, :64]), "logits have 64 columns but seen names 65 classes"),
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


def test_a_run_of_a_manifest_that_is_not_at_hand_keeps_the_scores_it_had(
    tmp_path: Path, icons: Manifest, write_run: WriteRun
) -> None:
    write_run(tmp_path, "lolsgd")
    (unscored,) = update_results(tmp_path, []).to_pylist()
    assert unscored["status"] == "ok"
    assert unscored["overall"] is None
    (scored,) = update_results(tmp_path, [icons]).to_pylist()
    assert scored["overall"] is not None
    assert update_results(tmp_path, []).to_pylist() == [scored]
