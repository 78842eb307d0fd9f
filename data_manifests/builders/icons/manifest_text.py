"""The text of `manifest.toml`: facts about the data set, recipes, tasks and seen classes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.errors import DataError
from benchmark.manifest.toml import to_toml
from data_manifests.builders import VERSION
from data_manifests.builders.icons.drawing import IMAGE_SIZE
from data_manifests.builders.icons.selection import DOMAINS
from data_manifests.builders.parts import draw_classes

NAME = "icons"
N_SEEN = 32
TASKS = (
    ("outline-solid", ["outline"], "solid"),
    ("solid-outline", ["solid"], "outline"),
    ("outline+solid-color", ["outline", "solid"], "color"),
)
TRAINING_TABLES = ("model", "transforms", "source", "recipe")

TITLE = "Icons in three drawing styles"
DESCRIPTION = """
Small icons of 65 everyday objects, drawn as outlines, as solid shapes or in colours by the
authors of 158 open icon sets. No icon set has both training and test images."""
HOMEPAGE = "https://icon-sets.iconify.design/"
TERMS = """
Every icon keeps the licence of its icon set: MIT, Apache-2.0, CC-BY-4.0, ISC, BSD-3-Clause or
Unlicense. ATTRIBUTION.csv beside this file names each set with its author and licence; pass it on
with the images. The icons were rendered on white, reduced to 32 x 32 pixels, and those of the
domains outline and solid turned to grey."""
CITATION = """
@misc{holistic-transfer-bench-icons,
  title  = {Icons: 65 objects in three drawing styles, version 1.0},
  author = {{The Holistic Transfer Bench developers}},
  year   = {2026},
}"""

# These comments are part of a published file, so they keep the names that the builder had then.
ABOUT_FILE = """\
# The manifest of icons@1.0. Its rows (which image is in which domain, class and split, and the
# images themselves) are in images.parquet beside it.
#
# Written by data_manifests/icons/build.py: edit that, or recipe.toml, and not this file. A
# published version never changes; a correction is a new version.
#
# The seen classes are one draw that all tasks share. Sort the class names by the hexadecimal
# SHA-256 of the UTF-8 string "icons/1.0/seen/<class>", take the first 32, list them in class order.
# They are written down by name in every task, so nothing recomputes the draw when it is used.
"""
ABOUT_IMAGES = """\
# Nothing is downloaded: images.parquet holds the PNG files, in the column `image`.
"""
ABOUT_CLASSES = """\
# The order of the classes is the order of a model's outputs.
"""
ABOUT_DOMAINS = """\
# A domain is a drawing style; `folders` are the names that copies on disk use for it.
"""
ABOUT_RECIPES = """\
# The model, the transforms, and how the source model and then the adapted model are trained.
"""
ABOUT_TASKS = """\
# Adapt from the source domains to the target with training images of the seen classes only.
"""


def seen_classes(classes: Sequence[str]) -> list[str]:
    """Draw the N_SEEN seen classes by the rule in ABOUT_FILE, in the order of ``classes``."""
    return draw_classes(f"{NAME}/{VERSION}/seen", classes, N_SEEN)


def read_training(path: Path) -> dict[str, Mapping[str, object]]:
    """Read training.toml, which the recipe search writes.

    Returns:
        The tables TRAINING_TABLES, in that order.

    Raises:
        DataError: the file cannot be read, or does not contain exactly these tables.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"cannot read '{path}': {error}") from error
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    if set(content) != set(TRAINING_TABLES) or set(tables) != set(content):
        raise DataError(
            f"'{path}' must contain exactly the tables {', '.join(TRAINING_TABLES)}, "
            f"but contains {', '.join(content) or 'nothing'}"
        )
    return {name: tables[name] for name in TRAINING_TABLES}


def manifest_text(classes: Sequence[str], training: Mapping[str, Mapping[str, object]]) -> str:
    """Return the full text of `manifest.toml`."""
    seen = seen_classes(classes)
    domains = [{"name": domain, "folders": [domain]} for domain in DOMAINS]
    tasks = [
        {"id": task_id, "sources": sources, "target": target, "seen": seen}
        for task_id, sources, target in TASKS
    ]
    blocks = [
        ABOUT_FILE,
        to_toml(_identity()) + ABOUT_IMAGES + to_toml({"images": "embedded"}),
        ABOUT_CLASSES + to_toml({"classes": list(classes)}),
        ABOUT_DOMAINS + to_toml({"domains": domains}),
        ABOUT_RECIPES + to_toml(training),
        ABOUT_TASKS + to_toml({"tasks": tasks}),
    ]
    return "\n".join(blocks)


def _identity() -> dict[str, object]:
    return {
        "format": 1,
        "name": NAME,
        "version": VERSION,
        "title": TITLE,
        "description": DESCRIPTION.strip(),
        "homepage": HOMEPAGE,
        "terms": TERMS.strip(),
        "citation": CITATION.strip(),
        "image_size": IMAGE_SIZE,
    }
