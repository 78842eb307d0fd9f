"""Boards for the tests of the site, with scores that differ, and names that attack the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.board import Board
from leaderboard.render.site import Definition, write_site
from tests.leaderboard.grids import build, failed, grid

SCORES = {"source": 40.0, "finetune": 50.0, "wise-ft": 55.0, "mine(a=1)": 52.5}
HOSTILE = (
    "<script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    '"><svg onload=window.hacked=1>',
    "' onmouseover='window.hacked=1",
    "</script><script>window.hacked=1</script>",
    "javascript:window.hacked=1",
    "\u202egnp.exe\u2066",
    "{{ 7 * 7 }}{% raw %}",
    "../../etc/passwd",
    "con",
)


def scored(icons: Manifest, label: str, overall: float, **changes: Any) -> list[dict[str, Any]]:
    """All rows of a method, with other accuracies for each seed."""
    rows = grid(icons, label, **changes)
    for row in rows:
        value = overall + row["seed"] / 10
        row |= {"overall": value, "seen": value + 10, "missing": value - 10}
    return rows


def boards_of(icons: Manifest, suite: Suite) -> list[Board]:
    """Four methods, an oracle, one method with a failed run, and a second table (tuned)."""
    rows = [row for label, value in SCORES.items() for row in scored(icons, label, value)]
    rows += scored(icons, "oracle-finetune", 90.0, track="oracle")
    rows += scored(icons, "broken", 99.0)[:-1]
    rows += [failed(icons, "broken", suite.tasks[-1], 2, "out of memory")]
    search = {"by": "folds", "folds": 3, "steps": 9, "chosen": {}, "tried": []}
    rows += scored(icons, "finetune(tuned)", 71.5, search=json.dumps(search))
    return build(suite, icons, rows)


def hostile_boards(icons: Manifest, suite: Suite) -> list[Board]:
    """Every text of a row that can come from a plugin attacks the page."""
    rows = scored(icons, "source", 40.0)
    for number, text in enumerate(HOSTILE):
        rows += scored(
            icons,
            f"m{number}{text}",
            50.0 + number,
            method=text,
            config=json.dumps({text: text}),
            notes=json.dumps([text]),
            environment=json.dumps({text: text}),
            isolation=json.dumps([text]),
            predictions_sha256=text,
            method_code=text,
        )
        bad = failed(icons, f"bad{number}", suite.tasks[0], 0, text)
        rows.append({**bad, "error_traceback": text})
    return build(suite, icons, rows)


def write(folder: Path, boards: list[Board]) -> Path:
    """A site with the definition of one method."""
    definition = Definition(
        summary="Interpolate weights.",
        origin="here",
        base="finetune",
        fields={"alpha": 0.5},
        papers=(("Wortsman et al., CVPR 2022", "https://arxiv.org/abs/2109.01903"),),
    )
    write_site(folder, boards, {"wise-ft": definition}, {})
    return folder
