"""Expand a recipe such as ``iwildcam@1.0`` into a manifest with the user's metadata file.

A recipe is ``recipe.toml`` plus the classes and locations of its data set. Its expansion is a
manifest like any other, and result rows carry the digest of the expansion.

The rule: the source is the images of the split ``train``. Every location of the split ``test`` is
a candidate for a task. Its days are the D dates that have images; a sequence belongs to the day of
its first image, so that no burst straddles the cut. The adaptation set is the sequences of the
first floor(D/2) days, the test set is the rest. Seen classes are those of the adaptation set.
Missing classes are those of the test set that are in the source and not in the adaptation set.
Test images of other classes are in neither group. A location becomes a task if all of these sets
are large enough. No torch.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.errors import DataError, ManifestError, UsageError, first
from benchmark.files import digest_json, new_folder
from benchmark.folders import data_folder, packaged_manifests
from benchmark.manifest import (
    ALL,
    MAX_IMAGES,
    RECIPE_FILE,
    Manifest,
    published_recipes,
    read_manifest,
)

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
SOURCE_DOMAIN = "train"
IMAGE_FOLDER = "train"  # the archive keeps the images of all splits in this folder
_NOT_A_VALUE = ["", "nan", "nat", "none", "null", "n/a", "na", "<na>"]
_WHOLE = r"^[0-9]{1,9}$"
_FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?$"


@dataclass(frozen=True)
class Rule:
    """The values of the column ``split`` that the rule uses, and the sizes that a task needs."""

    source_train: str
    source_test: str
    target: str
    min_adaptation_images: int
    min_test_images: int
    min_seen_test_images: int
    min_missing_test_images: int  # of at least one missing class


@dataclass(frozen=True)
class Recipe:
    """A recipe that ships with the suite.

    Attributes:
        reference: ``name@version``.
        document: the content of ``recipe.toml``.
        classes: class names in the order of ``y``; ``categories``: their category ids.
        splits: the splits that the images of each location may have.
    """

    reference: str
    document: Mapping[str, Any]
    classes: tuple[str, ...]
    categories: tuple[int, ...]
    splits: Mapping[int, tuple[str, ...]]

    @cached_property
    def rule(self) -> Rule:
        """The numbers of the rule."""
        return Rule(**self.document["rule"])

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the content of the recipe and of the two files beside it."""
        locations = sorted(self.splits.items())
        return digest_json([self.document, self.classes, self.categories, locations])


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


@dataclass(frozen=True)
class Location:
    """One candidate location under the rule.

    Attributes:
        location: its remapped number; ``days``: dates that have images.
        adaptation, test: images of the two sets.
        test_seen, test_missing, excluded: test images of seen, missing and all other classes.
        seen, missing: class names in the order of the manifest.
        left_out: reasons why it is not a task; empty if it is one.
    """

    location: int
    days: int
    adaptation: int
    test: int
    test_seen: int
    test_missing: int
    excluded: int
    seen: tuple[str, ...]
    missing: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its domain and task."""
        return f"loc-{self.location}"


@dataclass(frozen=True, eq=False)
class Expansion:
    """A manifest that has not been written yet.

    Attributes:
        document: content of ``manifest.toml``; ``images``: content of ``images.parquet``.
        locations: every candidate, in order.
        suite: the grid of all its tasks.
    """

    document: dict[str, Any]
    images: pa.Table
    locations: tuple[Location, ...]
    suite: dict[str, Any]

    @property
    def home(self) -> Path:
        """The folder where :func:`benchmark.manifest.load_manifest` looks for it."""
        document = self.document
        return data_folder() / "manifests" / str(document["name"]) / str(document["version"])


def load_recipe(reference: str) -> Recipe:
    """Read a recipe by reference, such as ``iwildcam@1.0``.

    Raises:
        UsageError: there is no such recipe.
    """
    known = published_recipes()
    if reference not in known:
        raise UsageError(f"no recipe {reference!r}; known: {', '.join(known)}")
    root = packaged_manifests().joinpath(*reference.split("@"))
    with (root / "classes.csv").open(encoding="utf-8", newline="") as file:
        classes = list(csv.DictReader(file))
    with (root / "locations.csv").open(encoding="utf-8", newline="") as file:
        splits = {
            int(row["location"]): tuple(row["splits"].split()) for row in csv.DictReader(file)
        }
    return Recipe(
        reference,
        tomllib.loads((root / RECIPE_FILE).read_text("utf-8")),
        tuple(row["class"] for row in classes),
        tuple(int(row["category_id"]) for row in classes),
        splits,
    )


# --- reading metadata.csv --------------------------------------------------------------------


def read_metadata(path: Path, recipe: Recipe, *, allow_unknown: bool = False) -> Metadata:
    """Read and check a metadata file.

    Args:
        path: of the CSV file.
        recipe: whose classes, locations and splits it must have.
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
            f"{path} has MD5 {md5}, not {expected}: it is not the metadata.csv that "
            f"{recipe.reference} was written for; get that file, or add --allow-unknown-metadata "
            "to expand this one as a separate version"
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
        raise DataError(f"{path} is not a file; give the metadata.csv of the data set")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_METADATA_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MAX_METADATA_BYTES:
        raise DataError(
            f"{path} is larger than {MAX_METADATA_BYTES >> 20} MiB; "
            "it is not the metadata.csv of the data set"
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
            "give the metadata.csv of the data set, with its header"
        )
    if repeated := [name for name in COLUMNS if names.count(name) > 1]:
        raise DataError(f"{path} has more than one column named {first(repeated)}")
    if not rows[:10_000].strip():
        raise DataError(f"{path} has a header but no rows; get the complete file")


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
        raise DataError(
            f"{path} is not a CSV file with the same columns in every row: {reason}"
        ) from None
    if table.num_rows > MAX_IMAGES:
        raise DataError(f"{path} has {table.num_rows} rows; at most {MAX_IMAGES} can be expanded")
    return table.combine_chunks()


