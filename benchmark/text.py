"""Untrusted text, made safe to print."""

from __future__ import annotations

# The sign that Unicode reserves for "something here could not be shown". A "?" or a space could be
# the author's own.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# Letters and marks that str.isprintable() accepts but that have no glyph: fillers and joiners,
# with which two different names look the same.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")


def printable(text: str, *, keep: str = "", limit: int | None = None) -> str:
    """Replace every character that is not visible, so that text cannot forge or hide output.

    Replaced are control characters (C0 and C1, so no terminal escape sequence is left), line and
    paragraph separators, bidirectional controls, zero-width characters, spaces other than the
    ASCII one, unpaired surrogates, private-use and unassigned characters.

    Args:
        text: text from a plugin, a file or the network.
        keep: characters to leave as they are, such as ``"\\n"``.
        limit: the largest length of the result; the rest is cut off.

    Returns:
        Text of the same length, or of length ``limit``, that encodes as UTF-8.
    """
    return "".join(
        character
        if (character.isprintable() and character not in _INVISIBLE) or character in keep
        else REPLACEMENT
        for character in text[:limit]
    )
