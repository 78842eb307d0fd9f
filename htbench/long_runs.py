"""Warn of runs that take more than a day on a CPU."""

from __future__ import annotations

from collections.abc import Callable

DAY = 86400  # seconds


def long_runs(device: str, estimate: Callable[[], float | None]) -> str | None:
    """A sentence about runs that take more than a day on a CPU; None for others.

    Args:
        device: ``cpu`` or ``cuda``.
        estimate: called on a CPU; returns seconds, or None if that is unknown.
    """
    if device != "cpu" or (seconds := estimate() or 0) <= DAY:
        return None
    return f"on this CPU, the runs will take {duration(seconds)} (estimate)"


def duration(seconds: float) -> str:
    """A time for people, such as ``about 3.5 hours``."""
    for name, length in (("days", DAY), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            amount = seconds / length
            return f"about {amount:.0f} {name}" if amount >= 100 else f"about {amount:.3g} {name}"
    return f"about {seconds:.2g} s" if seconds < 10 else f"about {seconds:.0f} s"
