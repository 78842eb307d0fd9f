"""Types of the callbacks through which long operations report to their caller."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # finished, total (0 if unknown); of images or bytes
Logger = Callable[[str], None]  # one message for the user
