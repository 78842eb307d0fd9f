"""Carries out runs on the nodes of a cluster, from the driver's side.

Each node pulls the next chain of runs when it has a free slot. What it computed is copied to the
driver, verified file by file, and renamed into the workspace; then the node forgets it. The chain
of a node that is lost goes back to the others, and nodes that join are used.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from benchmark.errors import HTBenchError, RecordError, RunError, UsageError
from benchmark.files import digest_file, write_file
from benchmark.folders import data_folder
from benchmark.images.store.store import store_folder
from benchmark.progress import Logger, Reporter
from benchmark.records import RECORD_FILE, RunRecord
from benchmark.remote.chains import Chain
from benchmark.remote.node import PART, versions
from benchmark.runs.merge import NotCopiedError, merge_run
from benchmark.runs.plan import RunSpec
from benchmark.runs.verify import CheckRecord, files_of
from benchmark.runs.workspace import Workspace
from benchmark.text import one_line

POLL_SECONDS = 2.0  # between two looks for nodes that joined
PATIENCE_SECONDS = 60.0  # without any node
MAX_TRIES = 3  # of a chain that fails because of the machines, such as a full disk
MAX_RECORD = 64 << 20  # bytes
MAX_REASON = 1000  # bytes of what a node says


class NodeLostError(HTBenchError):
    """A node does not answer any more."""


class RemoteNode(Protocol):
    """A node, see :class:`benchmark.remote.node.Node`, and how it is called."""

    name: str
    slots: int

    def call(self, method: str, *arguments: Any) -> Any:
        """Call one of the node's methods and wait for its result.

        Raises:
            NodeLostError: the node is gone.
            HTBenchError: the method raised an error.
        """


@dataclass
class RemoteExecutor:
    """Carries out chains of runs on nodes.

    Attributes:
        discover: gives the nodes that have joined since it was last called.
        options: of the plan, see ``Node.start``.
        workspace: where the runs' folders appear, entered.
        check: checks each record that a node sends.
        reporter: told about every chain.
        log: called with messages for the user.
        patience: seconds to wait while there is no node.
    """

    discover: Callable[[], Iterable[RemoteNode]]
    options: Mapping[str, Any]
    workspace: Workspace
    check: CheckRecord
    reporter: Reporter
    log: Logger
    patience: float = PATIENCE_SECONDS
    _waiting: deque[Chain] = field(default_factory=deque)
    _keys: list[str] = field(default_factory=list)  # of all runs to carry out
    _files: list[DataFile] = field(default_factory=list)  # that they need
    _in_flight: int = 0
    _tries: Counter[str] = field(default_factory=Counter)
    _records: dict[str, RunRecord] = field(default_factory=dict)
    _failure: BaseException | None = None
    _refused: dict[str, str] = field(default_factory=dict)
    _lost: set[str] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def execute(self, chains: Sequence[Chain]) -> list[RunRecord]:
        """Carry out chains of runs; return their records.

        Raises:
            UsageError: there is no node, or no node that can be used.
            RunError: a chain failed on several nodes, for reasons that are not its method's.
        """
        self._waiting.extend(chains)
        self._keys = [key for chain in chains for key in chain.keys]
        self._files = data_files(run for chain in chains for run in chain.runs)
        threads: list[threading.Thread] = []
        without_node = 0.0
        try:
            while self._is_open:
                for node in self.discover():
                    thread = threading.Thread(target=self._serve, args=(node,), daemon=True)
                    thread.start()
                    threads.append(thread)
                is_served = any(thread.is_alive() for thread in threads)
                without_node = 0.0 if is_served else without_node + POLL_SECONDS
                if without_node > self.patience:
                    raise UsageError(self._without_nodes())
                with self._changed:
                    if self._is_open:
                        self._changed.wait(POLL_SECONDS)
        except BaseException as error:
            self._fail(error)
            raise
        if self._failure is not None:
            raise self._failure
        for thread in threads:
            thread.join()
        return [self._records[key] for key in self._keys]

    @property
    def _is_open(self) -> bool:
        return bool(self._waiting or self._in_flight) and self._failure is None

    def _without_nodes(self) -> str:
        if not self._refused:
            return (
                "the cluster has no node that answers; start some with `ray start`, and run the "
                "command again: finished runs are not repeated"
            )
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self._refused.items())
        return f"no node of the cluster can be used: {reasons}"

    # --- one node ------------------------------------------------------------------------------

    def _serve(self, node: RemoteNode) -> None:
        """Let a node carry out chains until there are none, or it is lost."""
        try:
            if (reason := self._prepare(node)) is not None:
                self._refused[node.name] = reason
                self.log(f"node {node.name} is not used: {self._refused[node.name]}")
                node.call("stop")
                return
            slots = [threading.Thread(target=self._work, args=(node,)) for _ in range(node.slots)]
            for slot in slots:
                slot.start()
            for slot in slots:
                slot.join()
            node.call("stop")
        except NodeLostError as error:
            self._lose(node, error)
        except BaseException as error:
            self._fail(error)

    def _lose(self, node: RemoteNode, error: NodeLostError) -> None:
        """Say once that a node is lost, unless this is the end anyway."""
        with self._changed:
            if node.name not in self._lost and self._failure is None:
                self._lost.add(node.name)
                self.log(f"node {node.name} is lost: {error}")

    def _prepare(self, node: RemoteNode) -> str | None:
        """Send a node what it needs and start its worker; or why the node cannot be used."""
        if different := _differences(versions(), node.call("versions")):
            return f"it has {different}; use the same environment on all machines"
        send_missing(node, self._files)
        answer = node.call("start", dict(self.options), self._keys, node.slots)
        if "refused" in answer:
            return _said(answer["refused"])
        if set(self._keys) - set(answer["keys"]):
            return (
                "its runs have other keys; the files of the methods, the manifest and the source "
                "models must be the same on all machines"
            )
        return None

    def _work(self, node: RemoteNode) -> None:
        """One slot of a node; whatever goes wrong in it ends the command, not only the slot."""
        try:
            self._work_off(node)
        except BaseException as error:
            self._fail(error)

    def _work_off(self, node: RemoteNode) -> None:
        while (chain := self._next()) is not None:
            begin = time.monotonic()
            self.reporter.begin(chain.name)
            try:
                self._carry_out(node, chain)
            except NodeLostError as error:
                if self._failure is None:
                    self.reporter.end(chain.name, f"lost with node {node.name}, waits for another")
                self._lose(node, error)
                self._give_back(chain)
                return
            except RunError as error:
                self.reporter.end(chain.name, f"node {node.name}: {error}")
                self._try_again(chain, error)
            else:
                seconds = time.monotonic() - begin
                self.reporter.end(chain.name, f"{seconds:.1f} s on {node.name}{self._bad(chain)}")
                self._end()

    def _bad(self, chain: Chain) -> str:
        failed = sum(self._records[key].status == "failed" for key in chain.keys)
        return f", {failed} failed" if failed else ""

    def _carry_out(self, node: RemoteNode, chain: Chain) -> None:
        for run in chain.runs:
            self.workspace.note("start", run.key, run.name, node=node.name)
        for key in chain.bases:
            for path in self.workspace.folder(key).rglob("*"):
                if path.is_file():
                    name = path.relative_to(self.workspace.root).as_posix()
                    send_file(node, "workspace", name, path)
        try:
            answer = node.call("run", chain.keys)
            if "ended" in answer:  # such as killed for its memory: other nodes still work
                self._refused[node.name] = _said(answer["ended"])
                raise NodeLostError(self._refused[node.name])
            if "error" in answer:
                raise RunError(_said(answer["error"]))
            for run in chain.runs:
                record = self._fetch(node, run)
                self._records[run.key] = record
                self.workspace.note(record.status, run.key, run.name, node=node.name)
        except RunError:
            node.call("forget", chain.keys)  # what cannot be used is computed again
            raise
        node.call("forget", [*chain.keys, *chain.bases])

    def _fetch(self, node: RemoteNode, run: RunSpec) -> RunRecord:
        """Copy a run from a node into the workspace, with every digest compared."""
        with self.workspace.temporary() as folder:
            source = Workspace(folder)
            to = source.folder(run.key)
            to.mkdir(parents=True)
            copy_file(node, run.key, RECORD_FILE, to, MAX_RECORD)
            problems: list[str] = []
            try:
                for file in files_of(RunRecord.read(to, run.key)):
                    copy_file(node, run.key, file.name, to, file.limit)
                origin = f"node {node.name}"
                merge_run(source, self.workspace, run.key, self.check, problems, origin)
                return RunRecord.read(self.workspace.folder(run.key), run.key)
            except (RecordError, NotCopiedError) as error:
                raise RunError(f"what it sent of {run.name} cannot be used: {error}") from None

    # --- the queue -----------------------------------------------------------------------------

    def _next(self) -> Chain | None:
        """The next chain; waits while there may still be one; None at the end."""
        with self._changed:
            while not self._waiting and self._is_open:
                self._changed.wait()
            if not self._is_open:
                return None
            self._in_flight += 1
            return self._waiting.popleft()

    def _give_back(self, chain: Chain) -> None:
        with self._changed:
            self._in_flight -= 1
            self._waiting.appendleft(chain)
            self._changed.notify_all()

    def _try_again(self, chain: Chain, error: RunError) -> None:
        self._tries[chain.keys[0]] += 1
        if self._tries[chain.keys[0]] >= MAX_TRIES:
            self._fail(error)
        self._give_back(chain)

    def _end(self) -> None:
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()


def _differences(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Which versions differ, for people; empty if none."""
    return _said(
        ", ".join(
            f"{name} {there.get(name, 'missing')} instead of {value}"
            for name, value in here.items()
            if there.get(name) != value
        )
    )


