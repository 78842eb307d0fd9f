"""Images embedded in a manifest's ``images.parquet``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import DataError
from benchmark.manifest.manifest import IMAGES_FILE

if TYPE_CHECKING:
    import pyarrow as pa

    from benchmark.manifest.manifest import Manifest


BATCH_ROWS = 512


def embedded_images(manifest: Manifest, domain: str) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the encoded bytes of every image of a domain.

    Raises:
        DataError: the file cannot be read or has no column ``image`` with bytes, or the SHA-256 of
            an image does not match.
    """
    path = manifest.root / IMAGES_FILE
    for image_id, image_domain, expected, image in _rows(path):
        if image_domain != domain:
            continue
        data = (image and image["bytes"]) or b""
        if hashlib.sha256(data).hexdigest() != expected:
            raise DataError(
                f"{path}: image {image_id!r} does not match its SHA-256; the file is corrupted or "
                "was modified"
            )
        yield image_id, data


def _rows(path: Path) -> Iterator[tuple[Any, ...]]:
    """Yield id, domain, SHA-256 and image of every row, with a few hundred in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["image_id", "domain", "sha256", "image"]
    try:
        file = pq.ParquetFile(path)
        if not _holds_images(file.schema_arrow):
            raise DataError(
                f'{path} has no column "image" with the encoded images, '
                "but the manifest says images = 'embedded'"
            )
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _holds_images(schema: pa.Schema) -> bool:
    """Whether there is a column ``image`` of structs with ``bytes``, as Hugging Face writes."""
    import pyarrow as pa

    if "image" not in schema.names:
        return False
    kind = schema.field("image").type
    return pa.types.is_struct(kind) and any(
        field.name == "bytes" and pa.types.is_binary(field.type) for field in kind
    )
