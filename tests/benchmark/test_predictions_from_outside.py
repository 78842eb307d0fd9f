"""Predictions that other programs wrote: accepted if they mean one thing, refused before they
take memory."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark import parquet, records
from benchmark.errors import RecordError
from benchmark.parquet import MAX_TEXT_BYTES, column_size, read_texts
from benchmark.records import HOW_TO_WRITE, read_predictions, write_predictions

IDS = ("a", "b", "c")
LOGITS = np.array([[1.0, 2.5], [-3.25, 0.0], [0.1, 1e30]], np.float32)
SHAPE = LOGITS.shape
GIB = 1 << 30


def lists(kind: pa.DataType, values: np.ndarray[Any, Any] = LOGITS) -> pa.Array:
    return pa.array([list(row) for row in values], kind)


def write_table(table: pa.Table, path: Path, **options: Any) -> None:
    try:
        pq.write_table(table, path, **options)
    except pa.ArrowNotImplementedError as error:
        pytest.skip(f"pyarrow {pa.__version__}: {error}")


def write(path: Path, **columns: Any) -> Path:
    write_table(pa.table({"sample_id": pa.array(IDS), **columns}), path)
    return path


class TestAccepted:
    def check(self, path: Path, expected: np.ndarray[Any, Any] = LOGITS) -> None:
        for shape in (None, SHAPE):
            ids, logits = read_predictions(path, shape)
            assert ids == IDS
            assert logits.dtype == np.float32
            assert logits.tobytes() == expected.astype(np.float32).tobytes()

    @pytest.mark.parametrize("kind", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view])
    @pytest.mark.parametrize("values", [pa.float32(), pa.float64()])
    def test_lists(self, tmp_path: Path, kind: Any, values: pa.DataType) -> None:
        """pandas writes ``list<float>`` and ``list<double>``, polars ``large_list``."""
        self.check(write(tmp_path / "p", logits=lists(kind(values))))

    @pytest.mark.parametrize("values", [pa.float32(), pa.float64()])
    def test_fixed_size_lists(self, tmp_path: Path, values: pa.DataType) -> None:
        self.check(write(tmp_path / "p", logits=lists(pa.list_(values, 2))))

    @pytest.mark.parametrize("size", [-1, 2])
    def test_float16(self, tmp_path: Path, size: int) -> None:
        half = np.clip(LOGITS, -9, 9).astype(np.float16)
        self.check(write(tmp_path / "p", logits=lists(pa.list_(pa.float16(), size), half)), half)

    def test_a_tensor_column(self, tmp_path: Path) -> None:
        kind = pa.fixed_shape_tensor(pa.float32(), (2,))
        storage = lists(pa.list_(pa.float32(), 2))
        self.check(write(tmp_path / "p", logits=pa.ExtensionArray.from_storage(kind, storage)))

    @pytest.mark.parametrize(
        "kind",
        [
            pa.large_string(),
            pa.string_view(),
            pa.dictionary(pa.int32(), pa.string()),
            pa.dictionary(pa.uint32(), pa.large_string()),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("use_dictionary", [True, False])
    def test_ids(self, tmp_path: Path, kind: pa.DataType, use_dictionary: bool) -> None:
        ids = pa.array(IDS)
        ids = ids.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else ids.cast(kind)
        table = pa.table({"sample_id": ids, "logits": lists(pa.list_(pa.float32()))})
        write_table(table, tmp_path / "p", use_dictionary=use_dictionary)
        self.check(tmp_path / "p")

    @pytest.mark.parametrize(
        "column",
        [list(LOGITS), LOGITS.tolist(), list(map(tuple, LOGITS.tolist())), list(LOGITS * 1.0)],
        ids=["arrays", "lists", "tuples", "more arrays"],
    )
    @pytest.mark.parametrize("ids", [list, pd.Categorical])
    def test_pandas(self, tmp_path: Path, column: list[Any], ids: Any) -> None:
        pd.DataFrame({"sample_id": ids(IDS), "logits": column}).to_parquet(tmp_path / "p")
        self.check(tmp_path / "p")

    def test_the_lines_of_the_message(self, tmp_path: Path, monkeypatch: Any) -> None:
        code = HOW_TO_WRITE.partition("\n")[2]
        assert code.count("\n") == 2, "three lines"
        monkeypatch.chdir(tmp_path)
        names = {"pandas": pd, "ids": IDS, "logits": LOGITS.astype(np.float64)}
        exec(textwrap.dedent(code), names)
        self.check(tmp_path / "predictions.parquet")

    def test_polars(self, tmp_path: Path) -> None:
        polars = pytest.importorskip("polars")
        frame = polars.DataFrame({"sample_id": IDS, "logits": LOGITS.astype(np.float64).tolist()})
        frame.write_parquet(tmp_path / "p")
        self.check(tmp_path / "p")
        array = polars.Series(LOGITS.tolist(), dtype=polars.Array(polars.Float32, 2))
        ids = frame["sample_id"].cast(polars.Categorical)
        frame.with_columns(ids, logits=array).write_parquet(tmp_path / "p")
        self.check(tmp_path / "p")

    def test_many_batches_and_row_groups(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(records, "BATCH_ROWS", 7)
        logits = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
        ids = pa.array([f"s{i}" for i in range(100)])
        table = pa.table({"sample_id": ids, "logits": pa.array(logits.tolist())})
        pq.write_table(table, tmp_path / "p", row_group_size=30, data_page_size=64)
        read, values = read_predictions(tmp_path / "p", (100, 5))
        assert read == tuple(ids.to_pylist())
        assert values.tobytes() == logits.tobytes()

    def test_a_signalling_nan_is_read_without_a_warning(self, tmp_path: Path) -> None:
        values = LOGITS.astype(np.float64)
        values[1, 0] = np.frombuffer((0x7FF0000000000001).to_bytes(8, "little"))[0]
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 2)
        _, logits = read_predictions(write(tmp_path / "p", logits=column))
        assert np.isnan(logits).tolist() == [[False, False], [True, False], [False, False]]

    def test_nan_and_infinity_are_left_to_the_scorer(self, tmp_path: Path) -> None:
        values = np.array([[np.nan, 0], [np.inf, 0], [-np.inf, 0]])
        self.check(write(tmp_path / "p", logits=lists(pa.list_(pa.float64()), values)), values)


class TestRefusedByType:
    @pytest.mark.parametrize(
        "columns",
        [
            {"logits": pa.array([[1, 2]] * 3)},
            {"logits": pa.array([[True, False]] * 3)},
            {"logits": pa.array([["1", "2"]] * 3)},
            {"logits": pa.array(["[1, 2]"] * 3)},
            {"logits": pa.array([1.0] * 3)},
            {"logits_0": pa.array([1.0] * 3), "logits_1": pa.array([1.0] * 3)},
            {"logits": lists(pa.list_(pa.float32())), "sample_id": pa.array([1, 2, 3])},
        ],
        ids=["integers", "booleans", "texts", "text", "numbers", "wide", "integer ids"],
    )
    def test_the_message_shows_how_to_write_them(
        self, tmp_path: Path, columns: dict[str, Any]
    ) -> None:
        with pytest.raises(RecordError) as error:
            read_predictions(write(tmp_path / "p", **columns))
        assert HOW_TO_WRITE in str(error.value)


def bombs(folder: Path) -> dict[str, Path]:
    """Small files that take gigabytes if they are read as they are."""
    rows = 1000
    one = pa.array(np.zeros((rows, 2), np.float32).tolist(), pa.list_(pa.float32()))
    long = "x" * 5_000_000
    ids = [f"s{i}" for i in range(rows)]
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([long]))
    zeros = pa.ListArray.from_arrays(
        pa.array(np.linspace(0, 5e7, rows + 1).astype(np.int32)),
        pa.array(np.zeros(50_000_000, np.float32)),
    )
    # name: ids, logits, options of the writer
    tables: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "one long id, repeated": (dictionary, one, {}),
        "long ids": ([long[:200_000] + i for i in ids], one, {"use_dictionary": False}),
        "ids by their prefix": (
            [long + i for i in ids[:100]],
            one[:100],
            {"use_dictionary": False, "column_encoding": {"sample_id": "DELTA_BYTE_ARRAY"}},
        ),
        "a long list of zeros": (ids, zeros, {}),
        "many samples": (
            pa.array(["s"] * 20_000_000).dictionary_encode(),
            pa.nulls(20_000_000, pa.list_(pa.float32())),
            {},
        ),
    }
    paths = {}
    for name, (first, second, options) in tables.items():
        paths[name] = folder / f"{name}.parquet"
        table = pa.table({"sample_id": first, "logits": second})
        pq.write_table(table, paths[name], compression="zstd", **options)
        assert paths[name].stat().st_size < 400_000, name
    return paths


LIMITED = """
import resource, sys
from benchmark.errors import RecordError
from benchmark.records import read_predictions
import pyarrow.parquet, numpy
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_predictions(sys.argv[1], (1000, 2))
except RecordError as error:
    print(str(error).replace(sys.argv[1], ""))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_small_files_that_hold_gigabytes_take_no_memory(tmp_path: Path) -> None:
    expected = {
        "one long id, repeated": f"a value of sample_id is longer than {MAX_TEXT_BYTES} bytes",
        "long ids": f"a value of sample_id is longer than {MAX_TEXT_BYTES} bytes",
        "ids by their prefix": "sample_id has the encoding DELTA_BYTE_ARRAY",
        "a long list of zeros": "declares 1000 x 50000 logits; the limit is 4000",
        "many samples": "declares 20000000 x 1 logits; the limit is 4000",
    }
    for name, path in bombs(tmp_path).items():
        output = subprocess.run(
            [sys.executable, "-c", LIMITED, str(path)],
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 * GIB, 3 * GIB)),
        ).stdout
        *message, kib = output.splitlines()
        assert expected[name] in " ".join(message), name
        assert int(kib) < 64 << 10, name


