"""The columns of the board: what they compute, and that a column is one record."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from benchmark.errors import UsageError
from benchmark.manifest.manifest import HEADLINES as KNOWN_HEADLINES
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard import columns
from leaderboard.board import MEAN
from leaderboard.columns import COLUMNS, HEADLINES, Column, Value, table_columns
from leaderboard.filters import only
from leaderboard.render import FORMATS
from leaderboard.rows import Row
from tests.leaderboard.grids import TASKS, build, cell, grid, row


def test_keys_and_headings_differ_and_every_column_has_a_legend() -> None:
    assert len({column.key for column in COLUMNS}) == len(COLUMNS)
    assert len({column.heading for column in COLUMNS}) == len(COLUMNS)
    assert all(column.legend for column in COLUMNS)


def test_a_new_column_is_one_record(
    suite: Suite, icons: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is averaged, has its legend, and is in every format."""

    def compute(row: Row, peers: Mapping[str, Row]) -> Value:
        return row["missing"] - peers["finetune"]["missing"]

    new = Column(
        key="above_finetune",
        heading="above",
        legend="missing accuracy minus that of finetune",
        digits=2,
        compute=compute,
        sampled=True,
    )
    monkeypatch.setattr(columns, "COLUMNS", (*COLUMNS, new))
    rows = [row(icons, "source", task, s, missing=60.0 + s) for task in TASKS for s in range(3)]
    boards = build(suite, icons, rows + grid(icons, "finetune"))
    assert cell(boards[0], "source", MEAN)["above_finetune"] == 11.0
    assert cell(boards[0], "source", TASKS[0])["above_finetune_std"] == 1.0

    text = FORMATS["markdown"](boards)
    assert "\n- above: missing accuracy minus that of finetune\n" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0].split("|")[-2].strip() == "above"
    (mean,) = {line.split("|")[-2].strip() for line in lines if "| source " in line}
    assert mean == "11.00 ± 2.48"  # 4.303 / sqrt(3): a t-interval over three seeds

    data = list(csv.DictReader(io.StringIO(FORMATS["csv"](boards))))
    (table,) = json.loads(FORMATS["json"](boards))
    for cells in (data, table["cells"]):
        values = [
            (float(c["above_finetune"]), float(c["above_finetune_std"]))
            for c in cells
            if c["label"] == "source"
        ]
        assert values == [(11.0, 1.0)] * (len(TASKS) + 2)


def test_disruption_is_the_loss_against_the_source_on_the_same_task_and_seed(
    suite: Suite, icons: Manifest
) -> None:
    rows = [row(icons, "source", t, s, missing=40.0 + s) for t in TASKS for s in range(3)]
    rows += [row(icons, "finetune", t, s, missing=10.0) for t in TASKS for s in range(3)]
    rows += [row(icons, "mine", t, s, missing=50.0 + s) for t in TASKS for s in range(3)]
    (board,) = build(suite, icons, rows)
    assert cell(board, "finetune", TASKS[0])["disruption"] == 31.0
    assert cell(board, "finetune", TASKS[0])["disruption_std"] == 1.0
    assert cell(board, "mine", MEAN)["disruption"] == -10.0
    assert cell(board, "source", MEAN)["disruption"] == 0.0


def test_disruption_is_not_averaged_over_what_is_left(suite: Suite, icons: Manifest) -> None:
    source = grid(icons, "source")[1:]  # no source for the first task's seed 0
    (board,) = build(suite, icons, source + grid(icons, "finetune"))
    assert math.isnan(cell(board, "finetune", TASKS[0])["disruption"])
    assert math.isnan(cell(board, "finetune", MEAN)["disruption"])
    assert cell(board, "finetune", TASKS[1])["disruption"] == 0.0
    assert cell(board, "finetune", MEAN)["overall"] == 50.0


def test_gap_closed_is_the_way_from_source_to_oracle(suite: Suite, icons: Manifest) -> None:
    rows = grid(icons, "source", overall=40.0) + grid(icons, "mine", overall=55.0)
    rows += grid(icons, "oracle-finetune", overall=70.0, track="oracle")
    (board,) = build(suite, icons, rows)
    gaps = {label: cell(board, label, MEAN)["gap_closed"] for label in board.labels}
    assert gaps == {"source": 0.0, "mine": 50.0, "oracle-finetune": 100.0}


def test_there_is_no_gap_to_close_where_the_oracle_is_not_above_the_source(
    suite: Suite, icons: Manifest
) -> None:
    rows = grid(icons, "source", overall=40.0) + grid(icons, "mine", overall=55.0)
    rows += grid(icons, "oracle-finetune", overall=40.0, track="oracle")
    (board,) = build(suite, icons, rows)
    assert math.isnan(cell(board, "mine", TASKS[0])["gap_closed"])
    (note,) = board.notes
    assert note.startswith("gap: oracle-finetune is not above source on every task, seeds 0-2,")


