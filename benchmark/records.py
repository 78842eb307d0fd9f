"""The output files of a run: ``run.json`` and ``predictions.parquet``. Loads no torch."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from benchmark.errors import RecordError, first
from benchmark.files import SEAL, digest_file, digest_json, open_regular, read_sealed, seal
from benchmark.parquet import PAGE_BYTES, column_size, read_texts
from benchmark.patterns import SHA256, TRACKS

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

FORMAT = 2
PROTOCOL = "2.0"  # version of the measurement protocol; part of every run's key
MAX_RECORD_BYTES = 16 << 20
MAX_PREDICTIONS = 500_000_000  # logits per file; the largest data set has 52,041 x 345
MAX_SAMPLES = 5_000_000  # per file
BATCH_ROWS = 4096  # read at once
HOW_TO_WRITE = """these lines write the right types, from logits of shape (samples, classes):
    frame = pandas.DataFrame({"sample_id": ids})
    frame["logits"] = list(logits.astype("float32"))
    frame.to_parquet("predictions.parquet")"""
RECORD_FILE = "run.json"
PREDICTIONS_FILE = "predictions.parquet"
WEIGHTS_FILE = "weights.safetensors"

Status = Literal["ok", "failed", "not-applicable"]
NOT_APPLICABLE: Final = "not-applicable"  # a status, and the kind of error that causes it
DEVICE_MEMORY = "device_peak_memory"  # a cost, on CUDA only; self-reported by the child


@dataclass(frozen=True)
class RunRecord:
    """The record of one run.

    Attributes:
        key: SHA-256, in hex, of ``made_from``; the name of the run's folder.
        made_from: everything that the bytes of the predictions depend on.
        manifest: ``name@version``.
        task: id of the task.
        method: name of the method.
        label: the method's name, with the settings that differ from their defaults.
        config: all settings of the method.
        track: ``standard`` or ``oracle``.
        seed: the run's seed.
        status: ``ok``, ``failed`` or ``not-applicable``. The last is not a failure: the method
            cannot work on the network or the task, and the error's message is the reason.
        error: ``kind``, ``message`` and ``traceback``; None if the status is ``ok``.
        predictions_sha256, weights_sha256: of the files next to the record; None without a file.
        cost: measured: ``adapt_seconds``, ``predict_seconds``, ``wall_seconds`` (the whole process)
            and ``peak_memory`` (resident bytes of the process, of which Python and torch take about
            0.4 GiB); on CUDA also ``device_peak_memory`` in bytes. Counted: ``total_steps`` and
            ``sequential_steps``, of gradient steps. The base run is not included: it has its own
            record. Neither is work that all methods share: image stores, source models and the
            source model's features.
        environment: versions and device.
        isolation: the isolation measures that were active.
        log: the rows of the training log.
        notes: the method's notes for readers of the leaderboard.
        format: version of this schema.
    """

    key: str
    made_from: Mapping[str, Any]
    manifest: str
    task: str
    method: str
    label: str
    config: Mapping[str, Any]
    track: str
    seed: int
    status: Status
    error: Mapping[str, str] | None = None
    predictions_sha256: str | None = None
    weights_sha256: str | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    isolation: Sequence[str] = ()
    log: Sequence[Mapping[str, float]] = ()
    notes: Sequence[str] = field(default_factory=list)
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """Return the content of ``run.json``, which includes its own checksum."""
        return seal(dataclasses.asdict(self)) + b"\n"

    @classmethod
    def read(cls, folder: Path, key: str | None = None) -> RunRecord:
        """Read and check the record in a run's folder.

        Args:
            folder: the run's folder.
            key: the key that the record must have; None for any.

        Raises:
            RecordError: the record is missing, too large, of another format, damaged or invalid, or
                its key is not the digest of ``made_from``, or not ``key``. The message says what to
                do.
        """
        path = folder / RECORD_FILE
        try:
            record = cls(**_read_fields(path))
        except RecordError as error:
            raise type(error)(f"{error}; {_remedy(error, folder)}") from None
        if key not in (None, record.key):
            raise RecordError(
                f"{path} is the record of run {record.key[:12]}, which does not match the name of "
                f"its folder; {repeat_run(folder)}"
            )
        return record


_FIELDS = frozenset(f.name for f in dataclasses.fields(RunRecord))


class NewerRecordError(RecordError):
    """A later version of the benchmark wrote the record."""


def _read_fields(path: Path) -> dict[str, Any]:
    """Read and check ``run.json``; returns the fields of the record."""
    fields = read_sealed(
        path, MAX_RECORD_BYTES, RecordError, lambda data: _check_format(data, path)
    )
    if missing := sorted(_FIELDS - set(fields)):
        raise RecordError(f"{path} has no {', '.join(missing)}")
    for name, is_valid in _IS_VALID.items():
        if not is_valid(fields[name]):
            raise RecordError(f"{path}: {name} is {str(fields[name])[:100]!r}, which is invalid")
    if digest_json(fields["made_from"]) != fields["key"]:
        raise RecordError(f"{path}: the key does not match made_from, so the file was modified")
    return fields


def _check_format(data: Any, path: Path) -> None:
    """Check that a parsed ``run.json`` is of this version."""
    number = data.get("format") if isinstance(data, dict) else None
    if type(number) is int and number > FORMAT:
        raise NewerRecordError(f"{path} has format {number}; this version reads format {FORMAT}")
    if type(number) is not int or number != FORMAT:
        raise RecordError(f"{path} is not a run record of format {FORMAT}")
    if unknown := sorted(set(data) - _FIELDS - {SEAL}):
        raise NewerRecordError(f"{path} has unknown fields: {first(unknown)[:200]}")


def _remedy(error: RecordError, folder: Path) -> str:
    if isinstance(error, NewerRecordError):
        return f"update holistic-transfer-bench to a version that reads it, or {repeat_run(folder)}"
    return repeat_run(folder)


def repeat_run(folder: Path) -> str:
    """What to do about a run that cannot be used, for messages."""
    return f"delete the run's folder and run it again: rm -r {shlex.quote(str(folder))}"


def verified_predictions(folder: Path, sha256: str | None) -> Path:
    """Check the SHA-256 of a run's predictions file and return its path.

    Args:
        folder: the run's folder; ``sha256``: the digest in the run's record.

    Raises:
        RecordError: the file is missing or not the one that the run wrote.
    """
    path = folder / PREDICTIONS_FILE
    try:
        matches = digest_file(path) == sha256
    except FileNotFoundError:
        raise RecordError(f"{path} is missing; {repeat_run(folder)}") from None
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}; {repeat_run(folder)}") from None
    if not matches:
        raise RecordError(
            f"{path} does not match the SHA-256 in the run's record; {repeat_run(folder)}"
        )
    return path


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_list(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def _is_number_map(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    for number in value.values():  # a generator is slower, and logs are long
        if type(number) is not float and not _is_whole(number):
            return False
    return True


def _is_whole(value: object) -> bool:
    return type(value) is int and abs(value) < 1 << 63


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 53  # exact as a float; a sum fits 64 bits


def _is_cost(value: object) -> bool:
    return (
        isinstance(value, dict)
        and _is_number_map(value)
        and all(_is_count(v) for name, v in value.items() if name.endswith("_steps"))
    )


_IS_VALID: Mapping[str, Callable[[Any], bool]] = {
    "key": _is_digest,
    "made_from": lambda v: isinstance(v, dict),
    **dict.fromkeys(("manifest", "task", "method", "label"), _is_text),
    "track": lambda v: v in TRACKS,
    "config": lambda v: isinstance(v, dict),
    "seed": _is_whole,
    "status": lambda v: v in get_args(Status),
    "error": lambda v: v is None or (isinstance(v, dict) and all(map(_is_text, v.values()))),
    "predictions_sha256": lambda v: v is None or _is_digest(v),
    "weights_sha256": lambda v: v is None or _is_digest(v),
    "cost": _is_cost,
    "environment": lambda v: isinstance(v, dict),
    "isolation": _is_text_list,
    "notes": _is_text_list,
    "log": lambda v: isinstance(v, list) and all(map(_is_number_map, v)),
}


def write_predictions(
    path: Path | pa.NativeFile, ids: Sequence[str], logits: NDArray[np.float32]
) -> None:
    """Write predictions as Parquet; equal input gives equal bytes.

    Args:
        path: the file, or a stream.
        ids: N sample ids.
        logits: float32 (N, C).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = pa.array(np.ascontiguousarray(logits, dtype=np.float32).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(values, logits.shape[1])
    table = pa.table({"sample_id": pa.array(ids, pa.string()), "logits": column})
    # Logits hardly compress: plain encoding is faster and no larger.
    pq.write_table(table, path, compression="none", use_dictionary=False)


def read_predictions(
    path: Path, shape: tuple[int, int] | None = None
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Read predictions, also those that pandas, polars and other programs wrote.

    The ids may have any text type. The logits may be lists of any kind, of float16, float32 or
    float64, which are rounded to float32. How much the file holds is checked before it is read.

    Args:
        path: the file.
        shape: samples and classes of the task; a file with more than twice as much is refused.

    Returns:
        The N sample ids, and logits, float32 (N, C).

    Raises:
        RecordError: the file is missing, too large or not a Parquet file of this schema; or a
            sample has an empty value, another number of logits than the first, or a logit that is
            too large for float32.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        open_regular(path).close()  # opening a FIFO would wait
        with pa.OSFile(str(path)) as source:
            file = pq.ParquetFile(source, pre_buffer=False)
            _check_types(file.schema_arrow, path)
            _check_size(file, source, shape, path)
            ids = _read_ids(file, source, path)
            return ids, _read_logits(file, ids, path)
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist") from None
    except RecordError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RecordError(f"{path} is not a readable Parquet file: {error}") from None


def same_predictions(one: Path, other: Path) -> bool:
    """Whether two files of predictions have the same ids and logits, bit by bit.

    Versions of pyarrow write the same predictions as other bytes.

    Raises:
        RecordError: a file cannot be read, or is not of predictions.
    """
    (ids, logits), (other_ids, other_logits) = map(read_predictions, (one, other))
    return ids == other_ids and logits.tobytes() == other_logits.tobytes()


def _check_types(schema: pa.Schema, path: Path) -> None:
    import pyarrow as pa

    if any(schema.names.count(name) != 1 for name in ("sample_id", "logits")):
        raise RecordError(
            f"{path} must have one column sample_id and one column logits; {HOW_TO_WRITE}"
        )
    ids, logits = _inner(schema.field("sample_id").type), _storage(schema.field("logits").type)
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(is_text(ids) for is_text in texts):
        raise RecordError(f"{path}: sample_id is {ids!s:.100}, not string; {HOW_TO_WRITE}")
    if not (hasattr(logits, "value_type") and pa.types.is_floating(logits.value_type)):
        raise RecordError(f"{path}: logits is {logits!s:.100}, not lists of floats; {HOW_TO_WRITE}")


def _inner(kind: pa.DataType) -> pa.DataType:
    """The type of a dictionary's values."""
    return kind.value_type if hasattr(kind, "index_type") else kind


def _storage(kind: pa.DataType) -> pa.DataType:
    """The type that an extension type, such as a tensor, is stored as."""
    return getattr(kind, "storage_type", kind)


def _check_size(
    file: pq.ParquetFile, source: pa.NativeFile, shape: tuple[int, int] | None, path: Path
) -> None:
    """Refuse what takes too much memory, by what the pages say that they hold."""
    samples, logits, why = (MAX_SAMPLES, MAX_PREDICTIONS, "")
    if shape is not None:
        samples, logits = 2 * shape[0], 2 * shape[0] * shape[1]
        why = f", twice what the task has: {shape[0]} x {shape[1]}; is it of another task?"
    rows = file.metadata.num_rows
    size = column_size(source, "logits")
    kind = _storage(file.schema_arrow.field("logits").type)
    width = getattr(kind, "list_size", -1)
    if width < 0:
        width = -(-size.values // rows) if rows else 0
    if rows * width > logits or size.values > logits:
        raise RecordError(f"{path} declares {rows} x {width} logits; the limit is {logits}{why}")
    if rows > samples:
        raise RecordError(f"{path} declares {rows} samples; the limit is {samples}{why}")
    if size.bytes > logits * 16 + PAGE_BYTES:
        raise RecordError(f"{path}: the pages of logits take {size.bytes} bytes")


def _read_ids(file: pq.ParquetFile, source: pa.NativeFile, path: Path) -> tuple[str, ...]:
    import pyarrow.compute as pc

    ids = read_texts(file, source, "sample_id")
    if ids.null_count:
        row = pc.index(pc.is_null(ids), True).as_py()
        raise RecordError(f"{path} has empty values: the sample_id of row {row}")
    return tuple(ids.to_pylist())


def _read_logits(file: pq.ParquetFile, ids: Sequence[str], path: Path) -> NDArray[np.float32]:
    """The logits, float32 (N, C), of the N samples with these ids."""
    width: int | None = getattr(_storage(file.schema_arrow.field("logits").type), "list_size", None)
    values: NDArray[np.float32] | None = None
    begin = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=["logits"], use_threads=False):
        column = batch.column(0)
        of_batch = ids[begin : begin + len(column)]
        exact = _rows_of_lists(getattr(column, "storage", column), width, of_batch, path)
        width = exact.shape[1]
        if values is None:
            values = np.empty((len(ids), width), np.float32)
        _round(exact, values[begin : begin + len(exact)], of_batch, path)
        begin += len(exact)
    if begin != len(ids):
        raise RecordError(f"{path} has {len(ids)} sample ids and logits of {begin} samples")
    return np.empty((0, width or 0), np.float32) if values is None else values


def _rows_of_lists(
    column: pa.Array, width: int | None, ids: Sequence[str], path: Path
) -> NDArray[np.floating[Any]]:
    """A column of lists as an (N, width) array of the type that they have.

    Args:
        column: lists of numbers.
        width: the length that each must have; None for that of the first.
        ids: those of the samples, for messages.
        path: the file, for messages.

    Raises:
        RecordError: a list or a number is missing, or a list has another length.
    """
    import pyarrow.compute as pc

    if column.null_count:
        row = pc.is_null(column).index(True).as_py()
        raise RecordError(f"{path} has empty values: {_logits_of(ids[row])}")
    lengths = pc.list_value_length(column).to_numpy()
    if width is None:
        width = int(lengths[0])
    if (ragged := np.flatnonzero(lengths != width)).size:
        row = int(ragged[0])
        raise RecordError(
            f"{path}: {_logits_of(ids[row])} have {lengths[row]} values, those of the first {width}"
        )
    flat = column.flatten()
    if flat.null_count:
        row = pc.is_null(flat).index(True).as_py() // width
        raise RecordError(
            f"{path} has empty values: one of {_logits_of(ids[row])} (pandas writes NaN as empty)"
        )
    return np.asarray(flat.to_numpy(zero_copy_only=False).reshape(-1, width))


def _round(
    exact: NDArray[np.floating[Any]], into: NDArray[np.float32], ids: Sequence[str], path: Path
) -> None:
    """Write numbers of any precision into an array of float32 of the same shape.

    Raises:
        RecordError: one is finite, and too large for float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # invalid: a signalling NaN
        into[:] = exact
    if exact.dtype.itemsize <= into.dtype.itemsize:  # what is no wider cannot be too large
        return
    if (large := np.flatnonzero((np.isinf(into) & np.isfinite(exact)).any(axis=1))).size:
        raise RecordError(f"{path}: one of {_logits_of(ids[large[0]])} is too large for float32")


def _logits_of(sample_id: str) -> str:
    return f"the logits of sample {sample_id!r:.100}"