def _check_cells(table: pa.Table, recipe: Recipe, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    def check(name: str, good: pa.ChunkedArray, what: str) -> None:
        if not pc.all(good).as_py():
            rows = np.flatnonzero(~np.asarray(good.to_numpy()))
            values = dict.fromkeys(table[name].take(rows[:1000]).to_pylist())
            raise DataError(
                f"{path}: column {name} {what} in {len(rows)} of {table.num_rows} rows, the first "
                f"of them row {int(rows[0]) + 1}: {first(values)}"
            )

    def known(name: str, values: Sequence[str]) -> pa.ChunkedArray:
        return pc.is_in(table[name], value_set=pa.array(values, pa.string()))

    for name in COLUMNS:
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(table[name]))
        empty = pc.is_in(lower, value_set=pa.array(_NOT_A_VALUE))
        check(name, pc.invert(empty), "is empty")
    splits = sorted({split for allowed in recipe.splits.values() for split in allowed})
    check("split", known("split", splits), f"is not one of {', '.join(splits)}")
    for name in ("location_remapped", "y", "category_id"):
        check(name, pc.match_substring_regex(table[name], _WHOLE), "is not a whole number")
    for name in ("seq_id", "filename", "image_id"):
        check(name, pc.match_substring_regex(table[name], _FILE_NAME), "is not a file name")
    locations = known("location_remapped", [str(number) for number in recipe.splits])
    check("location_remapped", locations, "is not a location of the data set")
    classes = known("y", [str(y) for y in range(len(recipe.classes))])
    check("y", classes, f"is not a class from 0 to {len(recipe.classes) - 1}")
    _check_pairs(table, recipe, path)
    times = pc.match_substring_regex(table["datetime"], _TIME)
    check("datetime", times, "is not a time such as 2013-06-05 05:44:19.000")
    dates = pc.utf8_slice_codeunits(table["datetime"], 0, 10)
    real = [date for date in dates.unique().to_pylist() if _is_date(date)]
    valid = pc.is_in(dates, value_set=pa.array(real, pa.string()))
    check("datetime", valid, "is not a calendar date")
    for name in ("image_id", "filename"):
        counts = pc.value_counts(table[name])
        if len(counts) < table.num_rows:
            repeated = [entry["values"] for entry in counts.to_pylist() if entry["counts"] > 1]
            raise DataError(f"{path}: column {name} repeats a value: {first(repeated)}")


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _check_pairs(table: pa.Table, recipe: Recipe, path: Path) -> None:
    """Each location has images of its own splits only, and each class has one category."""
    splits = table.group_by(["location_remapped", "split"]).aggregate([]).to_pylist()
    wrong = sorted(
        (int(row["location_remapped"]), row["split"])
        for row in splits
        if row["split"] not in recipe.splits[int(row["location_remapped"])]
    )
    if wrong:
        location, split = wrong[0]
        raise DataError(
            f"{path}: location {location} has images of the split {split!r}, but it belongs to "
            f"{', '.join(recipe.splits[location])} ({len(wrong)} such locations and splits); "
            "this is another version of the data set, get the one that the recipe names"
        )
    classes = table.group_by(["y", "category_id"]).aggregate([]).to_pylist()
    pairs = sorted((int(row["y"]), int(row["category_id"])) for row in classes)
    if bad := [(y, category) for y, category in pairs if recipe.categories[y] != category]:
        y, category = bad[0]
        raise DataError(
            f"{path}: class {y} has category_id {category}, but {recipe.classes[y]!r} has "
            f"{recipe.categories[y]} ({len(bad)} such classes); this is another version of the "
            "data set, get the one that the recipe names"
        )


