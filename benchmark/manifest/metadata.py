"""Read and check a metadata file in the layout of iWildCam2020-WILDS."""

from __future__ import annotations

import csv
import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import DataError, first
from benchmark.files import read_bounded
from benchmark.manifest.read import MAX_IMAGES
from benchmark.manifest.recipe import ManifestRecipe
from benchmark.text import plural

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

MAX_METADATA_BYTES = 256 << 20  # the published file has 203,029 rows of about 200 bytes
# The columns of metadata.csv that the rule needs; others are not read.
COLUMNS = (
    "split",
    "location_remapped",
    "seq_id",
    "y",
    "category_id",
    "datetime",
    "filename",
    "image_id",
)
_NOT_A_VALUE = ["", "nan", "nat", "none", "null", "n/a", "na", "<na>"]
_WHOLE = r"^[0-9]{1,9}$"
_FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?$"


@dataclass(frozen=True, eq=False)
class Metadata:
    """A checked metadata file: columns of N rows, in the order of ``image_id``.

    Attributes:
        published: whether it is the file that the recipe names by its MD5.
        digest: SHA-256 (hex) of the rows, independent of their order in the file.
        split, seq_id, filename, image_id, datetime: text.
        location, y: whole numbers; ``time``: microseconds; ``date``: days.
    """

    published: bool
    digest: str
    split: NDArray[np.object_]
    seq_id: NDArray[np.object_]
    filename: NDArray[np.object_]
    image_id: NDArray[np.object_]
    datetime: NDArray[np.object_]
    location: NDArray[np.int64]
    y: NDArray[np.int64]
    time: NDArray[np.datetime64]
    date: NDArray[np.datetime64]


def read_metadata(path: Path, recipe: ManifestRecipe, *, allow_unknown: bool = False) -> Metadata:
    """Read and check a metadata file.

    Args:
        path: the CSV file.
        recipe: the recipe whose classes, locations and splits the file must have.
        allow_unknown: accept a file whose MD5 differs from the recipe's.

    Raises:
        DataError: the file breaks a rule; the message names the first offenders.
    """
    content = _read_bytes(path)
    _check_header(content, path)
    expected = recipe.document["metadata"]["md5"]
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 != expected and not allow_unknown:
        raise DataError(
            f"{path} has MD5 {md5}, not {expected}, so it is not the metadata.csv that "
            f"{recipe.reference} was written for. Get that file, or add --allow-unknown-metadata "
            "to expand this file as a separate version"
        )
    table = _parse(content, path)
    _check_cells(table, recipe, path)
    table = table.sort_by("image_id")
    text = {name: table[name].to_pylist() for name in COLUMNS}
    state = hashlib.sha256(b"htbench metadata 1\n")
    for name in COLUMNS:
        state.update(f"\n\n{name}\n".encode())
        state.update("\n".join(text[name]).encode())
    time = np.array(text["datetime"], dtype="datetime64[us]")
    return Metadata(
        published=md5 == expected,
        digest=state.hexdigest(),
        location=np.array(text["location_remapped"], dtype=np.int64),
        y=np.array(text["y"], dtype=np.int64),
        time=time,
        date=time.astype("datetime64[D]"),
        **{
            name: np.array(text[name], dtype=object)
            for name in ("split", "seq_id", "filename", "image_id", "datetime")
        },
    )


