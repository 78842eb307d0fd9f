"""Text for people: untrusted text made safe to print, and lists of numbers."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime

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
    if text.isascii() and text.isprintable():  # nearly always
        return text[:limit]
    return "".join(
        character
        if (character.isprintable() and character not in _INVISIBLE) or character in keep
        else REPLACEMENT
        for character in text[:limit]
    )


def shortened(text: str, limit: int) -> str:
    """Cut the middle out of a text that takes more bytes than ``limit`` as UTF-8.

    The beginning says what the text is about, and messages end with the remedy.
    """
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return text
    mark = " … "
    end = limit // 3
    begin = limit - end - len(mark.encode())
    return data[:begin].decode(errors="ignore") + mark + data[-end:].decode(errors="ignore")


def first_line(text: str) -> str:
    """The first line of a text; a bracket that it leaves open is closed.

    Example:
        >>> first_line("leave it uncompiled (PermissionError: no\\nDetails: none)")
        'leave it uncompiled (PermissionError: no …)'
    """
    first = text.lstrip("\n").partition("\n")[0]
    return f"{first} …)" if first.count("(") > first.count(")") else first


def one_line(value: object, limit: int) -> str:
    """An untrusted value as one printable line of at most ``limit`` bytes."""
    try:
        text = str(value)
    except RecursionError:
        text = "(nested too deeply)"
    # Cut before, too: replacing characters takes time, and makes the text longer.
    return shortened(printable(shortened(text, limit)), limit)


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers as ranges, ascending, for a sentence.

    Example:
        >>> ranges([0, 1, 2, 5])
        '0-2, 5'
    """
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def plural(number: int, name: str) -> str:
    """A number of things, such as ``1 run``, ``2 classes``, ``3 copies`` or ``10,000 runs``."""
    return f"{number:,} {name if number == 1 else plural_of(name)}"


def plural_of(name: str) -> str:
    """The plural of a noun, such as ``classes``."""
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}{'es' if name.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def seed_list(seeds: Iterable[int]) -> str:
    """Seeds for a sentence, such as ``seed 1`` or ``seeds 0-2``."""
    seeds = set(seeds)
    return f"seed{'s' if len(seeds) > 1 else ''} {ranges(seeds)}"


def time_of(seconds: float) -> datetime | None:
    """A time in seconds since 1970, from a file, in UTC; None for one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def printable_json(value: object) -> str:
    """A value as indented JSON in which every character that is not visible is escaped.

    Raises:
        ValueError: the value is nested too deeply, or has no JSON.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False)
    except RecursionError:
        raise ValueError("the value is nested too deeply for JSON") from None
    # Outside strings, JSON is ASCII; inside them, line breaks are escaped already.
    return _NOT_ASCII.sub(lambda match: _escaped(match[0]), text)


_NOT_ASCII = re.compile(r"[^\x20-\x7e\n]+")


def _escaped(text: str) -> str:
    return "".join(c if printable(c) == c else json.dumps(c)[1:-1] for c in text)


def near(name: str, known: Iterable[str]) -> str:
    """A question that suggests the nearest known names, with a space after it; empty for none.

    Example:
        >>> near("finetun", ["finetune", "lora"])
        'did you mean finetune? '
    """
    names = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(names)}? " if names else ""
