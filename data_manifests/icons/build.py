"""Rebuild the version 1.0 of the icons from the public npm package, or its manifest.toml alone."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.errors import DataError, HTBenchError, UsageError, first
from data_manifests.building import IMAGES, MANIFEST, UserMistake, report, write_files
from data_manifests.icons import package, selection
from data_manifests.icons.drawing import png_bytes
from data_manifests.icons.manifest_text import VERSION, manifest_text, read_recipe

HERE = Path(__file__).parent
VERSION_FOLDER = HERE / VERSION
RECIPE = HERE / "recipe.toml"
ATTRIBUTION = "ATTRIBUTION.csv"

TEXT_COLUMNS = ("image_id", "domain", "class", "split", "path", "sha256", "group")
# The other text columns are unique in every row.
REPEATED_COLUMNS = ["domain", "class", "split", "group"]
# What the library `datasets` reads to decode the column `image` by itself.
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


def image_table(icons: Iterable[selection.Icon]) -> pa.Table:
    """Return the rows of images.parquet, in the given order."""
    return pa.Table.from_pylist([_row(icon) for icon in icons], schema=SCHEMA)


def _row(icon: selection.Icon) -> dict[str, object]:
    # Outline and solid icons are black on white: one channel holds all of them.
    content = png_bytes(icon.pixels, grey=icon.domain != "color")
    path = f"{icon.image_id}.png"
    return {
        "image_id": icon.image_id,
        "domain": icon.domain,
        "class": icon.class_name,
        "split": selection.split_of(icon.icon_set),
        "path": path,
        "sha256": hashlib.sha256(content).hexdigest(),
        "group": icon.icon_set,
        "image": {"bytes": content, "path": path},
    }


def parquet_bytes(table: pa.Table) -> bytes:
    """Write a table as Parquet; the bytes depend on the table and pyarrow's version only."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=REPEATED_COLUMNS)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def attribution_bytes(groups: Iterable[str], collections: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Write ATTRIBUTION.csv: title, licence and author of every icon set among ``groups``."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(ATTRIBUTION_HEADER)
    for name, images in sorted(Counter(groups).items()):
        facts = collections[name]
        licence, author = facts["license"], facts["author"]
        writer.writerow(
            [
                name,
                facts["name"],
                images,
                licence["spdx"],
                licence.get("url", ""),
                author.get("name", ""),
                author.get("url", ""),
                facts.get("version", ""),
            ]
        )
    return text.getvalue().encode()


def manifest_bytes(classes: Iterable[str], recipe: Path = RECIPE) -> bytes:
    """Write manifest.toml for the classes of the images, whose order is alphabetical."""
    return manifest_text(sorted(set(classes)), read_recipe(recipe)).encode()


def build_all(path: Path) -> dict[str, bytes]:
    """Build the three files of the version from the npm package at ``path``."""
    _require("resvg_py", "scipy")
    manifest_bytes([])  # a recipe that cannot be read is better known before the long work
    with package.open_package(path) as icons:
        names = selection.usable_sets(icons.collections)
        with click.progressbar(names, label="Drawing icon sets", file=sys.stderr) as progress:
            groups = selection.distinct(selection.candidates(icons, progress))
        table = image_table(selection.choose_icons(groups))
        attribution = attribution_bytes(table["group"].to_pylist(), icons.collections)
    return {
        IMAGES: parquet_bytes(table),
        ATTRIBUTION: attribution,
        MANIFEST: manifest_bytes(table["class"].to_pylist()),
    }


def build_manifest(folder: Path) -> dict[str, bytes]:
    """Build manifest.toml alone, from recipe.toml and the images that ``folder`` already has."""
    try:
        classes = pq.read_table(folder / IMAGES, columns=["class"])["class"].to_pylist()
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot read the classes from '{folder / IMAGES}': {error}") from error
    return {MANIFEST: manifest_bytes(classes)}


def _require(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UsageError(
            f"rebuilding the icons needs {first(missing)}: "
            "pip install 'holistic-transfer-bench[icons-build]'"
        )


@click.command()
@click.option(
    "--package",
    "package_path",
    type=click.Path(path_type=Path),
    help=f"The tarball that 'npm pack {package.NAME}' fetches.",
)
@click.option("--manifest-only", is_flag=True, help="Rewrite manifest.toml from recipe.toml.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=VERSION_FOLDER,
    help=f"Folder for the files.  [default: {VERSION} beside this program]",
)
@click.option("--force", is_flag=True, help="Overwrite files that differ.")
def main(package_path: Path | None, manifest_only: bool, out: Path, force: bool) -> None:
    """Rebuild images.parquet, ATTRIBUTION.csv and manifest.toml of the icons, in about a minute.

    \b
    Check that a rebuild gives the published files:
      python -m data_manifests.icons.build --package iconify-json-2.2.535.tgz --out rebuilt
    Bring the manifest up to date with recipe.toml, before it is published:
      python -m data_manifests.icons.build --manifest-only --force
    """
    try:
        if (package_path is None) != manifest_only:
            raise UsageError("give either --package TARBALL or --manifest-only")
        files = build_manifest(out) if package_path is None else build_all(package_path)
        write_files(out, files, force=force)
    except HTBenchError as error:
        raise UserMistake(str(error)) from error
    for line in report(out, files):
        click.echo(line)


if __name__ == "__main__":
    main()
