"""Builder of icons@2.0: all files from the public npm package, or manifest.toml alone."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmark.errors import DataError, UsageError, first
from benchmark.manifest.manifest import IMAGES_FILE, MANIFEST_FILE
from data_manifests.builders.icons import package, selection
from data_manifests.builders.icons.drawing import png_bytes
from data_manifests.builders.icons.manifest_text import manifest_text, read_training
from data_manifests.builders.icons.split import Split, report, split_icons
from data_manifests.builders.icons.twins import find_twins
from data_manifests.builders.parts import ATTRIBUTION

TRAINING = Path(__file__).with_name("training.toml")

TEXT_COLUMNS = ("image_id", "domain", "class", "split", "path", "sha256", "group")
# Dictionary encoding; the values of the other text columns are unique.
REPEATED_COLUMNS = ["domain", "class", "split", "group"]
# Metadata with which the library `datasets` decodes the column `image`.
FEATURES: dict[str, dict[str, str]] = {
    **{name: {"dtype": "string", "_type": "Value"} for name in TEXT_COLUMNS},
    "image": {"_type": "Image"},
}
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in TEXT_COLUMNS),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)
ATTRIBUTION_HEADER = (
    "icon_set",
    "title",
    "images",
    "license_spdx",
    "license_url",
    "author",
    "author_url",
    "set_version",
)


def image_table(icons: Sequence[selection.Icon], split: Split) -> pa.Table:
    """Return the table of images.parquet, one row per icon in the given order."""
    rows = zip(icons, split.splits, split.groups, strict=True)
    return pa.Table.from_pylist([_row(*row) for row in rows], schema=SCHEMA)


def _row(icon: selection.Icon, split: str, group: str) -> dict[str, object]:
    # Outline and solid icons are black on white, so one channel is enough.
    content = png_bytes(icon.pixels, grey=icon.domain != "color")
    path = f"{icon.image_id}.png"
    return {
        "image_id": icon.image_id,
        "domain": icon.domain,
        "class": icon.class_name,
        "split": split,
        "path": path,
        "sha256": hashlib.sha256(content).hexdigest(),
        "group": group,
        "image": {"bytes": content, "path": path},
    }


def parquet_bytes(table: pa.Table) -> bytes:
    """Encode a table as Parquet; the bytes depend only on the table and pyarrow's version."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=REPEATED_COLUMNS)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def attribution_bytes(
    icon_sets: Iterable[str], collections: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """Encode ATTRIBUTION.csv: title, licence and author of each icon set.

    Args:
        icon_sets: the icon set of every image.
        collections: metadata of all icon sets by name, from the package.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(ATTRIBUTION_HEADER)
    for name, images in sorted(Counter(icon_sets).items()):
        metadata = collections[name]
        licence, author = metadata["license"], metadata["author"]
        writer.writerow(
            [
                name,
                metadata["name"],
                images,
                licence["spdx"],
                licence.get("url", ""),
                author.get("name", ""),
                author.get("url", ""),
                metadata.get("version", ""),
            ]
        )
    return text.getvalue().encode()


def manifest_bytes(classes: Iterable[str]) -> bytes:
    """Encode manifest.toml for the class of every image; classes are sorted alphabetically."""
    return manifest_text(sorted(set(classes)), read_training(TRAINING)).encode()


def build_all(path: Path) -> dict[str, bytes]:
    """Build all files of the version from the npm package, apart from the source checkpoints.

    Args:
        path: the package's tarball.

    Returns:
        Content by file name.

    Raises:
        DataError: the package or training.toml cannot be used.
        UsageError: a required module is not installed.
    """
    _require("resvg_py", "scipy")
    manifest_bytes([])  # report an invalid training.toml before the long work
    with package.open_package(path) as opened:
        names = selection.usable_sets(opened.collections)
        with click.progressbar(names, label="Drawing icon sets", file=sys.stderr) as progress:
            groups = selection.distinct(selection.candidates(opened, progress))
        icons = selection.choose_icons(groups)
        attribution = attribution_bytes((icon.icon_set for icon in icons), opened.collections)
    twins = find_twins(icons)
    split = split_icons(icons, twins)
    for line in report(icons, twins, split):
        click.echo(line, err=True)
    return {
        IMAGES_FILE: parquet_bytes(image_table(icons, split)),
        ATTRIBUTION: attribution,
        MANIFEST_FILE: manifest_bytes(icon.class_name for icon in icons),
    }


def read_icons(path: Path) -> list[selection.Icon]:
    """Read the icons of a published images.parquet, in its order.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        rows = pq.read_table(path, columns=["image_id", "class", "domain", "image"]).to_pylist()
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot read the icons from '{path}': {error}") from error
    icons = []
    for row in rows:
        icon_set, name = row["image_id"].split("/")
        pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))
        icons.append(selection.Icon(icon_set, name, row["class"], row["domain"], pixels))
    return icons


def build_manifest(folder: Path) -> dict[str, bytes]:
    """Build manifest.toml alone, from training.toml and the images already in ``folder``.

    Raises:
        DataError: the images or training.toml cannot be read.
    """
    try:
        classes = pq.read_table(folder / IMAGES_FILE, columns=["class"])["class"].to_pylist()
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(
            f"cannot read the classes from '{folder / IMAGES_FILE}': {error}"
        ) from error
    return {MANIFEST_FILE: manifest_bytes(classes)}


def _require(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UsageError(
            f"rebuilding the icons needs {first(missing)}, which is not installed; run "
            "pip install -e '.[icons-build]' in the repository"
        )
