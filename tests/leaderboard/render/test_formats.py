"""What all output formats have in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.board import build_boards
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import counted_samples
from leaderboard.render import FORMATS, format_of
from leaderboard.render.notebook import to_notebook
from leaderboard.render.terminal import Screen, to_terminal
from leaderboard.rows import SCHEMA, Row
from tests.leaderboard import grids
from tests.leaderboard.grids import TASKS, build, failed, grid

PROPERTY = settings(deadline=None, database=None, max_examples=10, phases=(Phase.generate,))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("board.md", "markdown"),
        ("board.TEX", "latex"),
        ("a.b.csv", "csv"),
        ("board.json", "json"),
        ("board.parquet", "parquet"),
        ("board.txt", None),
        ("csv", None),
    ],
)
def test_the_suffix_of_a_file_chooses_its_format(name: str, form: str | None) -> None:
    assert format_of(Path("folder.csv") / name) == form


def test_no_two_formats_share_a_suffix() -> None:
    suffixes = [suffix for form in FORMATS.values() for suffix in form.suffixes]
    assert len(set(suffixes)) == len(suffixes)


@PROPERTY
@given(random=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_output(suite: Suite, icons: Manifest, random: Random) -> None:
    rows = grid(icons, "source") + grid(icons, "finetune") + grid(icons, "finetune", overall=1.0)
    for row in rows:
        row |= {"overall": 100 * random.random(), "ausuc": random.random()}
        row["measured_adapt_seconds"] = random.random()
    rows += [failed(icons, "lwf", TASKS[1], 2), *grid(icons, "other", source_digest="b")]
    boards = build(suite, icons, rows)
    shuffled = build(suite, icons, random.sample(rows, len(rows)))
    for name in ("markdown", "latex", "csv", "json"):
        assert FORMATS[name].render(boards) == FORMATS[name].render(shuffled), name
    tables = [
        pq.read_table(pa.BufferReader(FORMATS["parquet"].render(each)))
        for each in (boards, shuffled)
    ]
    assert tables[0].equals(tables[1], check_metadata=True)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ((0,), "- seeds: 0, so intervals are conditional on this seed and its source models"),
        ((0, 3), "- seeds: 0, 3, all of which adapt the same source models"),
        ((0, 1, 3), "- seeds: 0-1, 3, which adapt 2 source models in turn"),
        ((0, 1, 2), "- seeds: 0-2, which adapt 3 source models in turn"),
    ],
)
def test_the_caption_counts_the_source_models_that_the_seeds_adapt(
    suite: Suite, icons: Manifest, seeds: tuple[int, ...], expected: str
) -> None:
    assert icons.source_seeds == 3
    rows = [row | {"seed": seed} for seed in seeds for row in grid(icons, "source")]
    boards = build(replace(suite, seeds=seeds), icons, rows)
    assert expected in str(FORMATS["markdown"].render(boards))


@pytest.mark.parametrize(
    ("seeds", "fixed"),
    [
        ((0,), "tasks, the seed and its source models"),
        ((0, 3), "tasks and source models"),
        ((0, 1, 3), "tasks"),
    ],
)
def test_captions_say_what_intervals_are_conditional_on(
    suite: Suite, icons: Manifest, seeds: tuple[int, ...], fixed: str
) -> None:
    def outcomes(of_run: Row) -> Outcomes:
        is_seen = counted_samples(icons, of_run["task"]).is_seen
        return Outcomes(is_seen, is_seen, is_seen.astype(np.float32))

    rows = [grids.row(icons, "source", task, seed) for task in TASKS for seed in seeds]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    (board,) = build_boards(replace(suite, seeds=seeds), icons, table, outcomes=outcomes)
    assert board.statistics is not None
    assert board.statistics.groups is not None
    shown = [FORMATS["latex"]([board]), FORMATS["markdown"]([board]), to_notebook(board)]
    for text in (*shown, " ".join(to_terminal([board], Screen(400), tasks=False).split())):
        assert f"; {fixed} are fixed" in text
