"""The recipe search follows its rule, and the manifest contains what it chose."""

from __future__ import annotations

import csv
import tomllib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.manifest.catalogue import load_manifest
from data_manifests.builders import one_standard_error as rule
from data_manifests.builders.icons import build, search, trials
from data_manifests.builders.icons.trials import Candidate

FOLDER = Path(search.__file__).parent
N_IMAGES = 400


def outcomes(accuracies: dict[tuple[float, int], float], groups: int = N_IMAGES) -> tuple:
    """Trials on one task: of N_IMAGES images some are right, as many as the accuracy says.

    They begin one image later for every hundred steps, so that candidates disagree on some images.
    """
    images = np.arange(N_IMAGES)
    results = {
        Candidate("t", steps, rate, 0): (images - steps // 100) % N_IMAGES
        < accuracy * N_IMAGES / 100
        for (rate, steps), accuracy in accuracies.items()
    }
    return results, {"t": [f"group {i % groups}" for i in range(N_IMAGES)]}


class TestRule:
    def test_the_smallest_rate_then_the_fewest_steps_within_one_standard_error(self) -> None:
        choice = search.choose(
            *outcomes(
                {
                    (0.1, 200): 90.0,
                    (0.01, 200): 89.75,
                    (0.01, 100): 89.75,
                    (0.001, 200): 85.0,
                    (0.001, 800): 95.0,
                }
            )
        )
        assert (choice.rate, choice.steps) == (0.01, 100)
        assert (choice.score, choice.best_score) == pytest.approx((89.75, 90.0))
        assert choice.near == ((0.01, 100), (0.01, 200), (0.1, 200))
        # More steps than the suite can afford are recorded and never chosen.
        assert choice.longest == (pytest.approx(95.0), (0.001, 800))

    def test_version_1_took_the_rate_of_the_best_and_the_fewest_steps_within_a_point(self) -> None:
        choice = search.choose(
            *outcomes({(0.1, 400): 90.0, (0.1, 200): 89.0, (0.1, 100): 88.0, (0.01, 200): 89.75})
        )
        assert choice.version_1 == (0.1, 200)

    def test_scores_are_means_over_tasks_and_seeds(self) -> None:
        results = {
            Candidate(task, 100, 0.1, seed): np.array(right, bool)
            for task, seed, right in [
                ("a", 0, [1, 1]),
                ("a", 1, [1, 0]),
                ("b", 0, [0, 0, 0, 1]),
                ("b", 1, [0, 0, 0, 1]),
            ]
        }
        choice = search.choose(results, {"a": ["g", "h"], "b": ["g", "g", "h", "h"]})
        assert choice.score == pytest.approx(50.0)
        assert choice.error == 0


@pytest.fixture(scope="module")
def recorded() -> dict[Candidate, np.ndarray]:
    return dict(search.read_trials(FOLDER / "search.csv"))


class TestRecord:
    def test_it_has_every_candidate_once(self, recorded: dict[Candidate, np.ndarray]) -> None:
        assert list(recorded) == search.candidates()
        with (FOLDER / "search.csv").open() as file:
            assert len(list(csv.DictReader(file))) == len(recorded)

    def test_it_is_written_as_it_was_read(self, recorded: dict[Candidate, np.ndarray]) -> None:
        assert search.table_text(recorded) == (FOLDER / "search.csv").read_text("utf-8")

    def test_rates_are_three_times_the_one_before(self) -> None:
        rates = np.array(search.RATES)
        assert rates[1:] / rates[:-1] == pytest.approx(3)

    def test_the_manifest_contains_the_choice(
        self,
        recorded: dict[Candidate, np.ndarray],
        tmp_path_factory: pytest.TempPathFactory,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("HTBENCH_DATA", str(tmp_path_factory.mktemp("data")))
        icons = load_manifest("icons@2.0")
        groups = search.held_out_groups(icons)
        assert {task: len(names) for task, names in groups.items()} == {
            candidate.task: len(right) for candidate, right in recorded.items()
        }
        choice = search.choose(recorded, groups)
        assert search.RATES[0] < choice.best[0] < search.RATES[-1]
        text = search.training_text(build.TRAINING, choice, search.SEEDS)
        assert text == build.TRAINING.read_text("utf-8")
        tables = tomllib.loads(text)
        assert {name: icons.document[name] for name in tables} == tables

    def test_the_page_has_every_accuracy_and_what_the_limit_on_steps_costs(
        self, recorded: dict[Candidate, np.ndarray]
    ) -> None:
        groups = search.held_out_groups(load_manifest("icons@2.0"))
        every = {row.candidate: row for row in search.compare(recorded, groups, search.STEPS)}
        limited = search.compare(recorded, groups, search.AFFORDABLE)
        error_of = {row.candidate: row.standard_error for row in limited if row.deficit > 0}
        page = (FOLDER.parents[1] / "icons" / "README.md").read_text("utf-8")
        for rate in search.RATES:
            cells = []
            for steps in search.STEPS:
                cell = f"{every[rule.Candidate(rate, steps)].accuracy:.1f}"
                if steps in search.AFFORDABLE:
                    error = error_of.get(rule.Candidate(rate, steps))
                    cell = f"**{cell}**" if error is None else f"{cell} ({error:.1f})"
                cells.append(cell)
            assert f"| {rate:g} | {' | '.join(cells)} |" in page

        best, shipped = rule.choose(list(every.values())), every[rule.Candidate(0.027, 200)]
        assert best.candidate == (0.081, 800)
        sentence = (
            "800 steps at rate 0.081 are best, with "
            f"{best.accuracy:.1f} %, and the rule chooses them: the recipe is "
            f"{shipped.deficit:.1f} points below, more than the standard error of "
            f"{shipped.standard_error:.1f}."
        )
        assert sentence in " ".join(page.split())

    def test_held_out_images_are_of_seen_classes_and_never_a_whole_class(
        self, icons, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTBENCH_DATA", str(tmp_path_factory.mktemp("data")))
        task = icons.task("outline-color")
        seen = trials._seen(icons, task)
        kept, held_out = trials._data(icons, ("color",), seen, trials.HELD_OUT_SHARE)
        assert set(kept.labels.tolist()) == set(held_out.labels.tolist()) == set(seen)
        assert 0.1 < len(held_out) / (len(held_out) + len(kept)) < 0.3
        class_of = dict(zip(icons.ids, icons.codes["class"].tolist(), strict=True))
        labels = [class_of[image_id] for image_id in trials.held_out_ids(icons, task)]
        assert torch.equal(held_out.labels, torch.tensor(labels))


def test_the_source_recipe_is_that_of_the_recorded_search(icons) -> None:
    means: defaultdict[tuple[int, int, float], list[float]] = defaultdict(list)
    with (FOLDER / "source-search.csv").open() as file:
        for row in csv.DictReader(file):
            key = (int(row["width"]), int(row["steps"]), float(row["rate"]))
            means[key].append(float(row["held_out_accuracy"]))
    best = max(np.mean(values) for values in means.values())
    near = {key: np.mean(values) for key, values in means.items() if np.mean(values) >= best - 1}
    cheapest = min(near)[:2]
    chosen = max((key for key in near if key[:2] == cheapest), key=lambda key: near[key])
    source = icons.document["source"]
    assert chosen == (icons.document["model"]["width"], source["steps"], source["lr"])
    numbers = f"chosen {near[chosen]:.2f} %, best {best:.2f} %"
    assert numbers in source["chosen"].replace("\n", " ")
