"""The pages on manifests, suites and results list exactly the fields that there are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from benchmark.folders import packaged_manifests
from benchmark.manifest.manifest import OPTIONAL_COLUMNS, REQUIRED_COLUMNS
from benchmark.manifest.read import read_toml
from benchmark.manifest.recipe import load_recipe
from benchmark.manifest.suite import Suite
from benchmark.manifest.training import PIN_KEYS, TRAINING
from leaderboard.rows import SCHEMA
from tests.benchmark.manifest.cameras import Cameras, one_task

DOCS = Path(__file__).parents[2] / "docs"
OPTIONAL = {
    "store",
    "tasks.missing",
    "recipe.tf32",
    "source.tf32",
}  # the rules have them, and no published manifest does


def listed(page: str, header: str) -> list[str]:
    """The names in the first column of the tables with a header."""
    names: list[str] = []
    for table in (DOCS / page).read_text("utf-8").split(f"| {header} | value |\n")[1:]:
        for line in table.split("\n\n")[0].splitlines()[1:]:
            names += re.findall(r"`([^`]+)`", line.split("|")[1])
    return names


def paths(value: object, prefix: str = "") -> set[str]:
    """The dotted names of all fields of a document."""
    if isinstance(value, Mapping):
        return {
            name
            for key, item in value.items()
            for name in ({prefix + key} | paths(item, f"{prefix}{key}."))
        }
    if isinstance(value, list):
        return {name for item in value for name in paths(item, prefix)}
    return set()


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The fields of all published manifests, of an expansion, and of the rules."""
    files = packaged_manifests().glob("*/*/manifest.toml")
    names = {name for file in files for name in paths(read_toml(file))}
    cameras = Cameras(load_recipe("iwildcam@1.1"))
    cameras.know(*range(10))
    one_task(cameras)
    names |= paths(cameras.expand(tmp_path_factory.mktemp("expansion")).document)
    names |= {f"{table}.{key}" for table in ("recipe", "source") for key in TRAINING}
    names |= {f"source.checkpoints.{key}" for key in PIN_KEYS}
    return {name for name in names if not name.startswith("recipes.")} | OPTIONAL


def test_every_field_of_a_manifest_is_listed_and_no_other(known: set[str]) -> None:
    names = listed("manifests.md", "field")
    assert len(names) == len(set(names))
    assert set(names) == known


def test_every_column_of_the_images_is_listed() -> None:
    assert listed("manifests.md", "column") == [*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS]


def test_every_key_of_a_suite_is_listed() -> None:
    of_file = {field.name for field in fields(Suite)} - {"name", "given"}
    assert set(listed("suites.md", "key")) == of_file


def test_every_column_of_the_results_is_listed() -> None:
    names = listed("workspace.md", "column")
    assert len(names) == len(set(names))
    assert set(names) == set(SCHEMA.names)