def _read_bytes(path: Path) -> bytes:
    """Read the file once, so that the bytes that are checked are the bytes that are parsed."""
    if not path.is_file():  # a pipe or a device may have no end
        raise DataError(f"--metadata: {path} is not a file; give the data set's metadata.csv")
    try:
        content = read_bounded(path, MAX_METADATA_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MAX_METADATA_BYTES:
        raise DataError(
            f"{path} is larger than {MAX_METADATA_BYTES >> 20} MiB; "
            "it is not the data set's metadata.csv"
        )
    return content


def _check_header(content: bytes, path: Path) -> None:
    line, _, rows = content.partition(b"\n")
    try:
        names = next(csv.reader([line[:10_000].decode("utf-8-sig").strip()]), [])
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{path} is not a CSV file: its first line is not text") from None
    if absent := [name for name in COLUMNS if name not in names]:
        raise DataError(
            f"{path} is missing the columns {first(absent, len(COLUMNS))}; "
            "give the data set's metadata.csv, including its header"
        )
    if repeated := [name for name in COLUMNS if names.count(name) > 1]:
        raise DataError(f"{path} has more than one column named {first(repeated)}")
    if not rows[:10_000].strip():
        raise DataError(f"{path} has a header but no rows; download the complete file")


def _parse(content: bytes, path: Path) -> pa.Table:
    """Parse the columns as text."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(content),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=COLUMNS,
                column_types=dict.fromkeys(COLUMNS, pa.string()),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"cannot parse {path} as CSV: {reason}") from None
    if table.num_rows > MAX_IMAGES:
        raise DataError(f"{path} has {table.num_rows} rows; at most {MAX_IMAGES} can be expanded")
    return table.combine_chunks()


def _check_cells(table: pa.Table, recipe: ManifestRecipe, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    def check(name: str, good: pa.ChunkedArray, what: str) -> None:
        if not pc.all(good).as_py():
            rows = np.flatnonzero(~np.asarray(good.to_numpy()))
            values = dict.fromkeys(table[name].take(rows[:1000]).to_pylist())
            raise DataError(
                f"{path}: column {name} must {what}; invalid in "
                f"{len(rows):,} of {plural(table.num_rows, 'row')}, first in row "
                f"{int(rows[0]) + 1}: {first(values)}"
            )

    def known(name: str, values: Sequence[str]) -> pa.ChunkedArray:
        return pc.is_in(table[name], value_set=pa.array(values, pa.string()))

    for name in COLUMNS:
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(table[name]))
        empty = pc.is_in(lower, value_set=pa.array(_NOT_A_VALUE))
        check(name, pc.invert(empty), "not be empty")
    splits = sorted({split for allowed in recipe.splits.values() for split in allowed})
    check("split", known("split", splits), f"be one of {', '.join(splits)}")
    for name in ("location_remapped", "y", "category_id"):
        check(name, pc.match_substring_regex(table[name], _WHOLE), "be a whole number")
    for name in ("seq_id", "filename", "image_id"):
        check(name, pc.match_substring_regex(table[name], _FILE_NAME), "be a file name")
    locations = known("location_remapped", [str(number) for number in recipe.splits])
    check("location_remapped", locations, "be a location of the data set")
    classes = known("y", [str(y) for y in range(len(recipe.classes))])
    check("y", classes, f"be a class index from 0 to {len(recipe.classes) - 1}")
    _check_pairs(table, recipe, path)
    times = pc.match_substring_regex(table["datetime"], _TIME)
    check("datetime", times, "be a time such as 2013-06-05 05:44:19.000")
    dates = pc.utf8_slice_codeunits(table["datetime"], 0, 10)
    real = [date for date in dates.unique().to_pylist() if _is_date(date)]
    valid = pc.is_in(dates, value_set=pa.array(real, pa.string()))
    check("datetime", valid, "be a valid date")
    for name in ("image_id", "filename"):
        counts = pc.value_counts(table[name])
        if len(counts) < table.num_rows:
            repeated = [entry["values"] for entry in counts.to_pylist() if entry["counts"] > 1]
            raise DataError(
                f"{path}: column {name} must be unique, but has duplicates: {first(repeated)}"
            )


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _check_pairs(table: pa.Table, recipe: ManifestRecipe, path: Path) -> None:
    """Check that each location has images of its splits only, and each class one category."""
    splits = table.group_by(["location_remapped", "split"]).aggregate([]).to_pylist()
    wrong = sorted(
        (int(row["location_remapped"]), row["split"])
        for row in splits
        if row["split"] not in recipe.splits[int(row["location_remapped"])]
    )
    if wrong:
        location, split = wrong[0]
        raise DataError(
            f"{path}: location {location} has images in the split {split!r}, but the recipe "
            f"assigns it to {', '.join(recipe.splits[location])} ("
            f"{plural(len(wrong), 'mismatch')} in total); this metadata file is from "
            "another version of the data set. Get the version that the recipe names"
        )
    classes = table.group_by(["y", "category_id"]).aggregate([]).to_pylist()
    pairs = sorted((int(row["y"]), int(row["category_id"])) for row in classes)
    if bad := [(y, category) for y, category in pairs if recipe.categories[y] != category]:
        y, category = bad[0]
        raise DataError(
            f"{path}: class {y} ({recipe.classes[y]!r}) has category_id {category}, but the recipe "
            f"expects {recipe.categories[y]} ({plural(len(bad), 'mismatch')} in total); this "
            "metadata file is from another version of the data set. Get the version that the "
            "recipe names"
        )
