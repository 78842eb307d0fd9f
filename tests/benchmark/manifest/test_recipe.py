"""The recipe of a manifest that is expanded on the user's machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import ManifestError, UsageError
from benchmark.manifest.catalogue import load_manifest, published_manifests, withdrawn_manifests
from benchmark.manifest.recipe import ManifestRecipe, load_recipe
from benchmark.manifest.suite import load_suite
from benchmark.manifest.toml import to_toml


def test_two_categories_of_one_name_are_two_classes(recipe: ManifestRecipe) -> None:
    assert recipe.classes[153] == "mazama temama 380"
    assert recipe.classes[181] == "mazama temama 571"


@pytest.mark.parametrize("reference", ["icons@2.0", "iwildcam", "../iwildcam@1.1", ""])
def test_an_unknown_reference_lists_the_recipes(reference: str) -> None:
    with pytest.raises(UsageError, match=r"known: iwildcam@1\.1"):
        load_recipe(reference)


class TestWithdrawnRecipe:
    """``iwildcam@1.0``, and what users may have expanded it to."""

    OLD, USE = "iwildcam@1.0", r"was withdrawn, because a task needed .* points; use iwildcam@1\.1$"

    @pytest.fixture
    def expansions(self, draft: Any, own_data: Path) -> list[Path]:
        """Two expansions of it, each with its suite, and one of the version that replaces it."""
        folders = []
        for version in ("1.0", "1.0+1a2b3c4d", "1.1"):
            recipe = f"iwildcam@{version[:3]}"
            withdrawn = withdrawn_manifests().get(recipe)
            draft.document["name"], draft.document["version"] = "iwildcam", version
            draft.document["expansion"] = {"recipe_digest": withdrawn.digest if withdrawn else "x"}
            draft.root = own_data / "manifests" / "iwildcam" / version
            draft.write()
            suite = {"title": "T", "manifest": ".", "tasks": ["a-b"], "methods": ["source"]}
            (draft.root / "iwildcam.toml").write_text(to_toml({**suite, "seeds": [0]}))
            folders.append(draft.root)
        return folders

    def test_asking_for_it_says_why_and_names_the_other(self) -> None:
        for load in (load_recipe, load_manifest):
            with pytest.raises(ManifestError, match=rf"^{self.OLD} {self.USE}"):
                load(self.OLD)

    def test_its_expansions_are_refused_by_name_and_by_folder(self, expansions: list[Path]) -> None:
        for name in (self.OLD, f"{self.OLD}+1a2b3c4d", *expansions[:2]):
            with pytest.raises(ManifestError, match=self.USE):
                load_manifest(name)
        assert load_manifest("iwildcam@1.1").root == expansions[2]

    def test_its_expansions_are_not_listed(self, expansions: list[Path]) -> None:
        listed = [name for name in published_manifests() if name.startswith("iwildcam")]
        assert listed == ["iwildcam@1.1"]
        assert load_suite("iwildcam").manifest == str(expansions[2])
