"""The command line in the process of a test."""

from __future__ import annotations

from collections.abc import Callable

Htbench = Callable[..., tuple[int, str, str]]  # arguments to status, standard output and error
