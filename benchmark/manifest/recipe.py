"""A manifest recipe: the rule that turns a user's metadata file into a manifest."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmark.errors import UsageError
from benchmark.files import digest_json
from benchmark.folders import packaged_manifests
from benchmark.manifest.catalogue import check_not_withdrawn, published_recipes
from benchmark.manifest.manifest import RECIPE_FILE


@dataclass(frozen=True)
class Rule:
    """The values of the column ``split`` that the rule uses, and the sizes that a task needs."""

    source_train: str
    source_test: str
    target: str
    min_adaptation_images: int
    min_test_images: int
    min_seen_test_images: int
    min_missing_test_images: int


@dataclass(frozen=True)
class ManifestRecipe:
    """A recipe that ships with the benchmark.

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


def load_recipe(reference: str) -> ManifestRecipe:
    """Read a recipe by reference, such as ``iwildcam@1.1``.

    Raises:
        UsageError: there is no such recipe.
        ManifestError: it was withdrawn.
    """
    check_not_withdrawn(reference)
    known = published_recipes()
    if reference not in known:
        raise UsageError(f"unknown recipe {reference!r}; known: {', '.join(known)}")
    root = packaged_manifests().joinpath(*reference.split("@"))
    with (root / "classes.csv").open(encoding="utf-8", newline="") as file:
        classes = list(csv.DictReader(file))
    with (root / "locations.csv").open(encoding="utf-8", newline="") as file:
        splits = {
            int(row["location"]): tuple(row["splits"].split()) for row in csv.DictReader(file)
        }
    return ManifestRecipe(
        reference,
        tomllib.loads((root / RECIPE_FILE).read_text("utf-8")),
        tuple(row["class"] for row in classes),
        tuple(int(row["category_id"]) for row in classes),
        splits,
    )
