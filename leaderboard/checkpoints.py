"""Which source models the rows of a table have: rows of different checkpoints never share one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.manifest.manifest import Manifest
from benchmark.text import printable
from leaderboard.row_columns import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SourceNames:
    """Names the source models of a manifest's runs."""

    manifest: Manifest

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """The names of the source models of each task, by source seed; in the order of tasks."""
        seeds = self.manifest.source_seeds
        names = {}
        for task in self.manifest.tasks:
            domains = "+".join(sorted(task.sources))
            several = [f"{domains} seed {seed}" for seed in range(seeds)]
            names[task.id] = several if seeds > 1 else [domains]
        return names

    def name(self, task: str, seed: int) -> str:
        """The source model of a run, such as ``outline+solid`` or ``outline seed 1``."""
        names = self._names[task]
        return names[seed % len(names)]

    def describe(self, rows: Rows) -> str:
        """The checkpoints of some rows by domains, in the order of tasks and of source seeds."""
        order = {task: i for i, task in enumerate(self._names)}
        digests: dict[str, dict[str, str]] = {}
        runs = rows.distinct("task", "seed", "source_digest")
        for row in sorted(runs, key=lambda row: (order[row["task"]], row["seed"])):
            name = self.name(row["task"], row["seed"])
            digests.setdefault(name.partition(" ")[0], {})[name] = printable(
                row["source_digest"][:12]
            )
        return ", ".join(
            f"{name} {' '.join(by_seed.values())}" for name, by_seed in digests.items()
        )

    def codes(self, rows: Rows) -> NDArray[np.intp]:
        """(N,) numbers that are equal for rows of the same source model."""
        tasks, seeds = rows.codes("task"), rows.codes("seed")
        names = [self.name(task, seed) for task in tasks.names for seed in seeds.names]
        position = {name: i for i, name in enumerate(names)}
        cells = np.array([position[name] for name in names], dtype=np.intp)
        return np.asarray(cells[tasks.numbers * len(seeds.names) + seeds.numbers])


def split_by_checkpoint(
    rows: Rows, sources: SourceNames, order: Callable[[Rows], Any]
) -> list[Rows]:
    """Split rows into tables with one checkpoint per source model.

    Args:
        rows: of one protocol, model and recipe.
        sources: names the source models.
        order: the sort key of the tables' rows.
    """
    tables: dict[int, Rows] = {}
    for group in rows.grouped(sources.codes(rows)):
        checkpoints = group.groups("source_digest")
        if len(checkpoints) > 1:
            checkpoints.sort(key=order)
        for rank, part in enumerate(checkpoints):
            tables[rank] = tables[rank].joined(part) if rank in tables else part
    return [table for _, table in sorted(tables.items())]
