"""What `htbench list methods` tells: of each method, of its papers, and of its means on a suite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.manifest import Suite
    from benchmark.registry import MethodDescription
    from leaderboard.board import Board

# What stands between these two is the table; the first may say more.
BEGIN = re.compile(r"<!-- methods:[^\n]*-->\n")
END = "<!-- end of methods -->"


def entries_of(methods: Iterable[MethodDescription], *, derived: bool) -> list[dict[str, Any]]:
    """What each method says of itself, and its papers, in the order of their names.

    Args:
        methods: descriptions.
        derived: whether gamma-star, which the scorer makes of finetune's runs, is among them.
    """
    from htbench.cli.cite import read_citations
    from leaderboard.results import CALIBRATED

    found = [
        {
            "method": m.name,
            "fields": {f.name: f.default for f in m.fields},
            "base": m.base,
            "track": m.track,
            "needs": list(m.needs),
            "from": m.source.origin,
            "summary": m.summary,
        }
        for m in methods
    ]
    if derived and any(entry["method"] == CALIBRATED for entry in found):
        found.append(_gamma_star())
    papers = read_citations()["methods"]
    return sorted(
        ({**entry, "papers": papers.get(entry["method"], [])} for entry in found),
        key=lambda entry: str(entry["method"]),
    )


def _gamma_star() -> dict[str, Any]:
    from benchmark.records import GAMMA_STAR
    from leaderboard.results import CALIBRATED, STAR_SUMMARY, STAR_TRACK

    return {"method": GAMMA_STAR, "fields": {}, "base": CALIBRATED, "track": STAR_TRACK,
            "needs": [], "from": "the scorer", "summary": STAR_SUMMARY}  # fmt: skip


def markdown_of(
    entries: Sequence[Mapping[str, Any]], suite: Suite | None, boards: Sequence[Board]
) -> str:
    """The entries as a README's table: what others are measured against first, oracles last."""
    from benchmark.registry import reference_first
    from htbench.cli.cite import read_citations, short_reference
    from leaderboard.render.methods import MethodLine, methods_table

    citations = read_citations()
    lines = []
    for entry in sorted(
        entries, key=lambda e: (e["track"] == "oracle", *reference_first(e["method"]))
    ):
        papers = entry["papers"]
        source, link = short_reference(papers[0], citations) if papers else ("", None)
        lines.append(MethodLine(entry["method"], entry["summary"], source, link, entry["track"]))
    return methods_table(lines, suite, boards)


def write_between(path: Path, text: str) -> None:
    """Put a text between the two markers of a file, in one step.

    Raises:
        UsageError: the file is not there, or a marker lacks, stands twice or in the wrong order.
    """
    from benchmark.errors import UsageError
    from benchmark.files import write_file

    try:
        before = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    begins, ends = list(BEGIN.finditer(before)), [m.start() for m in re.finditer(END, before)]
    for name, count in (("<!-- methods: ... -->", len(begins)), (END, len(ends))):
        if count != 1:
            raise UsageError(
                f"{path} has {'no' if count == 0 else count} line {name}; the table goes between "
                f"one line <!-- methods: ... --> and one line {END}"
            )
    if ends[0] < begins[0].end():
        raise UsageError(f"{path}: {END} stands before <!-- methods: ... -->; swap them")
    after = f"{before[: begins[0].end()]}{text}\n{before[ends[0] :]}"
    if after != before:
        write_file(path.resolve(), after.encode())  # the file itself, if the path is a link
