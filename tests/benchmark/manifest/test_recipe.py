"""The recipe of a manifest that is expanded on the user's machine."""

from __future__ import annotations

import pytest

from benchmark.errors import UsageError
from benchmark.manifest.recipe import ManifestRecipe, load_recipe


def test_two_categories_of_one_name_are_two_classes(recipe: ManifestRecipe) -> None:
    assert recipe.classes[153] == "mazama temama 380"
    assert recipe.classes[181] == "mazama temama 571"


@pytest.mark.parametrize("reference", ["icons@2.0", "iwildcam", "../iwildcam@1.0", ""])
def test_an_unknown_reference_lists_the_recipes(reference: str) -> None:
    with pytest.raises(UsageError, match=r"known: iwildcam@1\.0"):
        load_recipe(reference)
