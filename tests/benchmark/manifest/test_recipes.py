"""Named recipes, source seeds and fixed source models: their rules, and what they give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import ManifestError
from benchmark.files import digest_json
from benchmark.keys import SourceFacts
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import load_suite, manifest_of
from benchmark.method import TrainingRecipe
from benchmark.sources.spec import SourceSpec

SHA = "0" * 64


def pin(**changes: object) -> dict[str, object]:
    """A fixed source model; a change to None removes an entry."""
    entry = {
        "sources": ["outline"],
        "sha256": SHA,
        "test_accuracy": 50.0,
        "file": "checkpoints/outline-0.safetensors",
        **changes,
    }
    return {name: value for name, value in entry.items() if value is not None}


def recipes(**tables: object) -> Callable[[Any], None]:
    return lambda draft: draft.document.update(recipes=tables)


def source(**changes: object) -> Callable[[Any], None]:
    return lambda draft: draft.document["source"].update(changes)


def without(table: str, *keys: str) -> Callable[[Any], None]:
    """Remove entries of a table that it has."""

    def change(draft: Any) -> None:
        for key in keys:
            draft.document[table].pop(key, None)

    return change


class TestRecipe:
    def test_a_named_recipe_replaces_entries(self, draft: Any) -> None:
        recipes(hot={"head_lr": 1.0, "backbone_lr": 1.0}, long={"steps": 16})(draft)
        manifest = draft.read()
        assert manifest.recipe_names == ("default", "hot", "long")
        default = {n: v for n, v in manifest.recipe.items() if n != "chosen"}
        assert manifest.recipe == manifest.document["recipe"]
        hot, long = (manifest.with_recipe(name) for name in ("hot", "long"))
        assert hot.recipe == default | {"head_lr": 1.0, "backbone_lr": 1.0}
        assert long.recipe == default | {"steps": 16}
        assert hot.digest == long.digest == manifest.digest

    @pytest.mark.parametrize("names", [("lr",), ("head_lr", "backbone_lr")])
    def test_a_factor_multiplies_all_rates(self, draft: Any, names: tuple[str, ...]) -> None:
        recipe = draft.document["recipe"]
        for name in ("lr", "head_lr", "backbone_lr"):
            recipe.pop(name, None)
        recipe |= dict.fromkeys(names, 0.5)
        manifest = draft.read()
        halved = TrainingRecipe.from_table(manifest.with_rate(0.5).recipe)
        whole = TrainingRecipe.from_table(manifest.recipe)
        assert (halved.head_lr, halved.backbone_lr) == (0.25, 0.25)
        assert (whole.head_lr, whole.backbone_lr) == (0.5, 0.5)
        assert (halved.steps, halved.weight_decay) == (whole.steps, whole.weight_decay)

    def test_an_unknown_recipe_lists_those_that_exist(self, draft: Any) -> None:
        recipes(hot={"steps": 1})(draft)
        with pytest.raises(ManifestError, match="no recipe 'cold'; it has: default, hot"):
            draft.read().with_recipe("cold")

    def test_a_suite_names_its_recipe(self, draft: Any, tmp_path: Path) -> None:
        recipes(long={"steps": 16})(draft)
        draft.write()
        path = tmp_path / "long.toml"
        text = f'title = "x"\nmanifest = "{draft.root}"\ntasks = ["outline-solid"]\n'
        text += 'methods = ["finetune"]\nseeds = [0]\n'
        path.write_text(text)
        assert manifest_of(load_suite(str(path))).recipe["steps"] == 4
        path.write_text(text + 'recipe = "long"\n')
        assert manifest_of(load_suite(str(path))).recipe["steps"] == 16
        path.write_text(text + 'recipe = "short"\n')
        with pytest.raises(ManifestError, match="no recipe 'short'"):
            manifest_of(load_suite(str(path)))
        path.write_text(text + "recipe = 3\n")
        with pytest.raises(ManifestError, match="recipe is 3; it must be a string"):
            load_suite(str(path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (recipes(Hot={"steps": 1}), "a recipe is named 'Hot'"),
        (recipes(default={"steps": 1}), "a recipe is named 'default'"),
        (recipes(hot={}), "recipes.hot must be a table of the entries"),
        (recipes(hot=3), "recipes.hot must be a table of the entries"),
        (recipes(hot={"rate": 1.0}), "recipes.hot has 'rate', which [recipe] does not have"),
        (recipes(hot={"steps": 1.0}), "recipes.hot.steps is 1.0; it must be of the type"),
        (recipes(hot={"steps": True}), "recipes.hot.steps is True; it must be of the type"),
        (recipes(hot={"chosen": 1}), "recipes.hot.chosen is 1; it must be of the type"),
        (lambda draft: draft.document.update(recipes=[]), "recipes is []; it must be tables"),
        (recipes(bad={"steps": -5}), "recipes.bad.steps is -5; it must be a whole number from 1"),
        (recipes(bad={"head_lr": -0.1}), "recipes.bad.head_lr is -0.1; it must be a number"),
        (source(lr=-1.0), "source.lr is -1.0; it must be a number from 1e-12 to 1000"),
        (without("source", "steps", "nesterov"), "source has no steps, nesterov; add it"),
        (without("recipe", "batch_size"), "recipe has no batch_size; add it"),
        (without("recipe", "head_lr"), "recipe has 'backbone_lr'; give lr, or head_lr and back"),
        (without("source", "lr", "head_lr", "backbone_lr"), "source has no rate; give lr, or"),
        (lambda draft: draft.document["recipe"].update(lr=0.1, head_lr=0.1), "; give lr, or"),
        (source(nesterov="false"), "source.nesterov is 'false'; it must be true or false"),
        (recipes(bad={"momentum": 0.0}), "recipes.bad has nesterov and no momentum"),
        (source(steps=0), "source.steps is 0; it must be a whole number from 1"),
        (source(checkpoints=[pin(sed=0)]), "unknown entry 'sed'; known: file, seed, sha256"),
        (source(seeds=0), "seeds is 0; it must be between 1 and 100"),
        (source(seeds=True), "seeds is True; it must be a number of source models"),
        (source(checkpoints={}), "checkpoints is {}; it must be an array of tables"),
        (source(checkpoints=[1]), "checkpoints must be an array of tables"),
        (source(checkpoints=[pin(sources=["paint"])]), "unknown domain 'paint'"),
        (source(checkpoints=[pin(seed=1)]), "seed is 1; source.seeds is 1"),
        (source(checkpoints=[pin(), pin()]), "outline with seed 0 is listed twice"),
        (source(checkpoints=[pin(sha256="0")]), "sha256 must be 64"),
        (source(checkpoints=[pin(test_accuracy=101.0)]), "test_accuracy must be between"),
        (source(checkpoints=[pin(test_accuracy=None)]), "test_accuracy is missing"),
        (source(checkpoints=[pin(file=None)]), "give either file"),
        (source(checkpoints=[pin(urls=["https://x/y"])]), "give either file"),
        (source(checkpoints=[pin(file=None, urls=["ftp://x"])]), "http or https addresses"),
        (source(checkpoints=[pin(file="../secret")]), "must be a path in the manifest's folder"),
        (source(checkpoints=[pin(file="/etc/passwd")]), "must be a path in the manifest's folder"),
        (source(checkpoints=[pin(file="a\\b")]), "must be a path in the manifest's folder"),
    ],
)
def test_rules(draft: Any, change: Callable[[Any], None], words: str) -> None:
    change(draft)
    with pytest.raises(ManifestError) as caught:
        draft.read()
    assert words in str(caught.value)


class TestSourceSeeds:
    def test_a_run_takes_the_model_of_its_seed_modulo_their_number(self, draft: Any) -> None:
        source(seeds=3)(draft)
        manifest = draft.read()
        specs = [SourceSpec.of(manifest, ("outline",), "cpu", seed) for seed in range(6)]
        assert [spec.seed for spec in specs] == [0, 1, 2, 0, 1, 2]
        assert len({spec.key for spec in specs}) == 3
        assert len({spec.folder for spec in specs}) == 3
        assert len({spec.imported_folder for spec in specs}) == 3
        assert specs[4].name == "mini@0.1 outline seed 1"

    def test_one_model_is_that_of_every_seed(self, mini: Manifest) -> None:
        specs = {SourceSpec.of(mini, ("outline",), "cpu", seed) for seed in range(3)}
        assert {spec.name for spec in specs} == {"mini@0.1 outline"}
        assert len({spec.key for spec in specs}) == 1

    def test_a_key_does_not_depend_on_how_many_models_there_are(self, draft: Any) -> None:
        """Nor on which are fixed, apart from the digest of the manifest."""

        def facts(manifest: Manifest) -> SourceFacts:
            return SourceSpec.of(manifest, ("outline",), "cpu").facts

        one = facts(draft.read()).to_json()
        source(seeds=3, checkpoints=[pin(seed=2)])(draft)
        three = facts(draft.read()).to_json()
        changed = {name for name in one if digest_json(one[name]) != digest_json(three[name])}
        assert changed == {"manifest", "stores"}  # a store is keyed by the manifest
