"""The predictions behind published rows: one Parquet file for a suite, one row group for a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.commands import restore_it
from benchmark.errors import DataError, UsageError
from benchmark.files import atomic_path
from benchmark.records import read_predictions
from leaderboard import published
from leaderboard.gamma_star import NAME as GAMMA_STAR
from leaderboard.rows import Row, rows_of_table, with_status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Predictions = tuple[Row, tuple[str, ...], NDArray[np.float32]]

FOLDER = "predictions"  # of the published results; not in the package, because of its size
SCHEMA = pa.schema(
    [("key", pa.string()), ("sample_id", pa.string()), ("logits", pa.list_(pa.float32()))]
)


def predictions_of(
    suite: str, rows: Iterable[Row], folder: Path = published.FOLDER
) -> Iterator[Predictions]:
    """Those of :func:`published_predictions` that belong to some rows."""
    keys = {row["key"] for row in rows}
    return (entry for entry in published_predictions(suite, folder) if entry[0]["key"] in keys)


def publish_predictions(
    suite: str, rows: Iterable[Row], file_of: Callable[[Row], Path], folder: Path = published.FOLDER
) -> Path:
    """Write the predictions of runs to ``predictions/SUITE.parquet``.

    Args:
        suite: its name.
        rows: of the runs, of which those without predictions of their own are left out.
        file_of: gives the undamaged predictions of a run.
        folder: of the published results.

    Returns:
        The file. Equal predictions give equal bytes with the same version of pyarrow.
    """
    path = folder / FOLDER / f"{suite}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Bytes of equal weight are stored together: 19 MB instead of 27 MB for the suite icons.
    options = {
        "compression": "zstd",
        "compression_level": 22,
        "use_dictionary": ["key", "sample_id"],
        "column_encoding": {"logits.list.element": "BYTE_STREAM_SPLIT"},
        "data_page_size": 1 << 24,
        "write_statistics": ["key"],
        "write_page_checksum": True,
    }
    own = [row for row in with_status(rows, "ok") if row["method"] != GAMMA_STAR]
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, SCHEMA, **options) as writer,
    ):
        for row in sorted(own, key=lambda row: (row["task"], row["method"], row["key"])):
            writer.write_table(_table(row["key"], *read_predictions(file_of(row))))
    return path


def _table(key: str, ids: tuple[str, ...], logits: NDArray[np.float32]) -> pa.Table:
    values = pa.array(logits.reshape(-1), pa.float32())
    lists = pa.FixedSizeListArray.from_arrays(values, logits.shape[1])
    columns = [pa.array([key] * len(ids)), pa.array(ids), lists.cast(SCHEMA.field("logits").type)]
    return pa.table(columns, schema=SCHEMA)


def published_predictions(
    suite: str = "icons", folder: str | Path = published.FOLDER
) -> Iterator[Predictions]:
    """Read the predictions that are published with this project, run by run.

    Args:
        suite: its name; predictions of the default suite are published.
        folder: of the published results.

    Yields:
        The run's row, a mapping with the columns of :func:`htbench.load_results`; the N sample ids;
        and the logits, float32 (N, C), C in the order of the manifest's classes.

    Raises:
        UsageError: no predictions are published for the suite.
        DataError: the file is damaged, or has a run without a published row.

    Example:
        >>> for row, ids, logits in published_predictions("icons"):
        ...     print(row["label"], row["task"], row["seed"], logits.argmax(axis=1))
    """
    path = Path(folder) / FOLDER / f"{suite}.parquet"
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise UsageError(
            f"{path} does not exist: predictions are published for the suite icons, and are in a "
            "clone of the repository, not in the installed package"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    table = published.published_rows(published.read_published(Path(folder)))
    rows = {row["key"]: row for row in rows_of_table(table)}
    with file:
        for i in range(file.num_row_groups):
            try:
                group = file.read_row_group(i)
                keys = set(group["key"].to_pylist())
                (row,) = (rows[key] for key in keys)
                lists = group["logits"].combine_chunks()
                logits = lists.flatten().to_numpy().reshape(len(lists), -1)
            except (pa.ArrowException, OSError, KeyError, ValueError) as error:
                raise _damaged(path, error) from None
            yield row, tuple(group["sample_id"].to_pylist()), logits


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"the published predictions {path} are damaged ({error}); {restore_it(path)}")
