"""The rules of a manifest's ``images.parquet``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import ManifestError, first
from benchmark.manifest.manifest import REQUIRED_COLUMNS, Manifest, is_ascending
from benchmark.manifest.reader import CONTROL, NOT_CANONICAL_PATH, repeated
from benchmark.patterns import SHA256

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


def check_images(manifest: Manifest, where: str) -> None:
    """Check ``images.parquet``: ids, classes, domains, splits, paths and checksums.

    Raises:
        ManifestError: a rule is broken; the message begins with ``where``.
    """
    table, codes = manifest.table, manifest.codes
    if table.num_rows == 0:
        raise ManifestError(f"{where}: the table has no rows; a manifest needs at least one image")
    for name in table.column_names:
        _check_strings(table[name], name, where)
    if twice := _repeated_values(table["image_id"]):
        raise ManifestError(f"{where}: image_id is not unique: {first(twice)}")
    for name, what in (("class", "classes"), ("domain", "domains"), ("split", "splits")):
        if (bad := np.flatnonzero(codes[name] < 0)).size:
            values = sorted({table[name][int(i)].as_py() for i in bad})
            example = manifest.ids[int(bad[0])]
            raise ManifestError(
                f"{where}: unknown {name} {first(values)} (for example, in image {example!r}); "
                f"use one of the {what} listed in the manifest"
            )
    _check_one_split(manifest, "path", np.zeros_like(codes["domain"]), where)
    _check_paths(table["path"], where)
    sums = table["sha256"] if "sha256" in table.column_names else None
    if manifest.document["images"] == "embedded" and (sums is None or sums.null_count):
        # The digest of a manifest covers embedded pixels through this column only.
        raise ManifestError(f"{where}: every embedded image needs a sha256")
    if sums is not None:
        _check_sums(sums, where)
        _check_one_split(manifest, "sha256", codes["domain"], where)


def _check_strings(column: pa.ChunkedArray, name: str, where: str) -> None:
    import pyarrow.compute as pc

    if name in REQUIRED_COLUMNS and column.null_count:
        raise ManifestError(f"{where}: column {name} has {column.null_count} null values")
    broken = pc.match_substring_regex(column, r"[\x00-\x1f\x7f\x{80}-\x{9f}]|^$")
    if pc.any(broken).as_py():
        bad = column.filter(pc.fill_null(broken, False)).to_pylist()
        raise ManifestError(
            f"{where}: column {name} contains empty strings or control characters: {first(bad)}"
        )


def _check_sums(sums: pa.ChunkedArray, where: str) -> None:
    import pyarrow.compute as pc

    bad = sums.filter(pc.invert(pc.match_substring_regex(sums, f"^{SHA256.pattern}$")))
    if len(bad):
        raise ManifestError(
            f"{where}: sha256 must be 64 lower-case hexadecimal digits: {first(bad.to_pylist())}"
        )


def _check_paths(paths: pa.ChunkedArray, where: str) -> None:
    """A path must stay below the data set's root on every system."""
    import pyarrow.compute as pc

    bad = paths.filter(pc.match_substring_regex(paths, NOT_CANONICAL_PATH))
    if len(bad):
        raise ManifestError(
            f"{where}: paths must be relative, use forward slashes and stay inside the data set's "
            f"root: {first(bad.to_pylist())}"
        )
    if twice := _repeated_values(paths):
        raise ManifestError(f"{where}: two images have the same path: {first(twice)}")


def is_portable(path: str) -> bool:
    """Whether a path can be in a manifest: it stays below the root, and is text on every system."""
    if re.search(NOT_CANONICAL_PATH, path) or CONTROL.search(path):
        return False
    return path.isascii() or not re.search("[\ud800-\udfff]", path)  # bytes that are not UTF-8


def _repeated_values(column: pa.ChunkedArray) -> list[str]:
    """The values that occur more than once in a column; fast if there are none."""
    if is_ascending(column) or len(column.unique()) == len(column):
        return []
    return repeated(column.to_pylist())


def _check_one_split(manifest: Manifest, column: str, scope: NDArray[np.int64], where: str) -> None:
    """Within a scope, no path or checksum may be both in train and in test."""
    values = manifest.table[column]
    if not _repeated_values(values.drop_null()):
        return
    split = manifest.codes["split"]
    home: dict[tuple[int, str], int] = {}
    for row, value in enumerate(values.to_pylist()):
        if value is None:
            continue
        other = home.setdefault((int(scope[row]), value), row)
        if split[other] != split[row]:
            raise ManifestError(
                f"{where}: images {manifest.ids[other]!r} and {manifest.ids[row]!r} have the same "
                f"{column} {value!r} but are in different splits; keep the image in only one split"
            )
