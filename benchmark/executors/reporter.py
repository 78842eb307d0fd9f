"""Who tells the user about progress."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Told about every job. Called from several threads."""

    def begin(self, name: str) -> None:
        """A job has started."""

    def step(self, name: str, done: int, total: int) -> None:
        """A job has done some of its steps."""

    def end(self, name: str, note: str) -> None:
        """A job has ended; ``note`` is its result in a few words."""
