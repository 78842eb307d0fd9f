"""Manifests as plain records."""

from __future__ import annotations

from typing import Any

from benchmark.summaries import group_count

Draft = Any  # the class in conftest.py


def test_images_without_a_group_are_in_none(draft: Draft) -> None:
    groups = {row["group"] for row in draft.rows}
    assert group_count(draft.read()) == len(groups)
    alone = draft.rows[0]["group"]
    for row in draft.rows:
        if row["group"] == alone:
            row["group"] = None
    assert group_count(draft.read()) == len(groups) - 1
