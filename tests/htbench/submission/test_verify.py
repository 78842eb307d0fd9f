"""Which runs of a submission are repeated, and what counts as the same result."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.errors import DataError, MethodError, UsageError
from benchmark.files import seal
from benchmark.manifest.suite import load_suite
from htbench.submission import verify as module
from htbench.submission.verify import (
    Cell,
    Verification,
    _against,
    _among_seeds,
    choose,
    read_verification,
    verification_file,
    verify,
    write_verification,
)

SUITE = dataclasses.replace(load_suite("icons"), tasks=("a", "b"), seeds=(0, 1, 2))


class TestChoose:
    def test_cells_are_chosen_at_random_among_those_named(self) -> None:
        every = {(task, seed) for task in "ab" for seed in range(3)}
        assert set(choose(SUITE, 99, (), ())) == every
        chosen = [tuple(choose(SUITE, 2, (), ())) for _ in range(50)]
        assert all(len(set(cells)) == 2 and set(cells) <= every for cells in chosen)
        assert len(set(chosen)) > 5
        assert choose(SUITE, 9, ("b",), (1,)) == [("b", 1)]

    def test_one_cell_was_submitted(self) -> None:
        for _ in range(20):
            assert choose(SUITE, 1, (), (7, 8, 9, 1))[0][1] == 1

    def test_a_task_or_seeds_that_cannot_be_compared_are_refused(self) -> None:
        with pytest.raises(UsageError, match="--task c is not in suite icons; it has: a, b"):
            choose(SUITE, 1, ("c",), ())
        with pytest.raises(UsageError, match="name also a --seed of suite icons"):
            choose(SUITE, 1, (), (71,))
        with pytest.raises(UsageError, match="seed is 4294967296; give a whole number from 0"):
            choose(SUITE, 1, (), (1, 1 << 32))

    def test_a_task_that_is_named_twice_is_repeated_once(self) -> None:
        assert choose(SUITE, 9, ("a", "a"), (1,)) == [("a", 1)]


def run(steps: int = 5) -> Any:
    return SimpleNamespace(cost={"total_steps": steps})


@pytest.mark.parametrize(
    ("again", "identical", "missing", "same_machine", "outcome", "reason"),
    [
        (run(), True, 0.0, True, "identical", ""),
        (run(), True, 0.0, False, "identical", ""),
        (run(), False, 0.1, True, "differs", "its predictions are others on the same kind"),
        (run(), False, -3.0, False, "within tolerance", ""),
        (run(), False, -3.1, False, "differs", "missing differs by -3.10 points"),
        (run(6), True, 0.0, True, "differs", "its number of steps is 6; the submitted run says 5"),
    ],
)
def test_a_repeated_run_is_compared(
    again: Any, identical: bool, missing: float, same_machine: bool, outcome: str, reason: str
) -> None:
    difference = {"overall": 0.0, "seen": 0.0, "missing": missing}
    given = _against(again, run(), difference, same_machine=same_machine, identical=identical)
    assert given[0] == outcome
    assert given[1].startswith(reason)


def test_a_seed_that_was_not_announced_must_be_in_the_prediction_interval_of_one_more() -> None:
    def scores(value: float) -> dict[str, float]:
        return {"overall": 50.0, "seen": 50.0, "missing": value}

    submitted = [scores(value) for value in (39.0, 40.0, 41.0)]
    # The quantile of t with 2 degrees of freedom is 4.3027; s is 1, n is 3, the tolerance 3.
    half = 4.3027 * math.sqrt(1 + 1 / 3) + 3
    outcome, _, difference = _among_seeds(scores(40 + half - 0.01), submitted)
    assert outcome == "as other seeds"
    assert difference["missing"] == pytest.approx(half - 0.01)
    outcome, reason, _ = _among_seeds(scores(40 - half - 0.01), submitted)
    assert outcome == "differs"
    assert reason == "missing is -7.98 points from the mean of the 3 seeds, expected within 7.97"
    assert _among_seeds(scores(90), submitted[:1])[0] == "not compared"


def test_each_run_is_alone_in_a_fresh_workspace_and_in_the_lock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    roots, calls = [], []

    def plan_suite(suite: Any, workspace: Any, **options: Any) -> None:
        assert list(workspace.root.iterdir()) == []
        roots.append(workspace.root)
        calls.append(options)
        raise MethodError("it is another class")

    monkeypatch.setattr(module, "plan_suite", plan_suite)
    submission: Any = SimpleNamespace(
        root=tmp_path,
        digest="digest",
        suite=SUITE,
        form=SimpleNamespace(name="half-way", plugins=("half_way.py:HalfWay",)),
        of_method=[SimpleNamespace(made_from={"device": "cpu"}, config={})],
    )
    cells = [("a", 0), ("b", 71)]
    result = verify(submission, cells, "me", "at random", None, 60.0, None)  # type: ignore[arg-type]
    assert len(set(roots)) == 2
    assert not any(root.exists() for root in roots)
    assert [(call["tasks"], call["seeds"]) for call in calls] == [(["a"], [0]), (["b"], [71])]
    for call in calls:
        assert (call["isolation"], call["time_limit"]) == ("required", 60.0)
        assert call["plugins"] == [str(tmp_path / "code" / "half_way.py:HalfWay")]
    assert [(cell.outcome, cell.announced) for cell in result.cells] == [
        ("differs", True),
        ("differs", False),
    ]
    assert not result.verified


class TestFile:
    result = Verification(
        submission="digest",
        by="A. Maintainer",
        when="2026-01-02T03:04:05+00:00",
        chosen="at random",
        machine={"cpu": "a CPU"},
        cells=[Cell("a", 0, True, True, "identical", "", {"overall": 0.0})],
        verified=True,
    )

    def test_it_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        path = verification_file(tmp_path / "half-way")
        assert path == tmp_path / "half-way.verification.json"
        write_verification(path, self.result)
        content = read_verification(path, "digest")
        assert {name: content[name] for name in asdict(self.result)} == asdict(self.result)

    def test_one_that_cannot_be_used_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "v.json"
        with pytest.raises(UsageError, match="does not exist; `htbench submit verify` writes it"):
            read_verification(path, "digest")
        write_verification(path, dataclasses.replace(self.result, verified=False))
        with pytest.raises(DataError, match="says that runs could not be repeated"):
            read_verification(path, "digest")
        write_verification(path, self.result)
        with pytest.raises(DataError, match="is the verification of another submission"):
            read_verification(path, "another")
        path.write_bytes(seal(asdict(self.result)).replace(b'"verified":true', b'"verified":1'))
        with pytest.raises(DataError):
            read_verification(path, "digest")
