"""Which source models the rows of a table have: rows of different checkpoints never share one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmark.manifest.manifest import Manifest
from leaderboard.rows import Row, group_rows


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

    def name(self, row: Row) -> str:
        """The source model of a row, such as ``outline+solid`` or ``outline seed 1``."""
        names = self._names[row["task"]]
        seed: int = row["seed"]
        return names[seed % len(names)]

    def describe(self, rows: Iterable[Row]) -> str:
        """The checkpoints of some rows by domains, in the order of tasks and of source seeds."""
        order = {task: i for i, task in enumerate(self._names)}
        digests: dict[str, dict[str, str]] = {}
        for row in sorted(rows, key=lambda r: (order[r["task"]], r["seed"])):
            name = self.name(row)
            digests.setdefault(name.partition(" ")[0], {})[name] = row["source_digest"][:12]
        return ", ".join(f"{name} {' '.join(of.values())}" for name, of in digests.items())


def split_by_checkpoint(
    rows: Iterable[Row], sources: SourceNames, order: Callable[[Sequence[Row]], Any]
) -> list[list[Row]]:
    """Split rows into tables with one checkpoint per source model.

    Args:
        rows: of one protocol, model and recipe.
        sources: names the source models.
        order: the sort key of the tables' rows.
    """
    tables: dict[int, list[Row]] = {}
    for group in group_rows(rows, sources.name).values():
        checkpoints = group_rows(group, lambda row: row["source_digest"]).values()
        for rank, part in enumerate(sorted(checkpoints, key=order)):
            tables.setdefault(rank, []).extend(part)
    return [table for _, table in sorted(tables.items())]
