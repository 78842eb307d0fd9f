"""What every job of a child needs: the channel to the driver, the sandbox, and failures."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
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
from benchmark.isolation import wire
from benchmark.isolation.sandbox import Sandbox
from benchmark.jobs import MAX_TEXT, MethodCode, Network, Setup
from benchmark.method import Run, TrainingRecipe
from benchmark.networks.build import Classifier, build
from benchmark.records import NOT_APPLICABLE

PROGRESS_SECONDS = 0.2
CPU = torch.device("cpu")


class ContractError(Exception):
    """What a method returned does not fulfil the contract."""


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

    def adapted(self, notes: Mapping[str, Any], weights: bytes = b"") -> None:
        """Tell the driver that adapting is over, and send it the adapted weights, if any.

        The driver has the weights before it hands out the first test image, so that none of what
        the images reveal gets into them.
        """
        wire.send(self.channel, {"adapted": notes, "weights": len(weights)}, data=weights)

    def enter_sandbox(
        self,
        method: MethodCode | None = None,
        *,
        device: torch.device = CPU,
        write: Sequence[Path] = (),
    ) -> None:
        """Give up everything but the method's own files and the scratch folder, and report it.

        The report, with the environment, goes out before any of the method's code runs, so the
        driver can trust it. It cannot trust what comes later: a method may send ``adapted`` itself.
        It then gets the first batch of test images early, but must answer it to get the next.

        Args:
            method: whose files must be readable, if the job imports any.
            device: the device to name in the report.
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
        # Landlock binds one thread and a CUDA context starts others, so devices come after it.
        self.send(locked=list(facts), environment=numerics.environment(device))

    def start_run(self, setup: Setup) -> Run:
        """The ``run`` of a method, which reports its progress to the driver."""
        return replace(start_run(setup, self.scratch), report=self._reporter())

    def batches(self) -> Iterator[list[bytes]]:
        """The encoded images of one batch after another, each once the one before is answered.

        Raises:
            RuntimeError: the driver has exited.
        """
        while True:
            received = wire.receive(self.channel)
            if received is None:
                raise RuntimeError("the main process has exited")
            lengths = received[0]["images"]
            if not lengths:
                return
            data = bytes(wire.receive_data(self.channel, sum(lengths)))
            ends = list(accumulate(lengths))
            yield [data[end - n : end] for end, n in zip(ends, lengths, strict=True)]

    def answer(self, rows: Tensor) -> None:
        """Answer a batch with rows, float32 (B, width)."""
        data = rows.to("cpu", torch.float32).contiguous().numpy().tobytes()
        wire.send(self.channel, {"rows": len(data)}, data=data)

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
    numerics.configure(tf32=setup.recipe.get("tf32", False) is True)
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


def failure(error: Exception) -> dict[str, str]:
    """The kind, message and traceback of an exception; called while it is handled."""
    if isinstance(error, NotApplicable):
        return {"kind": NOT_APPLICABLE, "message": _text(error)[:MAX_TEXT]}
    text = _text(error)
    if rule := _rule(error):
        text = f"{rule} ({text.strip()})"
    return {
        "kind": "contract" if isinstance(error, ContractError) else "exception",
        "message": f"{type(error).__name__}: {text or _line(error)}"[:MAX_TEXT],
        "traceback": _cut(traceback.format_exc()),
    }


def _text(error: Exception) -> str:
    """The text of an exception; a method's own exception may fail to give any."""
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def _line(error: Exception) -> str:
    """The line of code that raised an exception which has no text, such as ``assert a == b``."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return f"raised by `{frames[-1].line}`" if frames and frames[-1].line else "it has no message"


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
