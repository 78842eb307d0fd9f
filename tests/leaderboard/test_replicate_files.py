"""Values in each draw on disk: what is known is not computed again, what has changed is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.manifest.manifest import Manifest
from leaderboard import replicate_files, statistics
from leaderboard.grid import with_columns
from leaderboard.intervals import Statistics, statistics_of
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import counted_samples
from leaderboard.replicate_files import FOLDER, ReplicateFiles, useless_replicates
from leaderboard.rows import MEAN, POOLED, Row
from tests.leaderboard.grids import TASKS, row

SEEDS = (0, 1)
Compute = Callable[..., Statistics]


def outcomes_of(icons: Manifest, of_run: Row) -> Outcomes:
    n = len(counted_samples(icons, of_run["task"]).labels)
    generator = np.random.default_rng(int(of_run["predictions_sha256"], 16))
    right = generator.random(n) < 0.5
    return Outcomes(right, right, generator.normal(0, 1, n).astype(np.float32))


@pytest.fixture
def rows(icons: Manifest) -> list[dict[str, Any]]:
    names = [(label, task, seed) for label in ("a", "b") for task in TASKS for seed in SEEDS]
    return [
        row(icons, *name, predictions_sha256=f"{i:02x}", overall=50.0)
        for i, name in enumerate(names)
    ]


@pytest.fixture
def compute(icons: Manifest, tmp_path: Path) -> Compute:
    def compute(
        rows: list[dict[str, Any]],
        *,
        tasks: Sequence[str] = TASKS,
        read: bool = True,
        keep: bool = True,
    ) -> Statistics:
        def outcomes(of_run: Row) -> Outcomes:
            if not read:
                pytest.fail("read again")
            return outcomes_of(icons, of_run)

        files = ReplicateFiles(tmp_path) if keep else None
        with_values = with_columns(rows, tasks, SEEDS)
        return statistics_of(tasks, SEEDS, with_values, icons, outcomes, files)

    return compute


def same(one: Statistics, two: Statistics) -> bool:
    return one.groups == two.groups and all(
        np.array_equal(one.estimates[key].replicates, two.estimates[key].replicates, equal_nan=True)
        for key in (
            (task, name) for task in (*TASKS, MEAN, POOLED) for name in ("overall", "gap_closed")
        )
    )


def test_known_values_need_no_outcomes(compute: Compute, rows: list[dict[str, Any]]) -> None:
    first = compute(rows)
    assert same(compute(rows, read=False), first)
    assert same(compute(rows, keep=False), first)


@pytest.mark.parametrize(
    "change",
    [
        {"predictions_sha256": "ff"},
        {"key": "f" * 64},
        {"config": '{"gamma":1}'},
        {"overall": 51.0},
        {"label": "c"},
    ],
)
def test_a_run_that_changed_is_read(
    compute: Compute, rows: list[dict[str, Any]], change: dict[str, Any]
) -> None:
    compute(rows)
    other = [
        {**rows[0], **change},
        {**rows[1], **{k: v for k, v in change.items() if k == "label"}},
    ]
    changed = [*other, *rows[2:]]
    assert same(compute(changed), compute(changed, keep=False))
    with pytest.raises(pytest.fail.Exception, match="read again"):
        compute([{**rows[0], "predictions_sha256": "fe"}, *rows[1:]], read=False)


def test_other_code_computes_again(
    compute: Compute, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(rows)
    monkeypatch.setattr(replicate_files, "scorer_digest", lambda: "other")
    with pytest.raises(pytest.fail.Exception, match="read again"):
        compute(rows, read=False)


def test_a_larger_test_set_beside_a_known_one_has_other_draws(
    icons: Manifest, compute: Compute, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets fewer draws, and so do all tasks of its suite."""
    sizes = {task: len(set(counted_samples(icons, task).groups)) for task in TASKS}
    small = min(TASKS, key=sizes.__getitem__)
    monkeypatch.setattr(statistics, "MAX_COUNTS", statistics.DRAWS * sizes[small])
    alone = compute([of_run for of_run in rows if of_run["task"] == small], tasks=[small])
    together = compute(rows)
    draws = [of.estimates[small, "overall"].replicates for of in (alone, together)]
    assert [len(of) for of in draws if of is not None] == [
        2000,
        2000 * sizes[small] // max(sizes.values()),
    ]
    assert same(together, compute(rows, keep=False))


def test_a_damaged_file_is_made_again(
    compute: Compute, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    first = compute(rows)
    for damage in (lambda c: c[:-1] + bytes([c[-1] ^ 1]), lambda c: c[:40], lambda c: b""):
        for path in (tmp_path / FOLDER).iterdir():
            path.write_bytes(damage(path.read_bytes()))
        assert same(compute(rows), first)
        assert same(compute(rows, read=False), first)


def test_a_file_under_another_name_is_made_again(
    compute: Compute, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Its digest covers the name, which says what its values depend on."""
    first = compute(rows)
    one, two, *_ = sorted((tmp_path / FOLDER).iterdir())
    two.write_bytes(one.read_bytes())
    files, useless = useless_replicates(tmp_path)
    assert (len(files), useless) == (len(TASKS) + 1, [two])
    assert same(compute(rows), first)
    assert useless_replicates(tmp_path)[1] == []


def test_a_workspace_that_cannot_be_written_to_keeps_nothing(
    compute: Compute, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / FOLDER).write_text("not a folder")
    assert same(compute(rows), compute(rows, keep=False))


def test_the_oldest_files_make_room(
    compute: Compute, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(rows)
    sizes = [path.stat().st_size for path in (tmp_path / FOLDER).iterdir()]
    assert len(sizes) == len(TASKS) + 1  # and the pooled values
    monkeypatch.setattr(replicate_files, "MAX_BYTES", 2 * max(sizes) + sum(sizes) // 4)
    for number in range(4):
        compute([{**rows[0], "predictions_sha256": f"a{number}"}, *rows[1:]])
    total = sum(path.stat().st_size for path in (tmp_path / FOLDER).iterdir())
    assert total <= replicate_files.MAX_BYTES
