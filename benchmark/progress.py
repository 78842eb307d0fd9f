"""How long operations report to their caller: callbacks for one operation, a reporter for many."""

from __future__ import annotations

from collections.abc import Callable
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
