"""The ranking table of a page has the columns and the order of its board."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.board import MEAN
from leaderboard.render.site.ranking import Table, build_ranking
from tests.leaderboard.grids import build, grid


@pytest.mark.parametrize(("headline", "order"), [("micro", ["a", "b"]), ("macro", ["b", "a"])])
def test_columns_and_order_follow_the_headline(
    suite: Suite, icons: Manifest, headline: str, order: list[str]
) -> None:
    manifest = replace(icons, document={**icons.document, "headline": headline})
    rows = grid(manifest, "a", overall=60.0, macro_overall=40.0)
    rows += grid(manifest, "b", overall=50.0, macro_overall=45.0)
    (board,) = build(suite, manifest, rows)
    table = Table.of_board(board)
    ranking = build_ranking(table, MEAN, {"a": "a.html", "b": "b.html"})
    assert [line.label for line in ranking.ranked] == order == board.labels
    assert ranking.columns == board.shown_columns
    assert [column.key for column in ranking.columns[:3]] == list(board.headline)
    names = ("macro seen", "macro missing") if headline == "macro" else ("seen", "missing")
    assert table.axes == names
    assert table.both == f"{names[0].capitalize()} and {names[1]} accuracy"
