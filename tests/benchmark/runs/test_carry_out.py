"""What a run starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.jobs import setup_of
from benchmark.manifest.manifest import Manifest
from benchmark.runs import carry_out
from benchmark.runs.workspace import Workspace


def test_features_are_the_same_for_all_recipes(
    icons: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have one key: those of a recipe with TF32 would be taken by the runs of another."""
    document = {**icons.document, "recipes": {"fast": {"tf32": True}}}
    manifest = replace(icons, document=document)
    recipes = []

    def extract(server: Any, source: Any, manifest: Manifest, *_: Any) -> None:
        recipes.append(setup_of(manifest, "cuda").recipe)

    monkeypatch.setattr(carry_out, "extract_features", extract)
    with Workspace(tmp_path) as workspace:
        for one in (manifest, manifest.with_recipe("fast")):
            run = SimpleNamespace(
                manifest=one, device="cuda", method=SimpleNamespace(uses_features=True)
            )
            spec: Any = SimpleNamespace(planned=run, base=None, source=None)
            carry_out._inputs(None, spec, None, workspace)  # type: ignore[arg-type]
    assert recipes == [manifest.recipe, manifest.recipe]
