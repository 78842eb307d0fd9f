"""What every job of a child needs: the channel to the driver, the sandbox, and failures."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark import numerics
from benchmark.child.code import OwnModules
from benchmark.child.refusals import explain
from benchmark.errors import NotApplicable
from benchmark.failpoints import reach
from benchmark.folders import harness_packages
from benchmark.images.augment import Transforms
from benchmark.images.store.tensors import LazyImages, join, open_images
from benchmark.isolation import wire
from benchmark.isolation.sandbox import Sandbox
from benchmark.jobs import MAX_TEXT, MethodCode, Network, Setup, TestImages
from benchmark.method import Run, TrainingRecipe
from benchmark.networks.build import Classifier, build
from benchmark.records import NOT_APPLICABLE

PROGRESS_SECONDS = 0.2


class ContractError(Exception):
    """What a method returned does not fulfil the contract."""


@dataclass(frozen=True)
class TestBatch:
    """The test images, and the open files for the answer's array and weights."""

    images: Tensor | LazyImages | None
    array: int
    weights: int


@dataclass(frozen=True)
class Worker:
    """A child's process.

    Attributes:
        channel: to the driver.
        sandbox: what the process enters before any code of a method is imported.
        scratch: the folder that it may write to.
        file_limit: bytes that no file it writes may exceed.
    """

    channel: socket.socket
    sandbox: Sandbox
    scratch: Path
    file_limit: int

    def send(self, **message: Any) -> None:
        """Send a message to the driver."""
        wire.send(self.channel, message)

    def enter_sandbox(
        self, method: MethodCode | None = None, *, write: Sequence[Path] = ()
    ) -> None:
        """Give up everything but the method's own files and the scratch folder, and report it.

        The report goes out before any of the method's code runs, so the driver can trust it. It
        cannot trust what comes later: a method that sends ``adapted`` itself has the test images
        early. That gives it no more than ``forward`` does, and no label.

        Args:
            method: whose files must be readable, if the job imports any.
            write: further folders to write to; only for jobs that import no method.
        """
        read = list(harness_packages())
        if method is not None:
            read += map(Path, method.files)
            sys.meta_path.insert(0, OwnModules(method.modules))
        os.environ["TMPDIR"] = os.environ["CUDA_CACHE_PATH"] = str(self.scratch)
        tempfile.tempdir = None
        _limit_files(self.file_limit)
        os.chdir(self.scratch)
        facts = self.sandbox.enter(read=read, write=[self.scratch, *write])
        reach("process-locked")
        self.send(locked=list(facts))

    def start_run(self, setup: Setup) -> Run:
        """The ``run`` of a method, which reports its progress to the driver."""
        return replace(start_run(setup, self.scratch), report=self._reporter())

    def receive_tests(self) -> TestBatch:
        """Wait for the test images, which the driver sends after ``adapted``.

        Raises:
            RuntimeError: the driver has exited.
        """
        received = wire.receive(self.channel)
        if received is None:
            raise RuntimeError("the main process has exited")
        message, descriptors = received
        *tests, array, weights = descriptors
        batch = TestImages.from_json(message)
        if batch.images is None or not tests:
            return TestBatch(None, array, weights)
        images = [
            open_images(test, count, batch.images.size, batch.images.store)
            for test, count in zip(tests, batch.counts, strict=True)
        ]
        return TestBatch(join(images, batch.images.size), array, weights)

    def _reporter(self) -> Callable[[int, int], None]:
        last = 0.0

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= PROGRESS_SECONDS:
                last = now
                self.send(progress=[int(done), int(total)])

        return report


def start_run(setup: Setup, scratch: Path) -> Run:
    """The ``run`` that a method receives; switches this process to deterministic numerics."""
    numerics.configure()
    return Run(
        device=torch.device(setup.device),
        recipe=TrainingRecipe.from_table(setup.recipe),
        transforms=Transforms(setup.transforms),
        stream=numerics.Streams(setup.seed),
        scratch=scratch,
    )


def build_network(network: Network) -> Classifier:
    """Build an untrained network."""
    return build(network.model, len(network.classes), network.input_size)


def write(descriptor: int, data: bytes) -> None:
    """Write all of the data to an open file."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def failure(error: Exception) -> dict[str, str]:
    """The kind, message and traceback of an exception; called while it is handled."""
    if isinstance(error, NotApplicable):
        return {"kind": NOT_APPLICABLE, "message": _text(error)[:MAX_TEXT]}
    text = _text(error)
    if rule := _rule(error):
        text = f"{rule} ({text.strip()})"
    return {
        "kind": "contract" if isinstance(error, ContractError) else "exception",
        "message": f"{type(error).__name__}: {text}"[:MAX_TEXT],
        "traceback": _cut(traceback.format_exc()),
    }


def _text(error: Exception) -> str:
    """The text of an exception; a method's own exception may fail to give any."""
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def _rule(error: Exception) -> str | None:
    """The rule that an exception comes from; a method's own exception may hinder the search."""
    try:
        return explain(error)
    except Exception:
        return None


def _cut(text: str) -> str:
    """The beginning and the end of a text: a traceback says where first and what last."""
    half = MAX_TEXT // 2 - 10
    return text if len(text) <= MAX_TEXT else f"{text[:half]}\n[...]\n{text[-half:]}"


def _limit_files(size: int) -> None:
    """Limit the size of each file: writing more is an error, not a full disk."""
    import resource  # not on every system

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
