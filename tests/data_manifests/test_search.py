"""The recipe search follows its rule, and the manifest contains what it chose."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmark.manifest.catalogue import load_manifest
from data_manifests.builders.icons import search
from data_manifests.builders.icons.search import Candidate, choose


def candidate(width: int = 16, steps: int = 100, rate: float = 0.1, stage: str = "source"):
    return Candidate(stage, "t", ("outline",), width, steps, rate, 0)


def test_the_cheapest_candidate_within_a_point_of_the_best_is_chosen():
    chosen, accuracy, best = choose(
        [
            (candidate(16, 300), 80.0),
            (candidate(16, 600), 87.2),
            (candidate(16, 1200), 87.9),
            (candidate(24, 300), 87.5),
            (candidate(24, 1200), 88.0),
        ]
    )
    assert (chosen.width, chosen.steps) == (16, 600)
    assert (accuracy, best) == (87.2, 88.0)


def test_of_equally_cheap_candidates_the_best_rate_is_chosen():
    results = [(candidate(rate=0.1), 87.5), (candidate(rate=0.2), 87.9), (candidate(rate=0.4), 87)]
    assert choose(results)[0].rate == 0.2


def test_for_adaptation_the_rate_is_chosen_before_the_steps():
    adapt = [
        (candidate(steps=100, rate=0.01, stage="adapt"), 88.5),
        (candidate(steps=100, rate=0.05, stage="adapt"), 80.0),
        (candidate(steps=200, rate=0.05, stage="adapt"), 88.2),
        (candidate(steps=400, rate=0.05, stage="adapt"), 89.0),
    ]
    chosen, *_ = choose(adapt)
    assert (chosen.steps, chosen.rate) == (200, 0.05)


def test_means_are_over_tasks_and_seeds():
    results = [
        (candidate(steps=100), 90.0),
        (candidate(steps=100), 70.0),
        (candidate(steps=200), 85),
    ]
    chosen, accuracy, _ = choose(results)
    assert (chosen.steps, accuracy) == (200, 85)


@pytest.fixture(scope="module")
def recorded() -> list[tuple[Candidate, float]]:
    with (Path(search.__file__).parent / "search.csv").open() as file:
        return [
            (
                Candidate(
                    row["stage"],
                    row["task"],
                    tuple(row["domains"].split("+")),
                    int(row["width"]),
                    int(row["steps"]),
                    float(row["rate"]),
                    int(row["seed"]),
                ),
                float(row["held_out_accuracy"]),
            )
            for row in csv.DictReader(file)
        ]


def test_the_manifest_contains_the_choice_of_the_recorded_search(recorded):
    icons = load_manifest("icons@1.0")
    source, *source_accuracies = choose(r for r in recorded if r[0].stage == "source")
    adapt, *adapt_accuracies = choose(r for r in recorded if r[0].stage == "adapt")
    assert icons.document["source"]["chosen"] == search._source_text(*source_accuracies)
    assert icons.document["recipe"]["chosen"] == search._adapt_text(*adapt_accuracies)
    assert icons.document["model"] == {"name": "convnet", "width": source.width}
    assert icons.document["source"]["steps"] == source.steps
    assert icons.document["source"]["lr"] == source.rate
    assert icons.document["recipe"]["steps"] == adapt.steps
    assert icons.document["recipe"]["head_lr"] == adapt.rate
    assert icons.document["recipe"]["backbone_lr"] == adapt.rate


def test_the_search_tried_every_candidate_once(recorded):
    icons = load_manifest("icons@1.0")
    width = icons.document["model"]["width"]
    expected = [*search.source_candidates(icons), *search.adapt_candidates(icons, width)]
    assert [c for c, _ in recorded] == expected


def test_held_out_images_are_of_seen_classes_and_never_a_whole_class(tmp_path, monkeypatch):
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path))
    icons = load_manifest("icons@1.0")
    for trial in (search.adapt_candidates(icons, 16)[0], search.source_candidates(icons)[0]):
        kept, held_out = search._data(icons, trial, search.HELD_OUT_SHARE)
        assert set(kept.labels.tolist()) == set(held_out.labels.tolist())
        assert 0.1 < len(held_out) / (len(held_out) + len(kept)) < 0.3
    assert set(held_out.labels.tolist()) == set(range(65))