def _said(text: object) -> str:
    """What a node said, which may have several lines, on one."""
    return one_line(" ".join(str(text).split()), MAX_REASON)


# --- files -------------------------------------------------------------------------------------


class DataFile(NamedTuple):
    """A file of the data folder: its name there, its path and its SHA-256."""

    name: str
    path: Path
    sha256: str


def data_files(runs: Iterable[RunSpec]) -> list[DataFile]:
    """The files of the data folder that runs need.

    Source models, and image stores of manifests that do not hold their images. What a node can
    build from the installed package is not among them.
    """
    root = data_folder()
    paths: dict[Path, None] = {}
    for run in runs:
        source, manifest = run.source.path, run.planned.manifest
        if source.is_relative_to(root):
            of_source = [source]
            if source.parent.parent == root / "sources":  # trained or imported: with its record
                of_source = sorted(source.parent.iterdir())
            paths.update(dict.fromkeys(of_source))
        if manifest.document["images"] != "embedded":
            store = store_folder(manifest, run.planned.task.target)
            paths.update(dict.fromkeys(sorted(store.iterdir())))
    return [
        DataFile(path.relative_to(root).as_posix(), path, digest_file(path))
        for path in paths
        if path.is_file()
    ]


def send_missing(node: RemoteNode, files: Sequence[DataFile]) -> None:
    """Send a node the files of the data folder that it does not have."""
    if not files or _shares_folder(node):
        return
    for file in files:
        if not node.call("has", file.name, file.sha256):
            send_file(node, "data", file.name, file.path)


