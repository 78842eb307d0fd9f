"""The conversation with a child: which messages it may send, in which order, and their checks.

The child runs untrusted code. Only its sandbox report, sent before that code is imported, is
trusted; arrays are checked for size and values, and strings are truncated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.errors import RunError
from benchmark.failpoints import reach
from benchmark.isolation.client import GONE
from benchmark.jobs import MAX_LOG_ROWS, MAX_NOTES, MAX_TEXT, ImageJob, Job, TestImages
from benchmark.progress import Progress
from benchmark.records import DEVICE_MEMORY, NOT_APPLICABLE, WEIGHTS_FILE
from benchmark.text import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmark.isolation.client import Child, ForkServer

OUTPUT_FILE = "output.txt"
ARRAY_FILE = "array.f32"
MAX_COUNT = 2**53
MAX_NOTE = 200


@dataclass
class Outcome:
    """The outcome of a job: an error, or the answer with its arrays checked.

    Attributes:
        error: ``kind``, ``message`` and ``traceback``, or None.
        array: float32 (N, width) in the order of the test files: logits, or features.
        weights: a safetensors file, empty if none were requested.
        isolation: facts of the sandbox, reported before any code of a method ran.
        facts: the environment, as reported by the child.
        notes: what the child reported after adapting: steps and training log.
        cost: seconds and bytes as measured from outside; the bytes of a CUDA device and the
            gradient steps are self-reported by the child.
    """

    error: dict[str, str] | None = None
    array: NDArray[np.float32] | None = None
    weights: Path | None = None
    isolation: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)

    @property
    def error_text(self) -> str:
        """The message and the traceback of the error."""
        assert self.error is not None
        return f"{self.error['message']}\n{self.error['traceback']}".strip()


def request(server: ForkServer, job: Job, folder: Path) -> dict[str, Any]:
    """Run a job without images; return the child's ``done`` or ``failed`` message, unchecked."""
    with (folder / OUTPUT_FILE).open("wb") as output, server.start(job, output.fileno()) as child:
        message = _next_message(child, no_progress, until="locked")
        if "locked" in message:
            _isolation(message["locked"], server)
            message = _next_message(child, no_progress)
    return message


def run_job(
    server: ForkServer,
    job: Job,
    tests: Sequence[tuple[Path, int]],
    shape: tuple[int, int],
    folder: Path,
    progress: Progress,
) -> Outcome:
    """Run a job in a child, send it the test images once it has adapted, check its answer.

    Args:
        server: forks the child.
        job: see ``benchmark/jobs.py``.
        tests: image files and the number of images in each; withheld until the child reports
            that it has adapted.
        shape: of the float32 array that the child must write.
        folder: for its output and its arrays.
        progress: called with steps done and their total.

    Raises:
        RunError: the fork server has exited, or isolation is required and was not in force.
    """
    outcome = Outcome()
    begun = time.perf_counter()
    with ExitStack() as stack:
        output = stack.enter_context((folder / OUTPUT_FILE).open("wb"))
        child = stack.enter_context(server.start(job, output.fileno()))
        reach("child-started")
        message = _next_message(child, progress, until="locked")
        if "locked" in message:
            outcome.isolation = _isolation(message["locked"], server)
            message = _next_message(child, progress, until="started")
        started = time.perf_counter()
        if "started" in message:
            message = _next_message(child, progress, until="adapted")
        adapted = time.perf_counter()
        if "adapted" in message:
            reach("child-adapted")
            outcome.notes = _checked_notes(message["adapted"])
            outcome.weights = folder / WEIGHTS_FILE
            files = [
                *(stack.enter_context(path.open("rb")) for path, _ in tests),
                stack.enter_context((folder / ARRAY_FILE).open("wb")),
                stack.enter_context(outcome.weights.open("wb")),
            ]
            images = job.images if isinstance(job, ImageJob) else None
            handover = TestImages(images, tuple(count for _, count in tests))
            child.send(handover.to_json(), [file.fileno() for file in files])
            message = _next_message(child, progress)
        reach("answer-received")
        done = time.perf_counter()
        ended = child.finish()
    if not server.alive:  # Ctrl-C, or the server was killed: not a result of the run
        raise RunError(GONE)
    outcome.cost = {
        "adapt_seconds": adapted - started,
        "predict_seconds": done - adapted,
        "wall_seconds": done - begun,
        "total_steps": outcome.notes.get("total_steps", 0),
        "sequential_steps": outcome.notes.get("sequential_steps", 0),
        "peak_memory": ended.peak_memory,
    }
    if "done" in message:
        outcome.facts = _checked_facts(message["done"])
        outcome.cost |= _device_memory(message["done"])
        outcome.array, outcome.error = _read_array(folder / ARRAY_FILE, shape)
    else:
        outcome.error = message["failed"]
        _check_in_time(outcome)
    return outcome


