"""Fixtures of the tests of local copies."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Do not flush the disks of a busy machine; the list has an entry for every flush."""
    flushes: list[None] = []
    monkeypatch.setattr(os, "sync", lambda: flushes.append(None))
    return flushes
