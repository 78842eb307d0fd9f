"""Run records and predictions: round trips, and errors for invalid files."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmark import records
from benchmark.errors import RecordError
from benchmark.files import SEAL, digest_json, seal
from benchmark.records import (
    PREDICTIONS_FILE,
    RECORD_FILE,
    RunRecord,
    read_predictions,
    verified_predictions,
    write_predictions,
)

PROPERTY = settings(deadline=None, database=None, max_examples=50)
MADE_FROM = {"task": "outline-solid", "seed": 1, "recipe": {"lr": 0.1}}
RECORD = RunRecord(
    key=digest_json(MADE_FROM),
    made_from=MADE_FROM,
    manifest="icons@2.0",
    task="outline-solid",
    method="finetune",
    label="finetune(alpha=0.5)",
    config={"alpha": 0.5, "name": "é"},
    track="standard",
    seed=1,
    status="failed",
    error={"kind": "exception", "message": "no \x1b[31m", "traceback": "..."},
    cost={"wall_seconds": 1.5, "total_steps": 200},
    environment={"torch": "2.6.0"},
    isolation=["child-process"],
    log=[{"step": 1, "loss": 0.5}],
    notes=["a fallback was used"],
)


class TestRecord:
    def write(self, folder: Path, **changes: object) -> None:
        """Write the record with changes and a checksum that fits them."""
        (folder / RECORD_FILE).write_bytes(seal(dataclasses.asdict(RECORD) | changes))

    def test_round_trip(self, tmp_path: Path) -> None:
        (tmp_path / RECORD_FILE).write_bytes(RECORD.to_bytes())
        assert RunRecord.read(tmp_path) == RECORD
        assert RunRecord.read(tmp_path).to_bytes() == RECORD.to_bytes()

    def test_equal_records_have_equal_bytes(self) -> None:
        shuffled = dataclasses.replace(RECORD, made_from=dict(reversed(MADE_FROM.items())))
        assert shuffled.to_bytes() == RECORD.to_bytes()

    def test_a_change_of_made_from_is_detected(self, tmp_path: Path) -> None:
        self.write(tmp_path, made_from={**MADE_FROM, "seed": 2})
        with pytest.raises(RecordError, match="the key does not match made_from"):
            RunRecord.read(tmp_path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"format": 1}, "not a run record of format 2; delete the run's folder"),
            ({"format": None}, "not a run record of format 2"),
            ({"format": True}, "not a run record of format 2"),
            ({"format": 3}, "has format 3; this version reads format 2; update holistic"),
            ({"gpu_hours": 9}, "has unknown fields: 'gpu_hours'; update holistic"),
            ({"key": "abc"}, "key is 'abc'"),
            ({"key": 7}, "key is '7'"),
            ({"key": "0" * 64}, "the key does not match made_from"),
            ({"made_from": []}, r"made_from is '\[\]'"),
            ({"status": "great"}, "status is 'great'"),
            ({"status": ["ok"]}, "status is"),
            ({"seed": "1"}, "seed is '1'"),
            ({"seed": True}, "seed is 'True'"),
            ({"seed": 1 << 63}, "seed is"),
            ({"label": None}, "label is 'None'"),
            ({"track": "fast"}, "track is 'fast'"),
            ({"config": "alpha=1"}, "config is"),
            ({"error": "boom"}, "error is 'boom'"),
            ({"error": {"message": 3}}, "error is"),
            ({"predictions_sha256": "f" * 63}, "predictions_sha256 is"),
            ({"cost": None}, "cost is 'None'"),
            ({"cost": {"wall_seconds": "1"}}, "cost is"),
            ({"cost": {"total_steps": 1.5}}, "cost is"),
            ({"cost": {"peak_memory": True}}, "cost is"),
            ({"isolation": "child-process"}, "isolation is 'child-process'"),
            ({"log": [1]}, "log is"),
        ],
    )
    def test_invalid_records(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        self.write(tmp_path, **changes)
        with pytest.raises(RecordError, match=message) as error:
            RunRecord.read(tmp_path)
        assert str(tmp_path / RECORD_FILE) in str(error.value)

    def test_no_flipped_bit_changes_a_value(self, tmp_path: Path) -> None:
        path = tmp_path / RECORD_FILE
        content = RECORD.to_bytes()
        for bit in range(8 * (len(content) - 1)):  # all but those of the final line break
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            with contextlib.suppress(RecordError):
                # The case of the hex digits of an escape does not matter.
                assert RunRecord.read(tmp_path) == RECORD

    @pytest.mark.parametrize(
        "change", [{"cost": {}}, {"notes": ["x"]}, {"label": "best"}, {SEAL: ""}]
    )
    def test_a_change_without_the_checksum(self, tmp_path: Path, change: dict[str, Any]) -> None:
        record = json.loads(RECORD.to_bytes()) | change
        (tmp_path / RECORD_FILE).write_text(json.dumps(record))
        with pytest.raises(RecordError, match="does not match its checksum") as error:
            RunRecord.read(tmp_path)
        assert f"run it again: rm -r {tmp_path}" in str(error.value)

    def test_a_record_without_a_checksum(self, tmp_path: Path) -> None:
        (tmp_path / RECORD_FILE).write_text(json.dumps(dataclasses.asdict(RECORD)))
        with pytest.raises(RecordError, match="has no checksum"):
            RunRecord.read(tmp_path)

    def test_a_missing_field(self, tmp_path: Path) -> None:
        fields = dataclasses.asdict(RECORD)
        del fields["notes"]
        (tmp_path / RECORD_FILE).write_bytes(seal(fields))
        with pytest.raises(RecordError, match="has no notes"):
            RunRecord.read(tmp_path)

    def test_the_record_of_another_run(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        assert RunRecord.read(tmp_path, RECORD.key) == RECORD
        with pytest.raises(RecordError, match="does not match the name of its folder"):
            RunRecord.read(tmp_path, "0" * 64)

    @pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "loop", "dangling", "device"])
    def test_something_else_in_its_place(self, tmp_path: Path, kind: str) -> None:
        """Opening a FIFO for reading would wait for a writer."""
        put(kind, tmp_path / RECORD_FILE)
        with pytest.raises(RecordError, match="cannot read"):
            RunRecord.read(tmp_path)

    def test_nested_more_deeply_than_json_can_be_written(self, tmp_path: Path) -> None:
        for depth in (100, 900, 3000, 100_000):
            nested = "[" * depth + "]" * depth
            text = RECORD.to_bytes().decode().replace('"a fallback was used"', nested)
            (tmp_path / RECORD_FILE).write_text(text)
            with pytest.raises(RecordError, match=RECORD_FILE):
                RunRecord.read(tmp_path)

    @pytest.mark.parametrize("text", ["[]", "3", "{", "", '{"format": 1}', '{"seed": NaN}'])
    def test_not_a_record_at_all(self, tmp_path: Path, text: str) -> None:
        (tmp_path / RECORD_FILE).write_text(text)
        with pytest.raises(RecordError, match=RECORD_FILE):
            RunRecord.read(tmp_path)

    def test_missing_and_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(RecordError, match="cannot read"):
            RunRecord.read(tmp_path)
        monkeypatch.setattr(records, "MAX_RECORD_BYTES", 10)
        self.write(tmp_path)
        with pytest.raises(RecordError, match="larger than 10 bytes"):
            RunRecord.read(tmp_path)


def put(kind: str, path: Path) -> None:
    """Create something that is not a regular file."""
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
        case "loop":
            path.symlink_to(path.name)
        case "dangling":
            path.symlink_to("nowhere")
        case "device":
            path.symlink_to("/dev/zero")


class TestVerifiedPredictions:
    def test_the_right_ones(self, tmp_path: Path) -> None:
        (tmp_path / PREDICTIONS_FILE).write_bytes(b"x")
        digest = hashlib.sha256(b"x").hexdigest()
        assert verified_predictions(tmp_path, digest) == tmp_path / PREDICTIONS_FILE
        with pytest.raises(RecordError, match="does not match the SHA-256"):
            verified_predictions(tmp_path, "0" * 64)
        with pytest.raises(RecordError, match="does not match the SHA-256"):
            verified_predictions(tmp_path, None)

    @pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "loop", "dangling", "device"])
    def test_something_else_in_their_place(self, tmp_path: Path, kind: str) -> None:
        put(kind, tmp_path / PREDICTIONS_FILE)
        with pytest.raises(RecordError, match="run it again: rm -r"):
            verified_predictions(tmp_path, "0" * 64)


def table(ids: Any = None, logits: Any = None, **columns: Any) -> pa.Table:
    """A valid predictions table of two samples and three classes, with changes."""
    ids = pa.array(["a", "b"]) if ids is None else ids
    if logits is None:
        logits = pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.float32(), 3))
    return pa.table({"sample_id": ids, "logits": logits, **columns})


class TestPredictions:
    @PROPERTY
    @given(
        logits=arrays(
            np.float32,
            st.tuples(st.integers(0, 20), st.integers(1, 6)),
            elements=st.floats(width=32),
        )
    )
    def test_round_trip(self, tmp_path_factory: pytest.TempPathFactory, logits: np.ndarray) -> None:
        path = tmp_path_factory.mktemp("p") / PREDICTIONS_FILE
        ids = tuple(f"sample-{i}" for i in range(len(logits)))
        write_predictions(path, ids, logits)
        ids_read, logits_read = read_predictions(path)
        assert ids_read == ids
        assert logits_read.dtype == np.float32
        assert logits_read.tobytes() == logits.tobytes()

    def test_equal_input_gives_equal_bytes(self, tmp_path: Path) -> None:
        logits = np.random.default_rng(0).normal(size=(100, 65)).astype(np.float32)
        ids = [f"sample-{i}" for i in range(100)]
        write_predictions(tmp_path / "a", ids, logits)
        write_predictions(tmp_path / "b", ids, np.asfortranarray(logits))
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_files_of_another_writer(self, tmp_path: Path) -> None:
        """With several row groups, compression and an additional column."""
        path = tmp_path / PREDICTIONS_FILE
        with_note = table(note=pa.array(["x", "y"]))
        pq.write_table(with_note, path, compression="zstd", row_group_size=1)
        ids, logits = read_predictions(path)
        assert ids == ("a", "b")
        assert logits.tolist() == [[1, 2, 3], [4, 5, 6]]

    @pytest.mark.parametrize(
        ("invalid", "message"),
        [
            (table().drop_columns(["logits"]), "must have one column sample_id and one"),
            (table().rename_columns(["id", "logits"]), "must have one column sample_id and one"),
            (table().append_column("sample_id", pa.array(["c", "d"])), "must have one column"),
            (table(ids=pa.array([1, 2])), "sample_id is int64, not string"),
            (table(ids=pa.array([b"a", b"b"])), "sample_id is binary, not string"),
            (table(logits=pa.array([1.0, 2.0])), "logits is double, not lists of floats"),
            *(
                (table(logits=pa.array([values, values])), "not lists of floats")
                for values in ([1, 2], [True, False], ["1", "2"], [None], [[1.0]], {"a": 1.0})
            ),
            (
                table(logits=pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float32()))),
                "the logits of sample 'b' have 1 values, those of the first 2",
            ),
            (table(ids=pa.array(["a", None])), "has empty values: the sample_id of row 1"),
            (
                table(logits=pa.array([[1, 2], None], pa.list_(pa.float32(), 2))),
                "has empty values: the logits of sample 'b'|index 2 had size=0",  # pyarrow 20
            ),
            (
                table(logits=pa.array([[1, 2], [3, None]], pa.list_(pa.float32(), 2))),
                "has empty values: one of the logits of sample 'b'",
            ),
            (
                table(logits=pa.array([[1.0, -1e39], [1.0, 2.0]])),
                "one of the logits of sample 'a' is too large for float32",
            ),
            (
                table(ids=pa.array([b"\xff", b"b"]).view(pa.string())),
                "not a readable Parquet file",
            ),
        ],
    )
    def test_invalid_tables(self, tmp_path: Path, invalid: pa.Table, message: str) -> None:
        path = tmp_path / PREDICTIONS_FILE
        pq.write_table(invalid, path)
        with pytest.raises(RecordError, match=message) as error:
            read_predictions(path)
        assert str(error.value).startswith(str(path))

    def test_unreadable_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / PREDICTIONS_FILE
        with pytest.raises(RecordError, match="does not exist"):
            read_predictions(path)
        path.write_bytes(b"PAR1")
        with pytest.raises(RecordError, match="not a readable Parquet file"):
            read_predictions(path)
        pq.write_table(table(), path)
        monkeypatch.setattr(records, "MAX_PREDICTIONS", 5)
        with pytest.raises(RecordError, match="declares 2 x 3 logits; the limit is 5"):
            read_predictions(path)
