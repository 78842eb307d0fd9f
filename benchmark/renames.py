"""What must hold before a new folder gets its name.

Loads no torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_checks: ContextVar[tuple[Callable[[], None], ...]] = ContextVar("checks", default=())


@contextlib.contextmanager
def checked_renames(check: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` before each new folder of this thread's block gets its name.

    If it raises an error, the folder is discarded.
    """
    token = _checks.set((*_checks.get(), check))
    try:
        yield
    finally:
        _checks.reset(token)


def check_rename() -> None:
    """Call the checks of the blocks that this thread is in."""
    for check in _checks.get():
        check()