# --- the rule --------------------------------------------------------------------------------


def expand(recipe: Recipe, metadata: Metadata) -> Expansion:
    """Apply the rule of a recipe to a metadata file.

    Raises:
        ManifestError: no location qualifies as a task, or the source has no images.
    """
    rule = recipe.rule
    is_source = metadata.split == rule.source_train
    if not is_source.any():
        raise ManifestError(f"the metadata has no images of the split {rule.source_train!r}")
    known = np.bincount(metadata.y[is_source], minlength=len(recipe.classes)) > 0
    domain = np.full(len(metadata.y), "", dtype=object)
    split = np.where(metadata.split == rule.source_test, "test", "train").astype(object)
    domain[is_source | (metadata.split == rule.source_test)] = SOURCE_DOMAIN
    rows_of = _rows_of(metadata.location, metadata.split == rule.target)
    candidates = sorted(n for n, splits in recipe.splits.items() if rule.target in splits)
    locations = []
    for number in candidates:
        rows = rows_of.get(number, np.array([], dtype=np.intp))
        days, adaptation = _first_half(metadata, rows)
        location = _location(number, days, adaptation, metadata.y[rows], known, recipe)
        locations.append(location)
        if not location.left_out:
            domain[rows] = location.name
            split[rows] = np.where(adaptation, "train", "test")
    tasks = [location for location in locations if not location.left_out]
    if not tasks:
        reasons = "; ".join(
            f"{location.name}: {', '.join(location.left_out)}" for location in locations[:5]
        )
        raise ManifestError(
            f"none of {len(locations)} locations qualifies as a task ({reasons}; ...)"
        )
    return Expansion(
        _document(recipe, metadata, tasks),
        _images(recipe, metadata, domain, split),
        tuple(locations),
        _suite(recipe, tasks),
    )


def _rows_of(location: NDArray[np.int64], wanted: NDArray[np.bool_]) -> dict[int, NDArray[np.intp]]:
    """Row numbers of every location."""
    rows = np.flatnonzero(wanted)
    rows = rows[np.argsort(location[rows], kind="stable")]
    numbers, starts = np.unique(location[rows], return_index=True)
    return dict(zip(numbers.tolist(), np.split(rows, starts[1:]), strict=True))


