"""How long runs will take, from what is known of earlier runs and of one step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.estimate import Estimates
from benchmark.manifest.manifest import Manifest
from benchmark.sources.network import NetworkTimes
from benchmark.sources.spec import SourceSpec

STEP, IMAGE = 2.0, 0.5  # seconds

pytestmark = pytest.mark.usefixtures("own_data")


def record(manifest: Manifest, method: str, seconds: float, steps: float, **changes: Any) -> Any:
    made_from = {"model": manifest.model, "recipe": manifest.document["recipe"], **changes}
    cost = {"wall_seconds": seconds, "total_steps": steps}
    return SimpleNamespace(status="ok", method=method, made_from=made_from, cost=cost)


def estimates(manifest: Manifest, *records: Any, times: NetworkTimes | None = None) -> Estimates:
    session: Any = SimpleNamespace(time_network=lambda _: times)
    workspace: Any = SimpleNamespace(records=lambda: records)
    return Estimates(session, manifest, workspace)


def cell(manifest: Manifest, method: str, **config: Any) -> Any:
    task = manifest.task("outline-solid")
    named = SimpleNamespace(name=method)
    return SimpleNamespace(manifest=manifest, task=task, method=named, config=config)


def test_a_run_takes_what_is_known_best(mini: Manifest) -> None:
    other = {"name": "resnet18"}
    estimate = estimates(
        mini,
        record(mini, "known", 10, 7),
        record(mini, "known", 30, 7),
        record(mini, "known", 20, 7),
        record(mini, "elsewhere", 99, 0, model=other),
        record(mini, "elsewhere-longer", 99, 5, recipe={}, model=other),
        times=NetworkTimes(STEP, IMAGE),
    )
    prediction = IMAGE * len(mini.samples("solid", "test").ids)
    recipe = STEP * mini.document["recipe"]["steps"]
    assert estimate.of_run(cell(mini, "known")) == 20
    assert estimate.of_run(cell(mini, "elsewhere")) == prediction  # it does not train
    assert estimate.of_run(cell(mini, "elsewhere-longer")) == prediction + recipe
    assert estimate.of_run(cell(mini, "new", steps=3)) == prediction + 3 * STEP
    assert estimate.of_run(cell(mini, "new")) == prediction + recipe


def test_a_record_without_its_time_says_nothing(mini: Manifest) -> None:
    untimed = record(mini, "known", 99, 7)
    del untimed.cost["wall_seconds"]
    assert estimates(mini, untimed, record(mini, "known", 20, 7)).of_run(cell(mini, "known")) == 20


def test_runs_side_by_side_follow_the_source_models(mini: Manifest) -> None:
    estimate = estimates(mini, record(mini, "known", 10, 7), times=NetworkTimes(STEP, IMAGE))
    cells = [cell(mini, "known")] * 6
    assert estimate.total(cells, [], 1) == 60
    assert estimate.total(cells, [], 4) == 15
    source, batch = mini.document["source"], mini.document["recipe"]["batch_size"]
    training = source["steps"] * STEP * source["batch_size"] / batch
    training += IMAGE * len(mini.samples("outline", "test").ids)
    spec = SourceSpec.of(mini, ("outline",), "cpu")
    assert estimate.total(cells, [spec], 4) == pytest.approx(training + 15)


def test_nothing_is_timed_without_need(mini: Manifest) -> None:
    estimate = estimates(mini, record(mini, "known", 10, 7))
    assert estimate.is_measured(cell(mini, "known"))
    assert not estimate.is_measured(cell(mini, "new"))
    assert estimate.total([cell(mini, "known")], [], 1) == 10
    assert estimate.total([cell(mini, "known"), cell(mini, "new")], [], 1) is None
