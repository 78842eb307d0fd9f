"""The conversation with a child: which messages it may send, in which order, and their checks.

The child runs untrusted code. Only its first message, sent before that code is imported, is
trusted; rows are checked for size and values, and strings are truncated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from benchmark.errors import RunError
from benchmark.failpoints import reach
from benchmark.isolation.answers import Answers, BadAnswer, HandOut
from benchmark.isolation.client import GONE
from benchmark.jobs import MAX_LOG_ROWS, MAX_METRICS, MAX_NOTES, MAX_TEXT, Job
from benchmark.numerics import ENVIRONMENT_FACTS
from benchmark.progress import Progress
from benchmark.records import DEVICE_MEMORY, NOT_APPLICABLE, WEIGHTS_FILE
from benchmark.text import plural, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from benchmark.isolation.client import Child, ForkServer

OUTPUT_FILE = "output.txt"
MAX_WEIGHTS = 16 << 30  # bytes
MAX_COUNT = 2**53
MAX_NOTE = 200
MAX_METRIC_NAME = 50  # characters


@dataclass
class Outcome:
    """The outcome of a job: an error, or the answer with its rows checked.

    Attributes:
        error: ``kind``, ``message`` and ``traceback``, or None.
        array: float32 (N, width), one row for each image that was handed out: logits, or features.
        weights: a safetensors file, empty if the child sent none; None before it has adapted.
        isolation: facts of the sandbox, reported before any code of a method ran.
        environment: versions and device, reported before any code of a method ran.
        notes: what the child reported after adapting: training log and notes.
        cost: seconds and bytes as measured from outside. Steps and the bytes of a CUDA device are
            counted in the child.
    """

    error: dict[str, str] | None = None
    array: NDArray[np.float32] | None = None
    weights: Path | None = None
    isolation: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)

    @property
    def error_text(self) -> str:
        """The message and the traceback of the error."""
        assert self.error is not None
        return f"{self.error['message']}\n{self.error['traceback']}".strip()


class _Failure(Exception):
    """The job has failed: the child said so, broke the rules of the conversation, or died."""

    def __init__(self, error: dict[str, str]) -> None:
        super().__init__(error["message"])
        self.error = error


def request(server: ForkServer, job: Job, folder: Path) -> dict[str, Any]:
    """Run a job without images; return the child's ``done`` or ``failed`` message, unchecked."""
    with (folder / OUTPUT_FILE).open("wb") as output, server.start(job, output.fileno()) as child:
        try:
            message = _next_message(child, no_progress, "locked")
            _isolation(message["locked"], server)
            return _next_message(child, no_progress, "done")
        except _Failure as failure:
            return {"failed": failure.error}


def reason_of(error: Mapping[str, str]) -> str:
    """The message of the error of a job, without the type of a child's exception."""
    first, colon, rest = error["message"].partition(": ")
    return rest if colon else first


def run_job(
    server: ForkServer,
    job: Job,
    hand_out: HandOut | None,
    folder: Path,
    progress: Progress,
    *,
    weights_limit: int = MAX_WEIGHTS,
) -> Outcome:
    """Run a job in a child, hand out images once it has adapted, check its answers.

    Args:
        server: forks the child.
        job: see ``benchmark/jobs.py``.
        hand_out: the images, if any; the child has one batch at a time.
        folder: for its output and its weights.
        progress: called with steps done and their total.
        weights_limit: the most bytes of weights.

    Raises:
        RunError: the fork server has exited, or isolation is required and was not in force.
    """
    outcome, clock = Outcome(cost=_steps({})), {"begun": time.perf_counter()}
    with ExitStack() as stack:
        output = stack.enter_context((folder / OUTPUT_FILE).open("wb"))
        child = stack.enter_context(server.start(job, output.fileno()))
        reach("child-started")
        try:
            message = _next_message(child, progress, "locked")
            clock["locked"] = time.perf_counter()
            outcome.isolation = _isolation(message["locked"], server)
            outcome.environment = _environment(message.get("environment"))
            message = _next_message(child, progress, "adapted")
            clock["adapted"] = time.perf_counter()
            reach("child-adapted")
            outcome.notes = _checked_notes(message["adapted"])
            outcome.cost |= _steps(message["adapted"])
            outcome.weights = folder / WEIGHTS_FILE
            _receive_weights(child, message.get("weights"), outcome.weights, weights_limit)
            array = _ask(child, hand_out, progress) if hand_out else None
            message = _next_message(child, progress, "done")
            outcome.array = array
            outcome.cost |= _steps(message["done"]) | _device_memory(message["done"])
        except _Failure as failure:
            outcome.error = failure.error
            _check_in_time(outcome)
        reach("answer-received")
        clock["done"] = time.perf_counter()
        ended = child.finish()
    if not server.alive:  # Ctrl-C, or the server was killed: not a result of the run
        raise RunError(GONE)
    outcome.cost |= {**_seconds(clock), "peak_memory": ended.peak_memory}
    return outcome


def _seconds(clock: Mapping[str, float]) -> dict[str, float]:
    """Time of adapting, which begins with the lock and so includes the import of the method."""
    done = clock["done"]
    adapted = clock.get("adapted", done)
    return {
        "adapt_seconds": adapted - clock.get("locked", adapted),
        "predict_seconds": done - adapted,
        "wall_seconds": done - clock["begun"],
    }