def _check_in_time(outcome: Outcome) -> None:
    """Only ``adapt`` may declare a method not applicable, before it has the test images."""
    assert outcome.error is not None
    if outcome.error["kind"] == NOT_APPLICABLE and outcome.weights is not None:
        outcome.error["kind"] = "contract"
        outcome.error["message"] = (
            "the method raised NotApplicable after adapt() had returned: "
            f"{outcome.error['message']}; raise it only in adapt()"
        )


def no_progress(done: int, total: int) -> None:
    """Ignore the progress of a job."""


def _next_message(child: Child, progress: Progress, until: str = "done") -> dict[str, Any]:
    """The child's next message of a kind; progress is passed on, anything else is a failure."""
    while True:
        try:
            message = child.receive()
        except RunError as error:
            return _failed("contract", str(error))
        if message is None:
            ended = child.finish()
            if child.killed_for:
                return _failed("limit", f"the run was stopped: {child.killed_for}")
            return _failed("died", f"the run's process {ended} before it returned a result")
        if "failed" in message:
            return {"failed": _checked_failure(message["failed"])}
        if until in message:
            return message
        steps = message.get("progress")
        if not (isinstance(steps, list) and len(steps) == 2 and all(map(_is_count, steps))):
            sent = _text(message, 100)
            return _failed("contract", f"the run's process sent an unexpected message: {sent!r}")
        progress(*steps)


def _failed(kind: str, message: str) -> dict[str, Any]:
    return {"failed": {"kind": kind, "message": message, "traceback": ""}}


def _isolation(facts: object, server: ForkServer) -> list[str]:
    """The facts of a child's sandbox.

    Raises:
        RunError: isolation is required, and one of the required facts is absent.
    """
    reported = [str(fact) for fact in facts] if isinstance(facts, list) else []
    if absent := server.required.difference(reported):
        raise RunError(
            f"--isolation required: this machine cannot enforce {', '.join(sorted(absent))}; run "
            "`htbench doctor` to find out why, or use --isolation auto"
        )
    return reported


def _checked_failure(failure: object) -> dict[str, str]:
    texts = failure if isinstance(failure, dict) else {}
    return {name: _text(texts.get(name, "")) for name in ("kind", "message", "traceback")}


def _checked_facts(facts: object) -> dict[str, Any]:
    if not isinstance(facts, dict):
        return {}
    items = [(k, v) for k, v in facts.items() if k != DEVICE_MEMORY]
    return {_text(k, 50): _text(v, 200) for k, v in items[:20]}


def _device_memory(facts: object) -> dict[str, int]:
    """Peak bytes on a CUDA device, if the child reported a number."""
    value: Any = facts.get(DEVICE_MEMORY) if isinstance(facts, dict) else None
    return {DEVICE_MEMORY: value} if _is_count(value) else {}


def _checked_notes(notes: object) -> dict[str, Any]:
    """Step counts (whole numbers), training log (finite numbers by short names), short notes."""
    if not isinstance(notes, dict):
        return {}
    counts = {
        name: notes[name]
        for name in ("total_steps", "sequential_steps")
        if _is_count(notes.get(name))
    }
    rows = notes.get("log")
    log = [
        {_text(k, 50): float(v) for k, v in row.items() if _is_number(v)}
        for row in (rows if isinstance(rows, list) else [])[:MAX_LOG_ROWS]
        if isinstance(row, dict) and len(row) <= 50
    ]
    texts = notes.get("notes")
    lines = [
        _text(line, MAX_NOTE).replace("\n", " ")
        for line in (texts if isinstance(texts, list) else [])[:MAX_NOTES]
    ]
    return {**counts, "log": log, "notes": lines}


def _is_count(value: object) -> bool:
    """A whole number that any arithmetic, and any file format, can take."""
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_number(value: object) -> bool:
    if type(value) is int:
        return abs(value) <= MAX_COUNT
    return type(value) is float and math.isfinite(value)


def _text(value: object, limit: int = MAX_TEXT) -> str:
    """Untrusted text, made safe to print; line breaks and tabs are kept."""
    return printable(str(value), keep="\n\t", limit=limit)


def _read_array(
    path: Path, shape: tuple[int, int]
) -> tuple[NDArray[np.float32] | None, dict[str, str] | None]:
    """The numbers that a child wrote, checked here: its own report is not trusted."""
    expected, size = shape[0] * shape[1] * 4, path.stat().st_size
    if size != expected:
        problem = f"the run wrote {size} bytes of logits, but {expected} were expected"
        return None, _failed("contract", problem)["failed"]
    values = np.fromfile(path, dtype=np.float32).reshape(shape)
    if not np.isfinite(values).all():
        return None, _failed("contract", "the run wrote logits that are NaN or infinite")["failed"]
    return values, None
