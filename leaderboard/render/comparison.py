"""Render comparisons of methods under several conditions as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from benchmark.text import plural
from leaderboard.columns import column_of
from leaderboard.comparison import MIN_METHODS_OF_INTERVAL, Comparison, tau_interval
from leaderboard.render.cells import INCOMPLETE, literal, pipe_table, rounded

INTERVAL = "; in brackets the 95 % interval, if they were a random sample of methods"


def comparison_markdown(comparison: Comparison) -> str:
    """A heading, a table of overall accuracies and ranks, and how far the orders agree."""
    headers = ["method"]
    for name in comparison.conditions:
        headers += [literal(name), "rank"]
    rows = [_row(comparison, label) for label in comparison.overall]
    table = pipe_table([*headers, "mean", "range"], rows, left=1)
    remarks = "\n".join(f"- {remark}" for remark in _remarks(comparison))
    return f"## {comparison.title}\n\n{table}\n\n{remarks}\n"


def _row(comparison: Comparison, label: str) -> list[str]:
    values = comparison.overall[label]
    column = column_of(comparison.column)
    cells = [literal(label)]
    ranks = ["-"] * len(values)
    if label in comparison.oracles:
        cells = [f"{cells[0]} (oracle)"]
    else:
        ranks = [str(rank) for rank in comparison.ranks(label)]
    for value, rank in zip(values, ranks, strict=True):
        cells += [rounded(column, value), rank]
    spread = max(values) - min(values)
    return [*cells, rounded(column, statistics.fmean(values)), rounded(column, spread)]


def _remarks(comparison: Comparison) -> list[str]:
    first, *others = map(literal, comparison.conditions)
    taus = zip(others, tau_texts(comparison), strict=True)
    count = len(comparison.ranked)
    flipped, pairs = comparison.flips()
    lines = [
        f"{column_of(comparison.column).heading} accuracy in per cent; range: the largest minus "
        "the smallest",
        f"Kendall's tau-b with the order under {first}: "
        + ", ".join(f"{name} {tau}" for name, tau in taus)
        + f" ({plural(count, 'ranked method')}"
        + f"{INTERVAL if count >= MIN_METHODS_OF_INTERVAL else ''})",
        f"{flipped} of {plural(pairs, 'pair')} of methods change their order between two of the "
        "columns",
    ]
    if comparison.incomplete:
        lines.append(not_compared(map(literal, comparison.incomplete)))
    return lines


def not_compared(names: Iterable[str]) -> str:
    """What a comparison leaves out: methods, or tasks."""
    return f"not compared, {INCOMPLETE}: {', '.join(names)}"


def tau_texts(comparison: Comparison) -> list[str]:
    """Kendall's tau of each condition but the first, with its interval if there is one."""
    texts = []
    for tau in comparison.taus():
        low, high = tau_interval(tau, len(comparison.ranked))
        text = tau_text(tau)
        if not math.isnan(low):
            text += f" ({tau_text(low)} to {tau_text(high)})"
        texts.append(text)
    return texts


def tau_text(tau: float) -> str:
    """Kendall's tau, or a dash where there is none, as with a single ranked method."""
    return "-" if math.isnan(tau) else f"{round(tau, 2) + 0.0:.2f}"  # + 0.0: no "-0.00"
