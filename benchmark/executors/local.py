"""Runs on this machine: several one-thread children in parallel on CPU, one at a time on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmark.checkpoint import checkpoint_step
from benchmark.images.store.store import DomainStore
from benchmark.intact import files_of_store, intact
from benchmark.isolation.cgroup import cores
from benchmark.isolation.client import ForkServer, held
from benchmark.progress import Reporter
from benchmark.records import RunRecord
from benchmark.runs.carry_out import ClaimedError, carry_out
from benchmark.runs.plan import RunSpec
from benchmark.runs.workspace import Workspace
from benchmark.sources.spec import SourceCheckpoint, SourceSpec, find_source, source_lock
from benchmark.sources.train import train_source

T = TypeVar("T")
CLAIMED_SECONDS = 0.2  # before trying again to claim a run of another driver


def slots(device: str) -> int:
    """How many jobs run in parallel: one per core on CPU, one on a GPU."""
    return cores() if device == "cpu" else 1


@dataclass
class LocalExecutor:
    """Carries out jobs in children of one fork server.

    Attributes:
        server: forks the children.
        workspace: where the runs' folders appear.
        width: jobs in parallel.
        reporter: told about every job.
    """

    server: ForkServer
    workspace: Workspace
    width: int
    reporter: Reporter

    def train_sources(
        self, specs: Sequence[SourceSpec], stores: Mapping[str, DomainStore]
    ) -> dict[SourceSpec, SourceCheckpoint]:
        """Train source models that do not exist yet.

        Raises:
            RunError: training failed.
        """

        def train(spec: SourceSpec) -> SourceCheckpoint:
            name = f"source model {spec.name}"
            if done := checkpoint_step(spec.checkpoints_folder, spec.key):
                steps = spec.manifest.source_recipe["steps"]
                name += f", resumed at step {done} of {steps}"
            self.reporter.begin(name)
            with held(source_lock(spec), self.server), self.workspace.temporary() as folder:
                source = find_source(spec)  # another driver may have been faster
                if source is None:
                    with intact(_files(spec, stores)):
                        source = train_source(self.server, spec, stores, folder, self._steps(name))
            self.reporter.end(name, f"source accuracy {source.record['test_accuracy']:.1f} %")
            return source

        sources = self._all(specs, train, lambda spec: None)
        return {spec: sources[i] for i, spec in enumerate(specs)}

    def execute(
        self, specs: Sequence[RunSpec], stores: Mapping[str, DomainStore]
    ) -> list[RunRecord]:
        """Carry out runs; one that starts from another waits for it.

        Args:
            specs: runs, in the order to start them, bases before runs that start from them.
            stores: image stores by domain.

        Returns:
            Their records, in the same order.
        """
        bases = {spec.base.key for spec in specs if spec.base}

        def run(spec: RunSpec) -> RunRecord:
            return carry_out(
                self.server,
                spec,
                stores[spec.planned.task.target],
                self.workspace,
                self.reporter,
                keep_weights=spec.key in bases,
            )

        index = {spec.key: i for i, spec in enumerate(specs)}
        records = self._all(specs, run, lambda s: index.get(s.base.key) if s.base else None)
        return [records[i] for i in range(len(specs))]

    def _steps(self, name: str) -> Callable[[int, int], None]:
        return lambda done, total: self.reporter.step(name, done, total)

    def _all(
        self,
        items: Sequence[object],
        work: Callable[..., T],
        after: Callable[..., int | None],
    ) -> dict[int, T]:
        """Results by index; an item starts once the item that it comes ``after`` is done."""
        results: dict[int, T] = {}
        waiting = dict(enumerate(items))
        running: dict[Future[T], int] = {}
        claimed: set[int] = set()  # by other drivers, since the last wait
        with ThreadPoolExecutor(self.width) as pool:
            try:
                while waiting or running:
                    for i in _ready(waiting, results, after, self.width - len(running)):
                        running[pool.submit(work, waiting.pop(i))] = i
                    ended, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        i = running.pop(future)
                        if not isinstance(future.exception(), ClaimedError):
                            results[i] = future.result()
                            continue
                        waiting[i] = items[i]  # to the end of the queue
                        claimed.add(i)
                        # Runs of other drivers are skipped; wait only if no other is left.
                        if claimed.issuperset(_ready(waiting, results, after, len(waiting))):
                            time.sleep(CLAIMED_SECONDS)
                            claimed.clear()
            except BaseException:
                self.server.close()  # ends every child, and with it the threads that wait for one
                raise
        return results


def _files(spec: SourceSpec, stores: Mapping[str, DomainStore]) -> dict[Path, str]:
    """What a source model is trained from, with digests."""
    files = {spec.initial.path: spec.initial.digest} if spec.initial else {}
    for domain in spec.domains:
        files |= files_of_store(stores[domain])
    return files


def _ready(
    waiting: Mapping[int, object],
    results: Mapping[int, object],
    after: Callable[..., int | None],
    count: int,
) -> Iterable[int]:
    """The first items whose predecessor is done, as many as there are free slots."""
    ready: list[int] = []
    for i, item in waiting.items():
        if len(ready) >= count:
            break
        previous = after(item)
        if previous is None or previous in results:
            ready.append(i)
    return ready
