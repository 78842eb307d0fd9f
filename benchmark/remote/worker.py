"""The process on a node that carries out runs: it has its own fork server and workspace.

Started as ``python -P start.py benchmark.remote.worker`` by ``node.py``. The first line that it
reads has the options of the plan, and each further one asks for some runs; it answers in lines of
JSON, with the number of the request. It ends when its standard input does, so never after the
process that started it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from benchmark.driver import (
    SuitePlan,
    open_stores,
    plan_suite,
    ready_specs,
    target_needs,
    unfinished_runs,
)
from benchmark.errors import HTBenchError
from benchmark.executors.local import LocalExecutor
from benchmark.manifest.suite import load_suite
from benchmark.progress import Silent
from benchmark.runs.plan import RunSpec
from benchmark.runs.workspace import Workspace

MAX_LINE = 64 << 20  # bytes of a request or an answer


class Worker:
    """Carries out runs of a plan, several requests at a time."""

    def __init__(
        self, plan: SuitePlan, keys: Sequence[str], workspace: Workspace, out: int
    ) -> None:
        """Look up runs of a plan; their source models must be there.

        Args:
            plan: the plan.
            keys: of the runs. Others may lack their source models or images here.
            workspace: where the runs' folders appear, entered.
            out: the descriptor that answers are written to.
        """
        self._plan, self._workspace, self._out = plan, workspace, out
        self._lock = threading.Lock()
        wanted = frozenset(keys)
        self._specs = {s.key: s for s in ready_specs(plan.cells) if s.key in wanted}
        cells = [spec.planned for spec in self._specs.values()]
        self._stores = open_stores(plan.manifest, target_needs(cells), Silent())

    @property
    def keys(self) -> list[str]:
        """The keys of those of the runs that the plan has on this machine."""
        return list(self._specs)

    def serve(self, requests: IO[str], slots: int) -> None:
        """Answer requests until there are no more."""
        with ThreadPoolExecutor(slots) as pool:
            while line := requests.readline(MAX_LINE):
                request = json.loads(line)
                pool.submit(self._answer, request["id"], request["keys"])
            # Whoever asked is gone: end the runs, so that the pool's threads end.
            self._plan.session.server.close()

    def send(self, **answer: object) -> None:
        """Write an answer."""
        send(self._out, answer, self._lock)

    def _answer(self, number: int, keys: Sequence[str]) -> None:
        try:
            self.send(id=number, statuses=self._run(keys))
        except (HTBenchError, OSError, KeyError) as error:
            self._say(number, str(error) or type(error).__name__)
        except Exception as error:
            # Such as no thread, no memory: whoever asked waits for an answer.
            self._say(number, f"{type(error).__name__}: {error}")

    def _say(self, number: int, error: str) -> None:
        """Answer that runs could not be carried out, and whether others could."""
        self.send(id=number, **{"error" if self._plan.session.server.alive else "ended": error})

    def _run(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Carry out runs and those that they start from; return the statuses by key."""
        wanted: dict[str, RunSpec] = {}
        for key in keys:
            _add(self._specs[key], wanted)
        runs = unfinished_runs(list(wanted.values()), self._workspace)
        executor = LocalExecutor(self._plan.session.server, self._workspace, 1, Silent())
        records = {record.key: record for record in executor.execute(runs, self._stores)}
        return {key: records[key].status for key in keys if key in records}


def _add(spec: RunSpec, wanted: dict[str, RunSpec]) -> None:
    """Add a run after those that it starts from."""
    if spec.base is not None:
        _add(spec.base, wanted)
    wanted[spec.key] = spec


def send(out: int, answer: Mapping[str, object], lock: threading.Lock) -> None:
    """Write a line of JSON to a descriptor."""
    content = json.dumps(answer).encode() + b"\n"
    with lock:
        while content:
            content = content[os.write(out, content) :]


def main() -> None:
    """Plan the runs that the first line describes, say so, and carry out those asked for.

    In the end it removes the folder of its workspace, also if its node has been killed.
    """
    out = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    options: dict[str, Any] = json.loads(sys.stdin.readline(MAX_LINE))
    keys, slots = options.pop("keys"), options.pop("slots")
    place = Workspace(Path(options.pop("workspace")))
    try:
        suite = load_suite(options.pop("suite"))
        with plan_suite(suite, place, **options) as plan, place:
            worker = Worker(plan, keys, place, out)
            worker.send(keys=worker.keys)
            worker.serve(sys.stdin, slots)
    except (HTBenchError, OSError) as error:
        send(out, {"refused": str(error)}, threading.Lock())
    finally:
        shutil.rmtree(place.root.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
