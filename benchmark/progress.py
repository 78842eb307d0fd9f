"""How long operations report to their caller: callbacks for one operation, a reporter for many."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

Progress = Callable[[int, int], None]  # finished, total (0 if unknown); of images or bytes
Logger = Callable[[str], None]  # one message for the user


class Reporter(Protocol):
    """Receives the progress of jobs that run side by side. Called from several threads."""

    def begin(self, name: str) -> None:
        """A job has started."""

    def step(self, name: str, done: int, total: int) -> None:
        """A job has completed ``done`` of its ``total`` steps."""

    def end(self, name: str, note: str) -> None:
        """A job has ended; ``note`` is its result in a few words."""


class Monitor(Protocol):
    """Shows the user how the work proceeds."""

    def log(self, message: str) -> None:
        """Show one message."""

    def steps(self, name: str) -> Callable[[int, int], None]:
        """A function that is called with the finished and the total steps of one long task."""

    def jobs(self, total: int) -> AbstractContextManager[Reporter]:
        """A reporter for jobs that run side by side; it is used as a context manager."""


class Silent:
    """A :class:`Monitor`, and its own reporter, that shows nothing."""

    def log(self, message: str) -> None:
        """Show nothing."""

    def steps(self, name: str) -> Callable[[int, int], None]:
        """A function that does nothing."""
        return lambda finished, total: None

    def jobs(self, total: int) -> AbstractContextManager[Reporter]:
        """A reporter that shows nothing."""
        return contextlib.nullcontext(self)

    def begin(self, name: str) -> None:
        """Show nothing."""

    def step(self, name: str, done: int, total: int) -> None:
        """Show nothing."""

    def end(self, name: str, note: str) -> None:
        """Show nothing."""
