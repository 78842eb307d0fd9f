"""`htbench source list`: a damaged source model costs its own row only."""

from __future__ import annotations

import json

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
    assert [entry["domains"] for entry in json.loads(out)] == [["outline"]]
    assert f"rm -r {folder}" in err
