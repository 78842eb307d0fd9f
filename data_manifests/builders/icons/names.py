"""Parse an icon's name into its subject and its style."""

from __future__ import annotations

# Trailing words of an icon name that describe its style, not its subject.
# fmt: off
STYLE_SUFFIXES = frozenset(
    {
        "outline", "outlined", "line", "linear", "fill", "filled", "solid", "bold", "duotone",
        "thin", "light", "regular", "sharp", "rounded", "round", "twotone", "two-tone",
        "broken", "remix", "flat", "duo", "sm", "alt", "o", "color", "mono", "baseline",
        "basic", "path", "stroke", "medium", "small", "large", "big", "fat", "icon", "16", "20",
        "24", "32", "28", "48", "12", "10", "24px", "16px",
    }
)
# The same for leading words: some sets start with the style ('baseline-home') or the set's name.
STYLE_PREFIXES = frozenset(
    {
        "outline", "baseline", "round", "sharp", "twotone", "i", "icon", "ios", "md", "line",
        "solid",
    }
)
# fmt: on

# Words that indicate a style; icons whose measured style differs are excluded.
SOLID_WORDS = frozenset({"fill", "filled", "solid", "baseline"})
OUTLINE_WORDS = frozenset({"outline", "outlined", "line", "linear", "thin", "light", "stroke"})
# Styles between outline and solid, and crossed-out variants ('bell-off').
UNWANTED_WORDS = frozenset({"duotone", "twotone", "two-tone", "duo", "broken", "remix", "off"})


def words(name: str) -> frozenset[str]:
    """Return the hyphen-separated words of an icon name."""
    return frozenset(name.split("-"))


def normalise(name: str) -> str:
    """Strip style words from both ends of an icon name, but keep at least one word.

    >>> normalise("outline-alarm-clock-24")
    'alarm-clock'
    """
    parts = name.split("-")
    while len(parts) > 1 and parts[-1] in STYLE_SUFFIXES:
        parts.pop()
    while len(parts) > 1 and parts[0] in STYLE_PREFIXES:
        parts.pop(0)
    return "-".join(parts)
