"""Images that are packaged inside a manifest's ``images.parquet``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmark.errors import DataError

if TYPE_CHECKING:
    from benchmark.manifest import Manifest

BATCH_ROWS = 512


def embedded_images(manifest: Manifest, domain: str) -> Iterator[tuple[str, bytes]]:
    """The id and the encoded bytes of every image of a domain.

    Raises:
        DataError: the file has no ``image`` column, or bytes whose SHA-256 is not the manifest's.
    """
    import pyarrow.parquet as pq

    path = manifest.root / "images.parquet"
    file = pq.ParquetFile(path)
    if "image" not in file.schema_arrow.names:
        raise DataError(f"{path} has no column image, but the manifest says images = 'embedded'")
    columns = ["image_id", "domain", "sha256", "image"]
    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
        rows = zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
        for image_id, home, expected, image in rows:
            if home != domain:
                continue
            data = image["bytes"]
            if hashlib.sha256(data).hexdigest() != expected:
                raise DataError(f"{path}: the bytes of image {image_id!r} are not the manifest's")
            yield image_id, data
