"""Human-readable information on methods: their summaries, papers and mean accuracies on a suite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark import session
from benchmark.citations import read_citations, short_reference
from benchmark.commands import command
from benchmark.errors import UsageError, first
from benchmark.files import check_output, write_file
from benchmark.manifest.suite import Suite
from benchmark.methods.describe import MethodDescription
from benchmark.methods.find import entry_point_sources, reference_first
from benchmark.methods.resolve import resolve
from benchmark.runs.workspace import Workspace
from leaderboard import gamma_star
from leaderboard.board import Board
from leaderboard.render.methods import MethodLine, methods_table, without_means

# The table goes between these two lines; the first may say more.
BEGIN = re.compile(r"<!-- methods:[^\n]*-->\n")
END = "<!-- end of methods -->"


def describe_methods(suite: Suite | None, plugins: Sequence[str] = ()) -> list[MethodDescription]:
    """Describe the methods of a suite, or every installed one, and the plugins.

    A child process imports them.

    Args:
        suite: the suite; None for all methods that are installed.
        plugins: files with methods, as ``--plugin`` takes them.

    Raises:
        MethodError: a method is unknown or cannot be described, or two have the same name.
    """
    names = suite.methods if suite else entry_point_sources()
    with session.Session() as started:
        return resolve(names, plugins, started.describe, gamma_star.DERIVED)


def method_entries(methods: Iterable[MethodDescription], *, derived: bool) -> list[dict[str, Any]]:
    """Return each method's name, summary, fields and citation keys, sorted by name.

    Args:
        methods: descriptions.
        derived: whether to add entries for results that the leaderboard derives from these methods'
            predictions.
    """
    entries: list[dict[str, Any]] = [
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
    if derived and any(entry["method"] == gamma_star.BASE for entry in entries):
        entries.append(dict(gamma_star.METHOD_ENTRY))
    papers = {**read_citations()["methods"], **gamma_star.PAPERS}
    return sorted(
        ({**entry, "papers": papers.get(entry["method"], [])} for entry in entries),
        key=lambda entry: str(entry["method"]),
    )


def markdown_table(
    entries: Sequence[Mapping[str, Any]], suite: Suite | None, boards: Sequence[Board]
) -> str:
    """Format the entries as a Markdown table, with reference methods first and oracles last."""
    lines = []
    for entry in sorted(
        entries, key=lambda e: (e["track"] == "oracle", *reference_first(e["method"]))
    ):
        papers = entry["papers"]
        paper, link = short_reference(papers[0]) if papers else ("", None)
        lines.append(MethodLine(entry["method"], entry["summary"], paper, link, entry["track"]))
    return methods_table(lines, suite, boards)


def check_complete(
    entries: Sequence[Mapping[str, Any]],
    boards: Sequence[Board],
    suite: Suite,
    workspace: Workspace,
) -> None:
    """Check that every method has all of its runs for a suite.

    Args:
        entries: what :func:`method_entries` returned.
        boards: the boards of the suite.
        suite: the suite.
        workspace: contains the runs.

    Raises:
        UsageError: some runs are missing; the message names the command that runs them.
    """
    if incomplete := without_means(boards, [entry["method"] for entry in entries]):
        run = command("run", "--suite", suite.argument, *workspace.option)
        raise UsageError(
            f"the workspace {workspace.root} does not have all runs of suite {suite.name}: "
            f"{len(incomplete)} of {len(entries)} methods are incomplete "
            f"({first(incomplete)}); run `{run}`"
        )


def replace_table(path: Path, table: str) -> None:
    """Atomically replace the text between the two marker lines of a file.

    Raises:
        UsageError: the file cannot be read or is a link, or a marker is missing, repeated or
            misplaced.
    """
    check_output(path)
    try:
        before = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    begins, ends = list(BEGIN.finditer(before)), [m.start() for m in re.finditer(END, before)]
    for name, count in (("<!-- methods: ... -->", len(begins)), (END, len(ends))):
        if count != 1:
            raise UsageError(
                f"{path} must contain the line {name} exactly once, but contains it {count} times; "
                f"the table is written between the lines <!-- methods: ... --> and {END}"
            )
    if ends[0] < begins[0].end():
        raise UsageError(f"{path}: {END} comes before <!-- methods: ... -->; swap them")
    after = f"{before[: begins[0].end()]}{table}\n{before[ends[0] :]}"
    if after != before:
        write_file(path, after.encode())