def _receive_weights(child: Child, size: object, path: Path, limit: int) -> None:
    """Write the weights that follow a message to a file, before the child has any test image."""
    if not _is_count(size):
        raise _broken(f"the run announced weights of {_text(size, 100)} bytes")
    if size > limit:
        raise _broken(f"the run sent {size} bytes of weights, more than the network has")
    left = size
    with path.open("wb") as file:
        while left:
            part = child.receive_data(min(left, 1 << 20))
            if part is None:
                raise _ended(child)
            file.write(part)
            left -= len(part)


def _ask(child: Child, hand_out: HandOut, progress: Progress) -> NDArray[np.float32]:
    """Hand out the images batch by batch; the child's rows, in the order of the images."""
    answers = Answers(hand_out)
    for batch in hand_out.batches:
        data = [hand_out.images.read(index) for index in batch]
        child.send({"images": list(map(len, data))}, b"".join(data))
        rows = _receive_rows(child, len(batch), hand_out.width, progress)
        try:
            answers.add(batch, rows)
        except BadAnswer as error:
            raise _broken(str(error)) from None
    child.send({"images": []})
    return answers.rows


def _receive_rows(child: Child, count: int, width: int, progress: Progress) -> bytearray:
    size, expected = _next_message(child, progress, "rows")["rows"], count * width * 4
    if size != expected:
        raise _broken(
            f"the run returned {_text(size, 100)} bytes of logits for {plural(count, 'image')}, "
            f"but {expected} were expected"
        )
    rows = child.receive_data(expected)
    if rows is None:
        raise _ended(child)
    return rows


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


def _next_message(child: Child, progress: Progress, kind: str) -> dict[str, Any]:
    """The child's next message of a kind; progress is passed on, anything else is a failure."""
    while True:
        try:
            message = child.receive()
        except RunError as error:
            raise _broken(str(error)) from None
        if message is None:
            raise _ended(child)
        if "failed" in message:
            raise _Failure(_checked_failure(message["failed"]))
        if kind in message:
            return message
        steps = message.get("progress")
        if not (isinstance(steps, list) and len(steps) == 2 and all(map(_is_count, steps))):
            sent = _text(message, 100)
            raise _broken(f"the run's process sent an unexpected message: {sent!r}")
        finished, total = steps
        progress(min(finished, total) if total else finished, total)


def _ended(child: Child) -> _Failure:
    ended = child.finish()
    if child.killed_for:
        return _failure("limit", f"the run was stopped: {child.killed_for}")
    # With a colon, as the messages of exceptions have one: see `reason_of`.
    return _failure("died", f"the run ended early: its process {ended} before it returned a result")


def _broken(message: str) -> _Failure:
    return _failure("contract", message)


def _failure(kind: str, message: str) -> _Failure:
    return _Failure({"kind": kind, "message": message, "traceback": ""})


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


def _environment(facts: object) -> dict[str, str]:
    """Versions and device, of which only the known ones count."""
    known = facts if isinstance(facts, dict) else {}
    return {name: _text(known[name], 200) for name in ENVIRONMENT_FACTS if name in known}


def _device_memory(done: object) -> dict[str, int]:
    """Peak bytes on a CUDA device, if the child reported a number."""
    value: Any = done.get(DEVICE_MEMORY) if isinstance(done, dict) else None
    return {DEVICE_MEMORY: value} if _is_count(value) else {}


def _steps(message: object) -> dict[str, float]:
    """Gradient steps: those that the harness counted, and those that the method declared itself.

    A method may declare more steps than were counted, for updates without an optimizer of torch,
    and that not all of them depended on one another. A step that it does not declare is sequential.
    """
    counts = message if isinstance(message, dict) else {}
    counted, declared, depth = (
        counts[name] if _is_count(counts.get(name)) else 0
        for name in ("counted_steps", "total_steps", "sequential_steps")
    )
    total = max(counted, declared)
    return {
        "total_steps": total,
        "sequential_steps": min(total, (depth or declared) + total - declared),
        "declared_steps": total - counted,
    }


def _checked_notes(notes: object) -> dict[str, Any]:
    """Training log (finite numbers by short names) and short notes."""
    if not isinstance(notes, dict):
        return {}
    rows = notes.get("log")
    log = [
        _checked_row(row)
        for row in (rows if isinstance(rows, list) else [])[:MAX_LOG_ROWS]
        if isinstance(row, dict)
    ]
    texts = notes.get("notes")
    lines = [
        _text(line, MAX_NOTE).replace("\n", " ")
        for line in (texts if isinstance(texts, list) else [])[:MAX_NOTES]
    ]
    return {"log": log, "notes": lines}


def _checked_row(row: dict[Any, Any]) -> dict[str, float]:
    """The first numbers of a row; names that are equal once they are cut get a number."""
    checked: dict[str, float] = {}
    for name, value in islice(row.items(), MAX_METRICS):
        if not _is_number(value):
            continue
        short, count = _text(name, MAX_METRIC_NAME), 1
        while short in checked:
            count += 1
            end = f"~{count}"
            short = _text(name, MAX_METRIC_NAME - len(end)) + end
        checked[short] = float(value)
    return checked


def _is_count(value: object) -> TypeGuard[int]:
    """A whole number that any arithmetic, and any file format, can take."""
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_number(value: object) -> bool:
    if type(value) is int:
        return abs(value) <= MAX_COUNT
    return type(value) is float and math.isfinite(value)


def _text(value: object, limit: int = MAX_TEXT) -> str:
    """Untrusted text, made safe to print; line breaks and tabs are kept."""
    return printable(str(value), keep="\n\t", limit=limit)
