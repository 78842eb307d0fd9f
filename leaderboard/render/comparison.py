"""Render comparisons of methods under several conditions as Markdown."""

from __future__ import annotations

import statistics

from leaderboard import columns
from leaderboard.comparison import Comparison
from leaderboard.render.markdown import literal, pipe_table, rounded

OVERALL = next(column for column in columns.COLUMNS if column.key == "overall")


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
    cells = [literal(label)]
    ranks = ["-"] * len(values)
    if label in comparison.oracles:
        cells = [f"{cells[0]} (oracle)"]
    else:
        ranks = [str(rank) for rank in comparison.ranks(label)]
    for value, rank in zip(values, ranks, strict=True):
        cells += [rounded(OVERALL, value), rank]
    spread = max(values) - min(values)
    return [*cells, rounded(OVERALL, statistics.fmean(values)), rounded(OVERALL, spread)]


def _remarks(comparison: Comparison) -> list[str]:
    first, *others = comparison.conditions
    taus = zip(others, comparison.taus(), strict=True)
    flipped, pairs = comparison.flips()
    lines = [
        "overall accuracy in per cent; range: the largest minus the smallest",
        f"Kendall's tau-b with the order under {literal(first)}: "
        + ", ".join(f"{literal(name)} {tau:.2f}" for name, tau in taus),
        f"{flipped} of {pairs} pairs of methods change their order between two of the columns",
    ]
    if comparison.incomplete:
        names = ", ".join(map(literal, comparison.incomplete))
        lines.append(f"not compared, because runs are missing or failed: {names}")
    return lines
