"""Build the data files of the recipe iwildcam@1.0 from public facts: classes and locations."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click

from benchmark.errors import DataError
from data_manifests.building import publish, read_fact

HERE = Path(__file__).parent
NAME, VERSION = "iwildcam", "1.0"
RECIPE = "recipe.toml"
NO_CLASS = 99999  # y of the categories that have no image in the data set
FACTS = {
    "facts.json": "2c0b70324928850cfa0c2b27375db987455c202163a92233026cebd6b7fca6bb",
    "labels.csv": "3aa81be6bfded6764247edd7f491b04a25b85c34321b748ff170809e6b97d3e1",
    "location_splits.csv": "d8a4fc35c8b0d9fe9611f426b7df182986193dc80c89be7b91421aaae6a4c00d",
}


def build(facts: Path) -> dict[str, bytes]:
    """``classes.csv`` and ``locations.csv``; the recipe beside them must agree with the facts.

    Raises:
        DataError: a file of the facts cannot be read or is not the one that was published, or
            the recipe says something else.
    """
    texts = {name: read_fact(facts, name, sha256) for name, sha256 in FACTS.items()}
    recipe = tomllib.loads((HERE / VERSION / RECIPE).read_text("utf-8"))
    check_recipe(recipe, json.loads(texts["facts.json"]))
    return {
        "classes.csv": classes_csv(texts["labels.csv"]).encode(),
        "locations.csv": locations_csv(texts["location_splits.csv"]).encode(),
    }


def classes_csv(labels: str) -> str:
    """The classes in the order of ``y``, which is the order of all logits.

    Two classes share a species name: their category id is appended, as in ``mazama temama 380``.

    Raises:
        DataError: the values of ``y`` are not 0, 1, 2, ...
    """
    found = [row for row in csv.DictReader(io.StringIO(labels)) if int(row["y"]) < NO_CLASS]
    found.sort(key=lambda row: int(row["y"]))
    if [int(row["y"]) for row in found] != list(range(len(found))):
        raise DataError("the classes of labels.csv are not numbered 0, 1, 2, ...")
    times = Counter(row["name"] for row in found)
    rows = []
    for row in found:
        unique = row["name"] if times[row["name"]] == 1 else f"{row['name']} {row['category_id']}"
        rows.append([row["y"], row["category_id"], unique, row["english"]])
    return _csv(["y", "category_id", "class", "english"], rows)


def locations_csv(splits: str) -> str:
    """The remapped locations in order, each with the splits of WILDS that its images may have."""
    found = sorted(
        csv.DictReader(io.StringIO(splits)), key=lambda row: int(row["location_remapped"])
    )
    return _csv(
        ["location", "splits"],
        [[row["location_remapped"], row["wilds_splits"].replace(";", " ")] for row in found],
    )


def check_recipe(recipe: Mapping[str, dict[str, object]], facts: Mapping[str, object]) -> None:
    """The hand-written recipe must not contradict the facts.

    Raises:
        DataError: it does.
    """
    mirrors = recipe["mirrors"]
    said: list[object] = [recipe["metadata"]["md5"], recipe["metadata"]["rows"]]
    said += [mirrors[0]["address"], mirrors[1]["bytes"], mirrors[1]["sha256"]]  # type: ignore[index]
    names = ("metadata_csv_md5", "n_images", "download_url", "archive_bytes_mirror",
             "archive_sha256")  # fmt: skip
    if wrong := [name for name, value in zip(names, said, strict=True) if facts[name] != value]:
        raise DataError(f"{RECIPE} does not agree with facts.json on {', '.join(wrong)}")


def _csv(header: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


@click.command()
@click.option(
    "--facts",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder with {', '.join(FACTS)}.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE / VERSION,
    help=f"Folder for the files.  [default: {VERSION} beside this program]",
)
@click.option("--force", is_flag=True, help="Overwrite files that differ.")
def main(facts: Path, out: Path, force: bool) -> None:
    """Build classes.csv and locations.csv of iwildcam.

    \b
    Check that a rebuild gives the published files:
      python data_manifests/iwildcam/build.py --facts facts/iwildcam
    """
    publish(lambda: build(facts), out, force=force)


if __name__ == "__main__":
    main()
