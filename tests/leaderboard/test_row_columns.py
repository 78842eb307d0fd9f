"""Rows as columns behave as a list of rows."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from benchmark.manifest.manifest import Manifest
from leaderboard.row_columns import Rows
from leaderboard.rows import SCHEMA, Row, group_rows
from tests.leaderboard.grids import TASKS, failed, row


@pytest.fixture
def dicts(icons: Manifest) -> list[Row]:
    """Rows in random order; a run failed."""
    rows = [row(icons, label, task, s) for label in "bca" for task in TASKS for s in (2, 0, 1)]
    rows.append(failed(icons, "a", TASKS[0], 3))
    return [rows[i] for i in np.random.default_rng(5).permutation(len(rows))]


@pytest.fixture
def rows(dicts: list[Row]) -> Rows:
    return Rows(pa.Table.from_pylist([dict(each) for each in dicts], schema=SCHEMA))


def test_a_sequence(rows: Rows, dicts: list[Row]) -> None:
    assert list(rows) == list(Rows.of(dicts)) == dicts
    assert len(rows) == len(dicts)
    assert (rows[4], rows[-1]) == (dicts[4], dicts[-1])
    assert list(rows[3:9:2]) == dicts[3:9:2]
    assert list(rows[3:9][1:3]) == dicts[4:6]
    with pytest.raises(IndexError):
        rows[len(dicts)]
    assert list(Rows.of(())) == []


def test_some_columns(rows: Rows, dicts: list[Row]) -> None:
    names = ("seed", "label", "error_message")
    expected = [{name: each[name] for name in names} for each in dicts]
    assert rows.dicts(names) == expected
    assert rows[3:9].dicts(names) == expected[3:9]


def test_what_is_selected(rows: Rows, dicts: list[Row]) -> None:
    of_a = rows.where(rows.equal("label", "a"))
    expected = [each for each in dicts if each["label"] == "a"]
    assert list(of_a) == expected
    assert list(of_a.where(of_a.is_in("seed", [0, 3]))) == [
        each for each in expected if each["seed"] in (0, 3)
    ]
    assert of_a.texts("task") == [each["task"] for each in expected]
    assert of_a.keys == {each["key"] for each in expected}
    rest = rows.where(~rows.equal("label", "a"))
    assert list(of_a.joined(rest)) == expected + [e for e in dicts if e["label"] != "a"]


def test_groups_are_in_order_of_first_appearance(rows: Rows, dicts: list[Row]) -> None:
    for names in (("label",), ("task", "seed"), ("label", "status", "error_message")):
        expected = group_rows(dicts, lambda each, of=names: tuple(each[name] for name in of))
        assert [list(group) for group in rows.groups(*names)] == list(expected.values())
        assert list(rows.distinct(*names)) == [group[0] for group in expected.values()]
    nothing = rows.where(rows.equal("label", "z"))
    assert nothing.groups("label") == []
    assert list(nothing.distinct("label", "task")) == []


def test_values_that_are_added_follow_their_rows(rows: Rows, dicts: list[Row]) -> None:
    added = np.arange(len(dicts)) / 2
    more = rows.with_values({"overall": added, "new": -added})
    some = more.where(more.equal("status", "ok"))[::3]
    expected = [
        {**each, "overall": value, "new": -value}
        for each, value in zip(dicts, added.tolist(), strict=True)
        if each["status"] == "ok"
    ][::3]
    assert list(some) == expected
    assert some.numbers("new").tolist() == [each["new"] for each in expected]
    assert list(Rows.of(expected)) == expected


def test_numbers_that_are_unknown(rows: Rows, dicts: list[Row]) -> None:
    numbers = rows.numbers("n_seen").tolist()
    for number, each in zip(numbers, dicts, strict=True):
        assert math.isnan(number) if each["n_seen"] is None else number == each["n_seen"]
    assert rows.is_known("n_seen").tolist() == [each["n_seen"] is not None for each in dicts]


def test_another_text(rows: Rows, dicts: list[Row]) -> None:
    codes = rows.codes("label")
    other = rows.with_text("label", codes._replace(names=[f"{name}!" for name in codes.names]))
    assert list(other) == [{**each, "label": f"{each['label']}!"} for each in dicts]
