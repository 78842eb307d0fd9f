"""The exceptions that the benchmark raises.

    HTBenchError                  a mistake or problem that the message explains
    ├── UsageError                an invalid option or argument
    ├── ManifestError             an invalid manifest or suite, or one that does not exist
    ├── DataError                 images or files that are missing, damaged or unexpected
    ├── StorageError              files that cannot be written, such as onto a full disk
    ├── MethodError               an unknown method, a name conflict or invalid settings
    ├── NotApplicable             the method cannot work on this network or task; not a failure
    ├── RunError                  a run that did not start or that returned an invalid result
    ├── RecordError               an invalid run record or predictions file
    └── ScoringError              logits, labels or sample ids that cannot be scored

The command line prints the message without a traceback and exits with status 2. A message says what
is wrong, where, and how to fix it. ``ManifestError``, ``RecordError`` and ``ScoringError`` are also
``ValueError``, since they report an invalid value.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from benchmark.text import one_line, shortened

MAX_MESSAGE = 2000  # bytes of a message
MAX_ITEM = 150  # bytes of one name in a message


class HTBenchError(Exception):
    """Base class: catch it to catch every error that the benchmark reports."""

    def __str__(self) -> str:
        """The message, cut to ``MAX_MESSAGE`` bytes: it may quote what others wrote."""
        return shortened(super().__str__(), MAX_MESSAGE)


class UsageError(HTBenchError):
    """An invalid option or argument."""


class ManifestError(HTBenchError, ValueError):
    """An invalid manifest or suite, or one that does not exist."""


class DataError(HTBenchError):
    """Images or files that are missing, damaged or different from the manifest's."""


class StorageError(HTBenchError):
    """Files that cannot be written, such as onto a full disk; other data would not help.

    It is not a ``DataError``, so that code that tries one origin after the other stops here.
    """


class MethodError(HTBenchError):
    """An unknown method, two methods of one name, or invalid settings."""


class NotApplicable(HTBenchError):
    """The method cannot work on this network or this task; ``adapt`` raises it.

    This is not a failure: the cell of the leaderboard shows "not applicable", with the message as
    the reason.

    Example:
        >>> from htbench import NotApplicable
        >>> def require_two_classes(target):
        ...     if (count := int(target.seen.sum())) < 2:
        ...         raise NotApplicable(f"the method needs two seen classes; the task has {count}")
        >>> require_two_classes(target)
    """


class RunError(HTBenchError):
    """A run that did not start, or that returned an invalid result."""


class RecordError(HTBenchError, ValueError):
    """An invalid or modified run record or predictions file."""


class ScoringError(HTBenchError, ValueError):
    """Logits, labels or sample ids that cannot be scored."""


def first(items: Iterable[object], limit: int = 3) -> str:
    """Format the first items for a message: ``'a', 'b', 'c' and 7 more``."""
    iterator = iter(items)
    shown = [one_line(repr(item), MAX_ITEM) for item in islice(iterator, limit)]
    rest = sum(1 for _ in iterator)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
