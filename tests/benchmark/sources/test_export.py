"""Source models are chosen by name and number; a message says which of the two is missing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmark.errors import UsageError
from benchmark.manifest.catalogue import load_manifest
from benchmark.sources.export import choose_specs, manifest_and_sources, only_spec


@pytest.mark.parametrize(
    ("names", "seeds", "words"),
    [
        ([], [], "--source and --seed (below 3): outline, solid, outline+solid"),
        ([], [0], "--source: outline, solid, outline+solid"),
        (["outline"], [], "--seed (below 3): outline"),
    ],
)
def test_what_is_missing_to_name_one(
    names: Sequence[str], seeds: Sequence[int], words: str
) -> None:
    manifest, of_tasks = manifest_and_sources("icons", None)
    with pytest.raises(UsageError) as caught:
        only_spec(choose_specs(manifest, of_tasks, names, "cpu", seeds))
    assert str(caught.value) == f"name one source model with {words}"


def test_a_number_that_there_is_not() -> None:
    manifest = load_manifest("office-home@1.0")
    with pytest.raises(UsageError, match="has 1 source model for each source, numb"):
        choose_specs(manifest, [], [], "cpu", [1])
