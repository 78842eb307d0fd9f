"""Chains: runs that start from each other, which one node carries out together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.runs.plan import PlannedRun, RunSpec
from benchmark.runs.shards import first_of_chain, work
from benchmark.text import plural


@dataclass(frozen=True)
class Chain:
    """Runs of one task and seed, bases before the runs that start from them.

    Attributes:
        runs: those to carry out.
        cost: how long they take, relative to other chains.
    """

    runs: tuple[RunSpec, ...]
    cost: float

    @property
    def keys(self) -> list[str]:
        """The runs' keys."""
        return [run.key for run in self.runs]

    @property
    def bases(self) -> list[str]:
        """Keys of finished runs that some of the runs start from."""
        bases = dict.fromkeys(run.base.key for run in self.runs if run.base)
        return [key for key in bases if key not in self.keys]

    @property
    def name(self) -> str:
        """For people, such as ``finetune outline-solid seed 1 and 2 runs from it``."""
        more = len(self.runs) - 1
        return self.runs[0].name + (f" and {plural(more, 'run')} from it" if more else "")


def chains_of(runs: Sequence[RunSpec], costs: Mapping[str, float]) -> list[Chain]:
    """Split runs into chains, the longest first.

    Args:
        runs: bases first.
        costs: see :func:`benchmark.runs.shards.split`.
    """
    groups: dict[int, list[RunSpec]] = {}
    for run in runs:
        groups.setdefault(id(first_of_chain(run.planned)), []).append(run)
    chains = [
        Chain(tuple(group), sum(_work(run.planned, costs) for run in group))
        for group in groups.values()
    ]
    return sorted(chains, key=lambda chain: -chain.cost)  # stable: equal ones in their order


def _work(run: PlannedRun, costs: Mapping[str, float]) -> float:
    return work(run.manifest, run.task, run.method.name, costs)
