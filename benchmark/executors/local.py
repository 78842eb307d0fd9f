"""Runs on this machine: several one-thread children side by side on CPU, one at a time on a GPU."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol, TypeVar

from benchmark.checkpoint import checkpoint_step
from benchmark.failpoints import reach
from benchmark.images.store import DomainStore
from benchmark.records import NOT_APPLICABLE, RunRecord
from benchmark.runs.execute import execute_run, fail_run, train_source
from benchmark.runs.isolate import ForkServer
from benchmark.runs.plan import RunSpec
from benchmark.runs.workspace import Workspace
from benchmark.source import SourceCheckpoint, SourceSpec, find_source, source_lock

T = TypeVar("T")
TAKEN_SECONDS = 0.2  # before asking again for a run that another driver has in hand


class _TakenError(Exception):
    """Another driver is carrying the run out."""


class Reporter(Protocol):
    """Who tells the user how far the work is. Called from several threads."""

    def begin(self, name: str) -> None:
        """A job has started."""

    def step(self, name: str, done: int, total: int) -> None:
        """A job has done some of its steps."""

    def end(self, name: str, note: str) -> None:
        """A job has ended; ``note`` says how."""


def slots(device: str) -> int:
    """How many jobs go side by side: one per core on CPU, one on a GPU."""
    return len(os.sched_getaffinity(0)) if device == "cpu" else 1


@dataclass
class LocalExecutor:
    """Carries out jobs in children of one fork server.

    Attributes:
        server: forks the children.
        workspace: where runs are left.
        width: jobs side by side.
        reporter: told of every job.
    """

    server: ForkServer
    workspace: Workspace
    width: int
    reporter: Reporter

    def train_sources(
        self, specs: Sequence[SourceSpec], stores: Mapping[str, DomainStore]
    ) -> dict[SourceSpec, SourceCheckpoint]:
        """Train source models that are not there yet.

        Raises:
            RunError: training failed.
        """

        def train(spec: SourceSpec) -> SourceCheckpoint:
            name = f"source model {spec.name}"
            if done := checkpoint_step(spec.checkpoints_folder, spec.key):
                steps = spec.manifest.document["source"]["steps"]
                name += f", resumed at step {done} of {steps}"
            self.reporter.begin(name)
            with source_lock(spec), self.workspace.temporary() as folder:
                made = find_source(spec)  # another driver may have been faster
                if made is None:
                    made = train_source(self.server, spec, stores, folder, self._steps(name))
            self.reporter.end(name, f"source accuracy {made.record['test_accuracy']:.1f} %")
            return made

        done = self._all(specs, train, lambda spec: None)
        return {spec: done[i] for i, spec in enumerate(specs)}

    def execute(
        self, specs: Sequence[RunSpec], stores: Mapping[str, DomainStore]
    ) -> list[RunRecord]:
        """Carry out runs; one that starts from another waits for it.

        Args:
            specs: runs to do, in the order to start them, bases before what starts from them.
            stores: image stores by domain.

        Returns:
            Their records, in the same order.
        """
        bases = {spec.base.key for spec in specs if spec.base}

        def run(spec: RunSpec) -> RunRecord:
            with self.workspace.claim(spec.key) as mine:
                if not mine:
                    raise _TakenError
                reach("run-claimed")
                keep = spec.key in bases
                if (done := self.workspace.finished(spec.key, weights=keep)) is not None:
                    self.reporter.begin(spec.name)
                    self.reporter.end(spec.name, "done by another driver")
                    return done
                return self._execute_one(spec, stores, keep_weights=keep)

        index = {spec.key: i for i, spec in enumerate(specs)}
        done = self._all(specs, run, lambda s: index.get(s.base.key) if s.base else None)
        return [done[i] for i in range(len(specs))]

    def _execute_one(
        self, spec: RunSpec, stores: Mapping[str, DomainStore], *, keep_weights: bool
    ) -> RunRecord:
        self.reporter.begin(spec.name)
        self.workspace.note("start", spec.key, spec.name)
        reach("run-journaled")
        store = stores[spec.cell.task.target]
        if (problem := self._base_problem(spec) or _oracle_problem(spec, store)) is not None:
            record = fail_run(spec, self.workspace, **problem)
        else:
            record = execute_run(
                self.server,
                spec,
                store,
                self.workspace,
                self._steps(spec.name),
                keep_weights=keep_weights,
            )
        self.workspace.note(record.status, spec.key, spec.name)
        self.reporter.end(spec.name, _how_it_ended(record))
        return record

    def _base_problem(self, spec: RunSpec) -> dict[str, str] | None:
        """The kind of error and the message of a run that has no base to start from."""
        if spec.base is None or self.workspace.finished(spec.base.key, weights=True) is not None:
            return None
        base = self.workspace.finished(spec.base.key)
        if base is not None and base.status == NOT_APPLICABLE:
            reason = (base.error or {}).get("message", "")
            message = f"it starts from {spec.base.cell.label}, which is not applicable: {reason}"
            return {"kind": NOT_APPLICABLE, "message": message}
        message = f"its base run ({spec.base.name}) failed or gave no weights to start from"
        return {"kind": "base", "message": message}

    def _steps(self, name: str) -> Callable[[int, int], None]:
        return lambda done, total: self.reporter.step(name, done, total)

    def _all(
        self,
        items: Sequence[object],
        work: Callable[..., T],
        after: Callable[..., int | None],
    ) -> dict[int, T]:
        """Results by index; an item starts once the one that it comes ``after`` is done."""
        results: dict[int, T] = {}
        waiting = dict(enumerate(items))
        going: dict[Future[T], int] = {}
        taken: set[int] = set()  # found in the hands of others since the last wait
        with ThreadPoolExecutor(self.width) as pool:
            try:
                while waiting or going:
                    for i in _ready(waiting, results, after, self.width - len(going)):
                        going[pool.submit(work, waiting.pop(i))] = i
                    ended, _ = wait(going, return_when=FIRST_COMPLETED)
                    for future in ended:
                        i = going.pop(future)
                        try:
                            results[i] = future.result()
                        except _TakenError:
                            waiting[i] = items[i]  # at the end of the queue
                            taken.add(i)
                            # What others have in hand is passed over; only then is there a wait.
                            if taken.issuperset(_ready(waiting, results, after, len(waiting))):
                                time.sleep(TAKEN_SECONDS)
                                taken.clear()
            except BaseException:
                self.server.close()  # ends every child, and with it the threads that wait for one
                raise
        return results


def _oracle_problem(spec: RunSpec, store: DomainStore) -> dict[str, str] | None:
    """An oracle of missing-class training images does not apply where a target has none."""
    cell = spec.cell
    missing = (~cell.manifest.seen_mask(cell.task)).nonzero()[0].tolist()
    if cell.method.track != "oracle" or store.train_files(missing):
        return None
    message = f"{cell.task.target} has no training image of a missing class"
    return {"kind": NOT_APPLICABLE, "message": message}


def _how_it_ended(record: RunRecord) -> str:
    if record.error is None:
        return f"{record.cost.get('wall_seconds', 0):.1f} s"
    what = "not applicable" if record.status == NOT_APPLICABLE else record.status
    reason = record.error["message"].partition("\n")[0]
    return f"{what}: {reason}"


def _ready(
    waiting: Mapping[int, object],
    results: Mapping[int, object],
    after: Callable[..., int | None],
    count: int,
) -> Iterable[int]:
    """The first items whose predecessor is done, as many as there are free slots."""
    found: list[int] = []
    for i, item in waiting.items():
        if len(found) >= count:
            break
        previous = after(item)
        if previous is None or previous in results:
            found.append(i)
    return found
