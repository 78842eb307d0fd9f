"""Fixtures for tests that expand the recipe of iWildCam."""

from __future__ import annotations

import pytest

from benchmark.manifest.recipe import ManifestRecipe, load_recipe
from tests.benchmark.manifest.cameras import REFERENCE, Cameras


@pytest.fixture(scope="session")
def recipe() -> ManifestRecipe:
    """The recipe that ships."""
    return load_recipe(REFERENCE)


@pytest.fixture
def cameras(recipe: ManifestRecipe) -> Cameras:
    """Metadata with one source image of each of the classes 0 to 9, and nothing else."""
    cameras = Cameras(recipe)
    cameras.know(*range(10))
    return cameras