def _first_half(metadata: Metadata, rows: NDArray[np.intp]) -> tuple[int, NDArray[np.bool_]]:
    """The number of days of a location, and a mask of its images in the first half of them."""
    if not rows.size:
        return 0, np.zeros(0, dtype=np.bool_)
    days = np.unique(metadata.date[rows])
    _, sequence = np.unique(metadata.seq_id[rows].astype(str), return_inverse=True)
    start = np.full(sequence.max() + 1, metadata.time[rows].max())
    np.minimum.at(start, sequence, metadata.time[rows])
    cut = days[len(days) // 2]  # the first day of the test set
    return len(days), start.astype("datetime64[D]")[sequence] < cut


def _location(
    number: int,
    days: int,
    adaptation: NDArray[np.bool_],
    y: NDArray[np.int64],
    known: NDArray[np.bool_],
    recipe: Recipe,
) -> Location:
    rule, count = recipe.rule, len(recipe.classes)
    test = np.bincount(y[~adaptation], minlength=count)
    seen = np.bincount(y[adaptation], minlength=count) > 0
    missing = (test > 0) & known & ~seen
    largest = int(test[missing].max(initial=0))
    needs = (
        (int(adaptation.sum()), rule.min_adaptation_images, "adaptation images"),
        (int(test.sum()), rule.min_test_images, "test images"),
        (int(test[seen].sum()), rule.min_seen_test_images, "seen test images"),
        (largest, rule.min_missing_test_images, "test images of any missing class"),
    )
    if days < 2:
        left_out: tuple[str, ...] = ("one day" if days else "no images",)
    else:
        left_out = tuple(f"{n} of {least} {what}" for n, least, what in needs if n < least)
    return Location(
        location=number,
        days=days,
        adaptation=int(adaptation.sum()),
        test=int(test.sum()),
        test_seen=int(test[seen].sum()),
        test_missing=int(test[missing].sum()),
        excluded=int(test[~seen & ~missing].sum()),
        seen=tuple(recipe.classes[i] for i in np.flatnonzero(seen)),
        missing=tuple(recipe.classes[i] for i in np.flatnonzero(missing)),
        left_out=left_out,
    )


def _document(recipe: Recipe, metadata: Metadata, tasks: Sequence[Location]) -> dict[str, Any]:
    document = {k: v for k, v in recipe.document.items() if k not in ("kind", "metadata", "suite")}
    if not metadata.published:
        document["version"] += f"+{metadata.digest[:8]}"
    names = [SOURCE_DOMAIN, *(task.name for task in tasks)]
    return document | {
        "expansion": {
            "recipe": recipe.reference,
            "recipe_digest": recipe.digest,
            "metadata_digest": metadata.digest,
            "metadata_is_published": metadata.published,
        },
        "classes": list(recipe.classes),
        "domains": [{"name": name, "folders": [IMAGE_FOLDER]} for name in names],
        "tasks": [
            {
                "id": task.name,
                "sources": [SOURCE_DOMAIN],
                "target": task.name,
                "seen": list(task.seen),
                "missing": list(task.missing),
            }
            for task in tasks
        ],
    }


def _images(
    recipe: Recipe,
    metadata: Metadata,
    domain: NDArray[np.object_],
    split: NDArray[np.object_],
) -> pa.Table:
    import pyarrow as pa

    rows = np.flatnonzero(domain != "")
    classes = np.array(recipe.classes, dtype=object)
    columns = {
        "image_id": metadata.image_id[rows],
        "domain": domain[rows],
        "class": classes[metadata.y[rows]],
        "split": split[rows],
        "path": f"{IMAGE_FOLDER}/" + metadata.filename[rows],
        "group": metadata.seq_id[rows],
        "datetime": metadata.datetime[rows],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _suite(recipe: Recipe, tasks: Sequence[Location]) -> dict[str, Any]:
    return {
        "title": recipe.document["title"],
        "manifest": ".",  # the folder of the suite's file
        "tasks": [task.name for task in tasks],
        **recipe.document["suite"],
        # The list in the recipe of iwildcam@1.0 is part of its pinned digest and cannot change.
        "methods": ALL,
    }


# --- writing ---------------------------------------------------------------------------------


def write_expansion(expansion: Expansion, folder: Path | None = None) -> Manifest:
    """Write an expansion as a manifest that passes every check, or write nothing.

    Args:
        expansion: what to write: ``manifest.toml``, ``images.parquet`` and a suite of all tasks,
            ``<name>.toml``.
        folder: the destination; default :attr:`Expansion.home`. It appears whole and replaces an
            earlier expansion.

    Raises:
        UsageError: the folder holds something else.
        ManifestError: the expansion breaks a rule of manifests.
    """
    import pyarrow.parquet as pq

    folder = expansion.home if folder is None else folder
    suite = f"{expansion.document['name']}.toml"
    _check_free(folder, {"manifest.toml", "images.parquet", suite})
    try:
        with new_folder(folder) as building:
            text = (
                "# Written by `htbench manifest expand "
                f"{expansion.document['expansion']['recipe']}`; its digest covers its values, not "
                "this comment.\n\n"
            )
            (building / "manifest.toml").write_text(text + toml(expansion.document), "utf-8")
            pq.write_table(expansion.images, building / "images.parquet", compression="zstd")
            text = f"# Every task of the expansion: htbench run --suite {suite}\n"
            (building / suite).write_text(text + toml(expansion.suite), "utf-8")
            read_manifest(building)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}") from None
    return read_manifest(folder)


def _check_free(folder: Path, ours: set[str]) -> None:
    """Allow an earlier expansion to be replaced, and nothing else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a new folder with --out")
    if others := sorted({path.name for path in folder.iterdir()} - ours):
        raise UsageError(f"{folder} holds {first(others)}; give a new folder with --out")


def toml(document: Mapping[str, Any]) -> str:
    """TOML of strings, numbers, booleans, lists and tables, with each table under its heading."""
    values, tables = [], []
    for key, value in document.items():
        if isinstance(value, Mapping):
            tables.append(f"\n[{key}]\n{_lines(value)}")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            tables += [f"\n[[{key}]]\n{_lines(entry)}" for entry in value]
        else:
            values.append(f"{key} = {_toml_value(value)}\n")
    return "".join([*values, *tables])


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items())


def _toml_value(value: object) -> str:
    if isinstance(value, str) and "\n" in value:
        return '"""\n' + "\n".join(json.dumps(line)[1:-1] for line in value.split("\n")) + '"""'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        inline = "[" + ", ".join(map(_toml_value, value)) + "]"
        one_a_line = "".join(f"    {_toml_value(item)},\n" for item in value)
        return inline if len(inline) <= 90 else f"[\n{one_a_line}]"
    return json.dumps(value)  # its strings, numbers and booleans are TOML's
