"""What commands that start children share: one lazily started fork server and progress."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from htbench.cli.main import plain

if TYPE_CHECKING:
    from benchmark.images.store import DomainStore, Need
    from benchmark.manifest import Manifest
    from benchmark.registry import MethodDescription, MethodSource, Value
    from benchmark.runs.isolate import ForkServer, Limits
    from benchmark.runs.plan import Cell
    from benchmark.runs.workspace import Workspace
    from benchmark.source import SourceCheckpoint, SourceSpec


class Session:
    """Starts the fork server when it is first needed (importing torch takes seconds).

    Args:
        never: folders that no method may reach, besides the data folder.
        cuda: whether runs use an NVIDIA GPU.
        limits: of each run.
        isolation: ``required`` refuses to run a method where the kernel cannot lock it in.
    """

    def __init__(
        self,
        *,
        never: Iterable[Path] = (),
        cuda: bool = False,
        limits: Limits | None = None,
        isolation: str = "auto",
    ) -> None:
        self._never, self._cuda, self._limits = list(never), cuda, limits
        self._required = isolation == "required"
        self._server: ForkServer | None = None

    @property
    def server(self) -> ForkServer:
        """The fork server.

        Raises:
            UsageError: isolation is required and this machine cannot give it.
        """
        if self._server is None:
            from benchmark.folders import data_folder
            from benchmark.runs.isolate import ForkServer

            self._server = ForkServer(
                never=[data_folder(), *self._never],
                cuda=self._cuda,
                limits=self._limits,
                required=_required_facts() if self._required else (),
            )
        return self._server

    def describe(self, source: MethodSource) -> Any:
        """Ask a child to describe a method."""
        from benchmark.runs.execute import describe

        with tempfile.TemporaryDirectory() as folder:
            return describe(self.server, source, Path(folder))

    def check(self, method: MethodDescription, config: Mapping[str, Value]) -> None:
        """Have a method look at settings that are not its defaults.

        Raises:
            MethodError: it refuses them.
        """
        from benchmark.runs.execute import check_settings

        if config != method.configure({}):
            with tempfile.TemporaryDirectory() as folder:
                check_settings(self.server, method, config, Path(folder))

    def with_network(self, manifest: Manifest, text: str | None) -> Manifest:
        """The manifest with the network of ``--model``, which is tried; None leaves it as it is.

        Raises:
            UsageError: there is no such network, or it cannot be used here.
        """
        from benchmark.networks import library_of, parse_network
        from benchmark.runs.execute import try_network

        if text is None:
            return manifest
        other = manifest.with_model(parse_network(text, manifest.document["model"]))
        library_of(other.model)
        if other.other_model is not None:
            with tempfile.TemporaryDirectory() as folder:
                try_network(self.server, other, "cuda" if self._cuda else "cpu", Path(folder))
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()


def _required_facts() -> Iterable[str]:
    from benchmark.errors import UsageError
    from benchmark.runs import sandbox

    missing = sandbox.available().missing
    if missing:
        raise UsageError(
            f"--isolation required: {'; '.join(missing)}. --isolation auto runs without, and every "
            "row says so"
        )
    return sandbox.FULL_ISOLATION


class Lines:
    """Progress for logs and pipes: a line when a job ends."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._lock = threading.Lock()

    def begin(self, name: str) -> None:
        """Nothing: its end is told."""

    def step(self, name: str, done: int, total: int) -> None:
        """Nothing: its end is told."""

    def end(self, name: str, note: str) -> None:
        """Print a line."""
        with self._lock:
            self._done += 1
            click.echo(plain(f"[{self._done}/{self._total}] {name}: {note}"), err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to put back."""


class Bars:
    """Progress on a terminal: one bar for all jobs, one for each in hand."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._all = self._bars.add_task("runs", total=total)
        self._jobs: dict[str, Any] = {}

    def begin(self, name: str) -> None:
        """Add the job's bar."""
        self._jobs[name] = self._bars.add_task(f"  {name}", total=None)

    def step(self, name: str, done: int, total: int) -> None:
        """Move the job's bar."""
        self._bars.update(self._jobs[name], completed=done, total=total)

    def end(self, name: str, note: str) -> None:
        """Take the job's bar away; what gave no predictions stays to be read."""
        self._bars.remove_task(self._jobs.pop(name))
        self._bars.advance(self._all)
        if note.startswith(("failed", "not applicable")):
            self._bars.console.print(plain(f"{name}: {note}"), markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


def progress(total: int) -> Bars | Lines:
    """Bars on a terminal, lines elsewhere."""
    return Bars(total) if sys.stderr.isatty() else Lines(total)


class Ticker:
    """Progress of one long step: lines on standard error, at most one a second, then rarer."""

    def __init__(self, what: str, unit: str = "") -> None:
        self._what, self._begun = what, time.monotonic()
        self._unit = f" {unit}" if unit else ""
        self._next, self._first = self._begun + 1, 0

    def __call__(self, done: int, total: int) -> None:
        """Tell how far it is and what is left, if the last word was a while ago."""
        now = time.monotonic()
        self._first = self._first or done
        if now < self._next:
            return
        passed = now - self._begun
        self._next = now + max(1, passed / 20)  # an hour's work tells less than a hundred lines
        rate = (done - self._first) / passed
        left = (
            f", {rate:.3g}{self._unit}/s, about {(total - done) / rate:.0f} s left" if rate else ""
        )
        click.echo(f"{self._what}: {done} of {total}{self._unit}{left}", err=True)


def open_stores(manifest: Manifest, needs: Mapping[str, Need]) -> dict[str, DomainStore]:
    """The image stores of some domains; what of them is needed and not there is built."""
    from benchmark.images.store import open_store

    return {
        domain: open_store(manifest, domain, Ticker(f"decoding images of {domain}"), need, tell)
        for domain, need in sorted(needs.items())
    }


def target_needs(cells: Iterable[Cell]) -> dict[str, Need]:
    """What runs need of the images of their targets, by domain."""
    from benchmark.images.store import Need

    needs: dict[str, Need] = {}
    for cell in cells:
        seen = frozenset(cell.manifest.seen_mask(cell.task).nonzero()[0].tolist())
        # Features are of all classes, so that tasks with other seen classes share them.
        every = cell.method.track == "oracle" or cell.method.uses_features
        need = Need(None if every else seen)
        target = cell.task.target
        needs[target] = needs[target] | need if target in needs else need
    return needs


def source_needs(specs: Iterable[SourceSpec]) -> dict[str, Need]:
    """What training source models needs: everything of their domains."""
    from benchmark.images.store import EVERYTHING

    return {domain: EVERYTHING for spec in specs for domain in spec.domains}


def ready_sources(
    session: Session, specs: Sequence[SourceSpec], workspace: Workspace, width: int
) -> dict[SourceSpec, SourceCheckpoint]:
    """The source models of one manifest; those that are not there are trained.

    The initial weights that a manifest names are downloaded when they are first needed.
    """
    from benchmark.executors.local import LocalExecutor
    from benchmark.source import find_source
    from benchmark.weights import fetch_initial, find_initial, initial_name

    sources = {spec: found for spec in specs if (found := find_source(spec)) is not None}
    lacking = [spec for spec in specs if spec not in sources]
    if not lacking:
        return sources
    manifest = lacking[0].manifest
    if initial_name(manifest.model) and find_initial(manifest.model) is None:
        fetch_initial(session.server, manifest, tell)
    stores = open_stores(manifest, source_needs(lacking))
    with progress(len(lacking)) as reporter:
        executor = LocalExecutor(session.server, workspace, width, reporter)
        return sources | executor.train_sources(lacking, stores)


def tell(text: str) -> None:
    """A line for people, on standard error."""
    click.echo(plain(text), err=True)
