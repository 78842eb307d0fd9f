"""Progress on standard error: bars on a terminal, plain lines otherwise."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

import click

from benchmark.errors import MAX_MESSAGE
from benchmark.text import one_line, printable, shortened
from htbench.long_runs import duration

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from benchmark.progress import Reporter

MEGABYTE = 10**6


def log(message: str) -> None:
    """Print a message on standard error."""
    click.echo(shortened(printable(message, keep="\n"), MAX_MESSAGE), err=True)


def _is_terminal() -> bool:
    """Whether standard error is shown on a terminal; a process may have none at all."""
    return sys.stderr is not None and sys.stderr.isatty()


class Terminal:
    """The :class:`benchmark.progress.Monitor` that the command line uses."""

    def log(self, message: str) -> None:
        """Print a message on standard error."""
        log(message)

    def steps(self, name: str) -> Callable[[int, int], None]:
        """Report the progress of one long task in lines."""
        return StepLines(name)

    def jobs(self, total: int) -> AbstractContextManager[Reporter]:
        """Show a bar per job on a terminal, and otherwise a line per finished job."""
        return JobBars(total) if _is_terminal() else JobLines(total)


class JobLines:
    """Prints a line when a job ends, and one about the running jobs when none has ended for long.

    Args:
        total: number of jobs.
        seconds: how long no line is printed before the first about running jobs; later ones come
            after a twentieth of the time since the start, if that is more.
    """

    def __init__(self, total: int, seconds: float = 30) -> None:
        self._total, self._ended = total, 0
        self._seconds, self._start = seconds, time.monotonic()
        self._last_line = self._start
        self._running: dict[str, _Steps] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def begin(self, name: str) -> None:
        """Note that the job runs."""
        with self._lock:
            self._running[name] = _Steps()

    def step(self, name: str, done: int, total: int) -> None:
        """Note the job's progress."""
        with self._lock:
            self._running[name].note(done, total)

    def end(self, name: str, note: str) -> None:
        """Print a line."""
        with self._lock:
            self._running.pop(name, None)
            self._ended += 1
            self._print(f"{name}: {note}")

    def _tell(self) -> None:
        """Print lines about the running jobs, until all is over."""
        rest = self._seconds
        while not self._over.wait(rest):
            with self._lock:
                pause = max(self._seconds, (time.monotonic() - self._start) / 20)
                rest = self._last_line + pause - time.monotonic()
                if rest <= 0:
                    rest = pause
                    running = [f"{name}: {steps}" for name, steps in self._running.items()]
                    if running:
                        self._print(f"running: {'; '.join(running)}")

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        log(f"[{self._ended}/{self._total}] {text}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


class _Total:
    """The number of a job's steps, for as long as it stays the same.

    A method may train several times, and only the steps until the end of the training that runs are
    known: a total that has grown will grow again.
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._has_grown = False

    def known(self, done: int, total: int) -> int | None:
        """The total, or None where it is not known."""
        self._first = self._first or total
        self._has_grown |= total > self._first
        return total if total >= done and not self._has_grown else None


class _Steps:
    """The steps of a running job, and how long the others will take."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._done = 0
        self._total = _Total()
        self._known: int | None = None

    def note(self, done: int, total: int) -> None:
        """Note how many are done."""
        self._done, self._known = done, self._total.known(done, total)
        self._first = self._first or (time.monotonic(), done)

    def __str__(self) -> str:
        now = time.monotonic()
        if self._first is None:
            return f"for {duration(now - self._start)}"
        begun, first = self._first
        if self._known is None:
            return f"step {self._done}"
        steps = f"step {self._done} of {self._known}"
        if self._done == first:
            return steps
        left = (now - begun) / (self._done - first) * (self._known - self._done)
        return f"{steps}, {duration(left)} left"


class JobBars:
    """Shows a bar for all jobs and one for each running job."""

    def __init__(self, total: int) -> None:
        from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn

        self._bars = _rich_bars(MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"))
        self._all = self._bars.add_task("runs", total=total)
        self._jobs: dict[str, tuple[TaskID, _Total]] = {}

    def begin(self, name: str) -> None:
        """Add the job's bar."""
        self._jobs[name] = self._bars.add_task(f"  {name}", total=None), _Total()

    def step(self, name: str, done: int, total: int) -> None:
        """Advance the job's bar."""
        bar, of_job = self._jobs[name]
        _show(self._bars, bar, done, of_job.known(done, total))

    def end(self, name: str, note: str) -> None:
        """Remove the job's bar, and print a line if the job produced no predictions."""
        self._bars.remove_task(self._jobs.pop(name)[0])
        self._bars.advance(self._all)
        if note.startswith(("failed", "not applicable")):
            self._bars.console.print(
                one_line(f"{name}: {note}", MAX_MESSAGE), markup=False, highlight=False
            )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


class StepLines:
    """Prints the progress of one long task, at most once per second and less often as time passes.

    Args:
        name: the task.
        unit: the unit of its steps, such as ``MB``; empty if the steps are items.
        scale: number of steps per unit.
    """

    def __init__(self, name: str, unit: str = "", scale: int = 1) -> None:
        self._name, self._start, self._scale = name, time.monotonic(), scale
        self._unit = f" {unit}" if unit else ""
        self._next_line, self._first = self._start + 1, 0

    def __call__(self, done: int, total: int) -> None:
        """Print the progress and the time left, unless a line was printed recently."""
        done, total = done // self._scale, total // self._scale
        now = time.monotonic()
        self._first = self._first or done
        if now < self._next_line:
            return
        elapsed = now - self._start
        self._next_line = now + max(1, elapsed / 20)  # fewer than a hundred lines in an hour
        rate = (done - self._first) / elapsed
        of_all = f" of {total}" if total >= done else ""  # otherwise it is not known
        speed = f", {rate:.3g}{self._unit}/s" if rate else ""
        left = f", about {(total - done) / rate:.0f} s left" if rate and of_all else ""
        log(f"{self._name}: {done}{of_all}{self._unit}{speed}{left}")


@contextlib.contextmanager
def step_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Show the progress of consecutive steps, with speed and remaining time.

    Yields:
        A function that takes a step's name and returns its progress callback. Steps whose name
        begins with ``downloading`` are counted in bytes.
    """
    if not _is_terminal():
        yield _step_lines
        return
    from rich.progress import TextColumn

    with _rich_bars(TextColumn("{task.fields[amount]}")) as bars:

        def start(name: str) -> Callable[[int, int], None]:
            bar = bars.add_task(name, total=None, amount="")

            def update(done: int, total: int) -> None:
                speed = bars.tasks[bars.task_ids.index(bar)].speed or 0
                is_known = total >= done
                of_all = f" of {total}" if is_known else ""
                amount = f"{done}{of_all}, {speed:.0f}/s"
                if _in_bytes(name):
                    of_all = f" of {total / MEGABYTE:.0f}" if is_known else ""
                    amount = f"{done / MEGABYTE:.0f}{of_all} MB, {speed / MEGABYTE:.1f} MB/s"
                _show(bars, bar, done, total if is_known else None, amount=amount)

            return update

        yield start


def _step_lines(name: str) -> StepLines:
    return StepLines(name, "MB", MEGABYTE) if _in_bytes(name) else StepLines(name)


def _in_bytes(name: str) -> bool:
    return name.startswith("downloading")


def _show(bars: Progress, bar: TaskID, done: int, total: int | None, **fields: Any) -> None:
    """Advance a bar; without a total, it shows neither a share nor the time left."""
    bars.tasks[bars.task_ids.index(bar)].total = total  # an update with None keeps the last one
    bars.update(bar, completed=done, **fields)


def _rich_bars(*columns: ProgressColumn) -> Progress:
    """Bars of rich with a name, some columns and the time left, gone when they stop."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),  # a setting may be any text, such as [/b]
        BarColumn(bar_width=24),
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
