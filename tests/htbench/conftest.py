"""The small slice of icons that the end-to-end tests run on."""

from __future__ import annotations

from tests.end_to_end.conftest import mini

__all__ = ["mini"]
