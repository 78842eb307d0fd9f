"""The small slice of icons that the end-to-end tests run on, and commands in this process."""

from __future__ import annotations

from tests.benchmark.conftest import htbench
from tests.end_to_end.conftest import mini

__all__ = ["htbench", "mini"]