def test_a_text_that_is_repeated_millions_of_times(tmp_path: Path) -> None:
    rows = 2_000_000
    indices = pa.array(np.zeros(rows, np.int32))
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * MAX_TEXT_BYTES]))
    pq.write_table(pa.table({"class": column}), tmp_path / "p")
    with (
        pa.OSFile(str(tmp_path / "p")) as source,
        pytest.raises(ValueError, match="class has 2000000 values of up to 1000 bytes"),
    ):
        read_texts(pq.ParquetFile(source), source, "class")


def test_a_column_of_many_long_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_COLUMN_BYTES", 1000)
    texts = pa.array([f"{i:0500}" for i in range(3)])
    pq.write_table(pa.table({"class": texts}), tmp_path / "p", use_dictionary=False)
    with (
        pa.OSFile(str(tmp_path / "p")) as source,
        pytest.raises(ValueError, match=r"class takes 15\d\d bytes; the limit is 1000"),
    ):
        read_texts(pq.ParquetFile(source), source, "class")


class TestPageHeaders:
    def column(self, path: Path, name: str) -> Any:
        with pa.OSFile(str(path)) as source:
            return column_size(source, name)

    @pytest.mark.parametrize("version", ["1.0", "2.0"])
    @pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "brotli"])
    @pytest.mark.parametrize("use_dictionary", [True, False])
    def test_they_count_what_the_footer_counts(
        self, tmp_path: Path, version: str, compression: str, use_dictionary: bool
    ) -> None:
        ids = pa.array([f"s{i % 50}" if i % 3 else None for i in range(5000)])
        logits = pa.array(np.random.default_rng(0).normal(size=(5000, 4)).tolist())
        pq.write_table(
            pa.table({"other": ids, "sample_id": ids, "logits": logits}),
            tmp_path / "p",
            data_page_version=version,
            compression=compression,
            use_dictionary=use_dictionary,
            row_group_size=1500,
            data_page_size=512,
            write_page_checksum=True,
        )
        metadata = pq.ParquetFile(tmp_path / "p").metadata
        for index, name in ((1, "sample_id"), (2, "logits")):
            chunks = [metadata.row_group(i).column(index) for i in range(metadata.num_row_groups)]
            size = self.column(tmp_path / "p", name)
            assert size.values == sum(chunk.num_values for chunk in chunks)
            assert size.bytes <= sum(
                max(chunk.total_uncompressed_size, chunk.total_compressed_size) for chunk in chunks
            )
            assert size.bytes > 0

    @pytest.mark.parametrize("seed", range(60))
    def test_damage_is_an_error_and_no_crash(self, tmp_path: Path, seed: int) -> None:
        write_predictions(tmp_path / "p", IDS, LOGITS)
        data = bytearray((tmp_path / "p").read_bytes())
        random = np.random.default_rng(seed)
        for position in random.integers(4, len(data) - 4, size=1 + seed % 4):
            data[position] = random.integers(256)
        (tmp_path / "p").write_bytes(data)
        with contextlib.suppress(RecordError):
            read_predictions(tmp_path / "p", SHAPE)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            # Of a level that the statistics do not count: pyarrow's description of the column ends
            # the process.
            (b"\x25\x02\x18\x07element", b"\x25\x00\x18\x07element"),
            # A page whose header has a number in place of the struct of a data page.
            (b"\x2c\x15", b"\x25\x15"),
        ],
    )
    def test_damage_that_fuzzing_found(self, tmp_path: Path, before: bytes, after: bytes) -> None:
        table = pa.table({"sample_id": list(IDS), "logits": LOGITS.tolist()})
        pq.write_table(table, tmp_path / "p")
        data = (tmp_path / "p").read_bytes()
        assert before in data
        (tmp_path / "p").write_bytes(data.replace(before, after))
        with pytest.raises(RecordError, match="is not a readable Parquet file"):
            read_predictions(tmp_path / "p", SHAPE)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordError, match=r"pipe is not a readable Parquet file: .*not a regular"):
        read_predictions(tmp_path / "pipe", SHAPE)
