"""Untrusted text, made safe to print."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """Replace the control characters of untrusted text by ``?``, except those in ``keep``."""
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)
