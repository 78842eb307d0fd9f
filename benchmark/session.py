"""A session: the fork server of one command, and what it asks of children."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from benchmark.choices import ISOLATION
from benchmark.errors import MethodError, UsageError
from benchmark.folders import data_folder
from benchmark.isolation import sandbox
from benchmark.isolation.client import ForkServer, Limits
from benchmark.isolation.facts import FULL_ISOLATION
from benchmark.jobs import MethodCode, Value
from benchmark.manifest.manifest import Manifest
from benchmark.methods.ask import check_settings, describe
from benchmark.methods.describe import MethodDescription
from benchmark.methods.find import MethodLocation
from benchmark.networks.names import library_of, parse_network
from benchmark.sources.network import NetworkTimes, time_network, try_network
from benchmark.temporary import temporary_folder


class Session:
    """One fork server, started on first use because importing torch takes seconds.

    Safe to use from several threads.

    Args:
        never: folders that no method may read, in addition to the data folder.
        cuda: whether runs use an NVIDIA GPU.
        limits: the limits of each run.
        isolation: ``required`` fails if this machine cannot sandbox methods; ``auto`` runs anyway,
            and each row records what was in force.

    Raises:
        UsageError: ``isolation`` is another word.
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
        if isolation not in ISOLATION:
            raise UsageError(f"unknown isolation {isolation!r}; known: {', '.join(ISOLATION)}")
        self._required = isolation == "required"
        self._server: ForkServer | None = None
        self._starting = threading.Lock()
        self._tried: set[tuple[str, int]] = set()

    @property
    def server(self) -> ForkServer:
        """The fork server.

        Raises:
            UsageError: isolation is required and this machine does not support it.
        """
        with self._starting:
            if self._server is None:
                self._server = ForkServer(
                    never=[data_folder(), *self._never],
                    cuda=self._cuda,
                    limits=self._limits,
                    required=_required_facts() if self._required else (),
                )
            return self._server

    def describe(self, source: MethodLocation, code: MethodCode) -> Any:
        """Ask a child process to describe a method."""
        with temporary_folder() as folder:
            return describe(self.server, source, code, folder)

    def check(self, method: MethodDescription, config: Mapping[str, Value]) -> None:
        """Let a method check settings. Its description says what it thinks of its defaults.

        Raises:
            MethodError: the method rejects them.
        """
        if config == method.configure({}):
            if method.refusal is not None:
                raise MethodError(f"{method.name}: {method.refusal}")
            return
        with temporary_folder() as folder:
            check_settings(self.server, method, config, folder)

    def with_network(self, manifest: Manifest, network: str | None) -> Manifest:
        """The manifest with another network, which a child process tries first.

        Args:
            manifest: the manifest.
            network: a network as ``--model`` takes it, or None for the manifest's own.

        Raises:
            UsageError: the network does not exist or cannot be used here.
        """
        if network is None:
            return manifest
        other = manifest.with_model(parse_network(network, manifest.document["model"]))
        library_of(other.model)
        if other.other_model is not None:
            self._try(other)
        return other

    def check_on_gpu(self, manifest: Manifest) -> None:
        """On a GPU, try the network of a manifest, once: it may have no deterministic kernels.

        Raises:
            UsageError: it cannot be trained there.
        """
        if self._cuda and _network(manifest) not in self._tried:
            self._try(manifest)

    def _try(self, manifest: Manifest) -> None:
        with temporary_folder() as folder:
            try_network(self.server, manifest, "cuda" if self._cuda else "cpu", folder)
        self._tried.add(_network(manifest))

    def time_network(self, manifest: Manifest) -> NetworkTimes | None:
        """Have a child time the network of a manifest; see :func:`time_network`."""
        with temporary_folder() as folder:
            return time_network(self.server, manifest, "cuda" if self._cuda else "cpu", folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()


def _network(manifest: Manifest) -> tuple[str, int]:
    return repr(manifest.model), manifest.input_size


def _required_facts() -> Iterable[str]:
    missing = sandbox.available().missing
    if missing:
        raise UsageError(
            f"--isolation required: this machine cannot sandbox methods ({'; '.join(missing)}); "
            "with --isolation auto, methods run anyway and every row records what was not enforced"
        )
    return FULL_ISOLATION
