"""`htbench source list`: a damaged source model costs its own row only; pins are listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.sources.spec import SourceSpec, save_source
from tests.htbench.command import Htbench

FACTS = {"test_accuracy": 50.0, "test_images": 10}


@pytest.mark.usefixtures("own_data")
def test_a_damaged_one_is_named_with_the_remedy(htbench: Htbench, icons: Manifest) -> None:
    for domain in ("outline", "solid"):
        save_source(SourceSpec.of(icons, (domain,), "cpu"), b"weights", FACTS)
    folder = SourceSpec.of(icons, ("solid",), "cpu").folder
    (folder / "source.json").write_text("{}")
    status, out, err = htbench("source", "list", "--json")
    assert status == 1
    trained = [entry for entry in json.loads(out) if entry["provenance"] != "pinned"]
    assert [entry["domains"] for entry in trained] == [["outline"]]
    assert f"rm -r {folder}" in err


@pytest.mark.usefixtures("own_data")
def test_an_empty_name_of_a_source_is_not_the_same_as_none(
    htbench: Htbench, tmp_path: Path
) -> None:
    words = ("--suite", "icons", "--source", "", "--seed", 0, "--out", tmp_path / "model")
    status, _, err = htbench("source", "export", *words)
    assert (status, "no task starts from it; sources: outline" in err) == (2, True), err


@pytest.mark.usefixtures("own_data")
def test_pinned_source_models_are_listed_and_shown(htbench: Htbench, icons: Manifest) -> None:
    expected = [
        (list(pin.sources), pin.seed, pin.sha256, pin.test_accuracy) for pin in icons.checkpoints
    ]
    assert len(expected) == 9
    entries = json.loads(htbench("source", "list", "--json")[1])
    assert [
        (e["domains"], e["seed"], e["digest"], e["test_accuracy"])
        for e in entries
        if e["manifest"] == icons.reference
    ] == expected
    models = json.loads(htbench("manifest", "show", "icons@2.0", "--json")[1])["source_models"]
    assert [(m["sources"], m["seed"], m["sha256"], m["test_accuracy"]) for m in models] == expected
    lines = htbench("manifest", "show", "icons@2.0")[1].splitlines()
    for pin in icons.checkpoints:
        (line,) = [line for line in lines if pin.sha256[:12] in line]
        words = ["+".join(pin.sources), str(pin.seed), f"{pin.test_accuracy:.1f}"]
        assert line.split() == [*words, pin.sha256[:12], pin.file]