def _shares_folder(node: RemoteNode) -> bool:
    """Whether a node's data folder is that of this machine."""
    name, content = f"shared-{secrets.token_hex(8)}", secrets.token_bytes(32)
    path = data_folder() / name
    try:
        write_file(path, content)
        return bool(node.call("has", name, digest_file(path)))
    finally:
        path.unlink(missing_ok=True)


def send_file(node: RemoteNode, place: str, name: str, path: Path) -> None:
    """Send a file to a node in parts.

    Raises:
        RunError: its digest differs after the transfer.
    """
    with path.open("rb") as file:
        offset = 0
        while (content := file.read(PART)) or offset == 0:
            node.call("write", place, name, offset, content)
            offset += len(content)
            if not content:
                break
    if not node.call("seal", place, name, digest_file(path)):
        raise RunError(f"{path} arrived damaged at node {node.name}")


def copy_file(node: RemoteNode, key: str, name: str, to: Path, limit: int) -> None:
    """Copy a file of a run from a node, if it is there.

    Raises:
        RunError: it is larger than ``limit`` bytes.
    """
    offset = 0
    while (content := node.call("read", key, name, offset, PART)) is not None:
        if offset + len(content) > limit:
            raise RunError(f"{name} of run {key[:12]} is larger than {limit} bytes")
        path = to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(content)
        offset += len(content)
        if len(content) < PART:
            break
