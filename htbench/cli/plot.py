"""A curve as a small picture of characters."""

from __future__ import annotations

from collections.abc import Sequence

_BARS = " ▁▂▃▄▅▆▇█"


def curve(values: Sequence[float], height: int = 6, width: int = 60) -> list[str]:
    """Draw values from left to right as bars above their least value, with the scale beside.

    Args:
        values: at least one finite number.
        height: lines; ``width``: the most columns (values are thinned to fit).
    """
    step = max(1, -(-len(values) // width))
    thinned = list(values[::step])
    low, high = min(thinned), max(thinned)
    span = (high - low) or 1.0
    levels = [round((value - low) / span * height * 8) for value in thinned]
    lines = []
    for row in reversed(range(height)):
        bars = "".join(_BARS[min(8, max(0, level - 8 * row))] for level in levels)
        mark = f"{high:8.3g}" if row == height - 1 else f"{low:8.3g}" if row == 0 else " " * 8
        lines.append(f"{mark} |{bars}")
    return lines
