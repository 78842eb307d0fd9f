"""Every error that the suite raises on purpose.

    HTBenchError                  a user reads the message; no traceback, exit status 2
    ├── UsageError                an option or argument that cannot be meant
    ├── ManifestError             a manifest or suite that breaks a rule, or is not found
    ├── DataError                 images or files that are missing, damaged or not the manifest's
    ├── MethodError               a method that is unknown, clashes, or is configured wrongly
    ├── NotApplicable             what ``adapt`` raises where a method cannot work; no failure
    ├── RunError                  a run that could not be started, or whose answer is not valid
    ├── RecordError               a run record or predictions file that cannot be trusted
    └── ScoringError              logits, labels or sample ids that cannot be scored

A message says what is wrong, where, and what to do. ``ManifestError``, ``RecordError`` and
``ScoringError`` are also ``ValueError``: they report the content of a value that was passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice


class HTBenchError(Exception):
    """Root of the tree; catching it catches every mistake that the suite reports."""


class UsageError(HTBenchError):
    """An option or argument that cannot be meant."""


class ManifestError(HTBenchError, ValueError):
    """A manifest or suite that breaks a rule, or is not found."""


class DataError(HTBenchError):
    """Images or files that are missing, damaged or not the manifest's."""


class MethodError(HTBenchError):
    """A method that is unknown, clashes with another, or is configured wrongly."""


class NotApplicable(HTBenchError):
    """Raised by ``adapt`` where the method cannot work: on this network, or on this task.

    The row says so with the message as the reason, such as "the network has no BatchNorm layer".
    It is no failure, and no number.
    """


class RunError(HTBenchError):
    """A run that could not be started, or whose answer breaks the contract."""


class RecordError(HTBenchError, ValueError):
    """A run record or predictions file that cannot be trusted."""


class ScoringError(HTBenchError, ValueError):
    """Logits, labels or sample ids that cannot be scored."""


def first(items: Iterable[object], limit: int = 3) -> str:
    """Name the first offenders of a list: ``'a', 'b', 'c' and 7 more``."""
    iterator = iter(items)
    shown = [repr(item) for item in islice(iterator, limit)]
    rest = sum(1 for _ in iterator)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
