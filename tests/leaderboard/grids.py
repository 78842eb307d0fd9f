"""Rows of results with round numbers, and the boards that are built from them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from benchmark.files import digest_json
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.records import PROTOCOL
from leaderboard.board import Board, build_boards
from leaderboard.rows import COUNTS, METRICS, SCHEMA

COSTS = {
    "total_steps": 100,
    "sequential_steps": 100,
    "measured_adapt_seconds": 2.0,
    "measured_predict_seconds": 0.5,
    "measured_peak_memory": 2**29,
}
TASKS = ("outline-solid", "solid-outline", "outline+solid-color")


def row(icons: Manifest, label: str, task: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A row as ``update_results`` makes it, with round numbers."""
    base: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    base |= dict.fromkeys(METRICS, 50.0) | dict.fromkeys(COUNTS, 100) | COSTS
    return base | {
        "key": f"{label} {task} {seed} {sorted(changes.items())}",
        "status": "ok",
        "manifest": icons.reference,
        "manifest_digest": icons.digest,
        "protocol": PROTOCOL,
        "model": json.dumps(icons.document["model"]),
        "recipe_digest": digest_json(icons.recipe),
        "source_digest": f"checkpoint of {task.partition('-')[0]}",
        "task": task,
        "method": label.partition("(")[0],
        "label": label,
        "track": "standard",
        "seed": seed,
        "measured_finished": 1000.0,
        **changes,
    }


def grid(icons: Manifest, label: str, **changes: Any) -> list[dict[str, Any]]:
    """All rows of a method."""
    return [row(icons, label, task, seed, **changes) for task in TASKS for seed in range(3)]


def failed(icons: Manifest, label: str, task: str, seed: int, message: str = "m") -> Any:
    scores = dict.fromkeys((*METRICS, *COUNTS))
    return row(icons, label, task, seed, status="failed", error_message=message, **scores)


def build(
    suite: Suite, icons: Manifest, rows: list[dict[str, Any]], asked: Collection[str] = ()
) -> list[Board]:
    return build_boards(suite, icons, pa.Table.from_pylist(rows, schema=SCHEMA), asked)


def cell(board: Board, label: str, task: str) -> Mapping[Any, Any]:
    return board.of_task(task)[label]


def macro_board(suite: Suite, icons: Manifest) -> Board:
    """Three methods of a manifest that ranks by macro accuracy, whose order is the reverse."""
    macro = dataclasses.replace(icons, document={**icons.document, "headline": "macro"})
    rows = [
        each | {f"macro_{name}": value for name in ("overall", "seen", "missing")}
        for label, overall, value in (
            ("source", 60.0, 10.0),
            ("finetune", 50.0, 20.0),
            ("mine", 40.0, 35.0),
        )
        for each in grid(macro, label, overall=overall, total_steps=10)
    ]
    return build(suite, macro, rows)[0]