def test_a_single_seed_without_a_gap_is_named(suite: Suite, icons: Manifest) -> None:
    rows = grid(icons, "source", overall=40.0) + grid(icons, "mine", overall=55.0)
    oracle = grid(icons, "oracle-finetune", overall=70.0, track="oracle")
    (lost,) = (row for row in oracle if (row["task"], row["seed"]) == (TASKS[1], 2))
    lost["overall"] = 40.0
    (board,) = build(suite, icons, [*rows, *oracle])
    assert [math.isnan(cell(board, "mine", of)["gap_closed"]) for of in (*TASKS, MEAN)] == [
        *(False, True, False),
        True,
    ]
    (note,) = board.notes
    assert f"not above source on {TASKS[1]}, seed 2, so there is no gap" in note
    (shown,) = only([board], ["mine"], ())
    assert note in shown.notes


def test_disruption_against_bn_stats_needs_a_row_of_bn_stats(suite: Suite, icons: Manifest) -> None:
    rows = [row(icons, "source", t, s, missing=40.0) for t in TASKS for s in range(3)]
    rows += [row(icons, "mine", t, s, missing=30.0 + s) for t in TASKS for s in range(3)]
    (board,) = build(suite, icons, rows)
    assert math.isnan(cell(board, "mine", MEAN)["disruption_bn_stats"])
    rows += [row(icons, "bn-stats", t, s, missing=50.0 + s) for t in TASKS for s in range(3)]
    (board,) = build(suite, icons, rows)
    assert cell(board, "mine", MEAN)["disruption_bn_stats"] == 20.0
    assert cell(board, "mine", TASKS[0])["disruption_bn_stats_std"] == 0.0
    assert cell(board, "source", MEAN)["disruption_bn_stats"] == 11.0


def test_an_optional_column_is_in_tables_on_request_and_in_data_always(
    suite: Suite, icons: Manifest
) -> None:
    boards = build(suite, icons, grid(icons, "source"))
    with_it = [replace(board, optional_columns=("openworld_auc",)) for board in boards]
    plain, extended = FORMATS["markdown"](boards), FORMATS["markdown"](with_it)
    assert "OWAUC" not in plain
    assert "\n- OWAUC: OpenworldAUC" in extended
    heading = next(line for line in extended.splitlines() if line.startswith("| method"))
    headings = [cell.strip() for cell in heading.split("|")]
    assert headings.index("OWAUC") == headings.index("AUSUC") + 1
    assert "openworld_auc" in FORMATS["csv"](boards).splitlines()[0].split(",")


def test_an_unknown_column_is_an_error_that_names_the_known() -> None:
    with pytest.raises(UsageError, match=r"'see' is not a column; .*: overall, seen, missing, "):
        table_columns(["see"])
    assert table_columns(["seen"]) == table_columns()


class TestMacroHeadline:
    """A manifest may say that its boards rank methods by macro averages."""

    @pytest.fixture
    def macro(self, icons: Manifest) -> Manifest:
        return replace(icons, document={**icons.document, "headline": "macro"})

    def test_every_headline_has_its_columns(self) -> None:
        assert tuple(HEADLINES) == KNOWN_HEADLINES
        keys = {column.key for column in COLUMNS}
        assert all(keys.issuperset(first) for first in HEADLINES.values())

    def test_it_orders_the_methods(self, suite: Suite, icons: Manifest, macro: Manifest) -> None:
        for manifest, labels in ((icons, ["a", "b", "o"]), (macro, ["b", "a", "o"])):
            rows = grid(manifest, "a", overall=60.0, macro_overall=40.0)
            rows += grid(manifest, "b", overall=50.0, macro_overall=45.0)
            rows += grid(manifest, "o", macro_overall=99.0, track="oracle")
            (board,) = build(suite, manifest, rows)
            assert board.labels == labels

    def test_its_columns_come_first(self, suite: Suite, macro: Manifest) -> None:
        rows = [
            row(macro, "a", t, s, macro_overall=41.0 + s, macro_seen=60.0, macro_missing=20.0)
            for t in TASKS
            for s in range(3)
        ]
        boards = build(suite, macro, rows)
        lines = FORMATS["markdown"](boards).splitlines()
        first = ["macro overall", "macro seen", "macro missing", "overall", "seen", "missing"]
        head = next(line for line in lines if line.startswith("| method"))
        assert [text.strip() for text in head.split("|")[2:8]] == first
        assert "- macro seen: seen as an unweighted mean over classes, in per cent" in lines
        values = next(line for line in lines if line.startswith("| a "))
        assert [text.split()[0] for text in values.split("|")[2:6]] == [
            "42.0",
            "60.0",
            "20.0",
            "50.0",
        ]
        assert cell(boards[0], "a", MEAN)["macro_overall_std"] == 1.0

    def test_others_show_them_on_request_in_their_place(self) -> None:
        keys = [column.key for column in table_columns(["macro_missing"])]
        assert keys[:5] == ["overall", "seen", "missing", "macro_missing", "disruption"]
