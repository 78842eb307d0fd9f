"""Read the two files of a manifest, within bounds, and check them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import ManifestError
from benchmark.manifest.groups import check_groups
from benchmark.manifest.image_rules import check_images
from benchmark.manifest.manifest import (
    IMAGES_FILE,
    MANIFEST_FILE,
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    Manifest,
    sorted_by_id,
)
from benchmark.manifest.rules import check_document, check_tasks
from benchmark.parquet import read_texts

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_TOML_BYTES = 4 << 20
MAX_IMAGES = 5_000_000  # far above any benchmark here; bounds the cost of an untrusted file


def read_manifest(root: Path) -> Manifest:
    """Read and check the manifest in a folder.

    Raises:
        ManifestError: a rule is broken; the message names the file and the first offenders.
    """
    document = read_toml(root / MANIFEST_FILE)
    where = str(root / MANIFEST_FILE)
    check_document(document, where)
    table = _read_images(root / IMAGES_FILE)
    manifest = Manifest(root.resolve(), document, table, given=str(root))
    check_images(manifest, str(root / IMAGES_FILE))
    check_tasks(manifest, where)
    check_groups(manifest, str(root / IMAGES_FILE))
    return manifest


def check_manifest(manifest: Manifest, where: str) -> None:
    """Check a manifest that was not read from files.

    Raises:
        ManifestError: a rule is broken; the message begins with ``where``.
    """
    check_document(manifest.document, where)
    check_images(manifest, where)
    check_tasks(manifest, where)
    check_groups(manifest, where)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of bounded size.

    Raises:
        ManifestError: the file is missing, too large or not TOML.
    """
    if not path.is_file():
        raise ManifestError(f"{path} does not exist")
    if path.stat().st_size > MAX_TOML_BYTES:
        raise ManifestError(f"{path} is larger than {MAX_TOML_BYTES} bytes")
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # some editors begin with a BOM
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8, a giant number
        raise ManifestError(f"{path} is not valid TOML: {error}") from None


def _read_images(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ManifestError(
            f"{path} does not exist; a manifest folder contains manifest.toml and images.parquet"
        )
    try:
        with pa.OSFile(str(path)) as source:
            return _read_columns(pq.ParquetFile(source), source, path)
    except ManifestError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestError(f"{path} is not a readable Parquet file: {error}") from None


def _read_columns(file: pq.ParquetFile, source: pa.NativeFile, path: Path) -> pa.Table:
    import pyarrow as pa

    if file.metadata.num_rows > MAX_IMAGES:
        raise ManifestError(f"{path} has more than {MAX_IMAGES} rows")
    schema = file.schema_arrow
    if absent := [c for c in REQUIRED_COLUMNS if c not in schema.names]:
        raise ManifestError(f"{path} is missing the columns {', '.join(absent)}")
    columns = [c for c in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS) if c in schema.names]
    if repeated := [c for c in columns if schema.names.count(c) > 1]:
        raise ManifestError(f"{path} has more than one column named {', '.join(repeated)}")
    table = {}
    for name in columns:
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise ManifestError(f"{path}: column {name} has type {kind}; it must contain strings")
        table[name] = read_texts(file, source, name)
        pa.default_memory_pool().release_unused()  # decoding took several times the column
    return sorted_by_id(pa.table(table))
