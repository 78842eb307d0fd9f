"""The type of the fixture ``htbench``."""

from __future__ import annotations

from collections.abc import Callable

Htbench = Callable[..., tuple[int, str, str]]  # arguments -> (status, standard output and error)
