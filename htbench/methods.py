"""Human-readable information on methods: their summaries, papers and mean accuracies on a suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmark.citations import OURS, read_citations, short_reference
from benchmark.errors import MethodError
from benchmark.manifest.suite import Suite
from benchmark.methods.describe import MethodDescription
from benchmark.methods.find import entry_point_sources, is_builtin, reference_first
from benchmark.methods.resolve import resolve
from benchmark.session import Session
from leaderboard import gamma_star
from leaderboard.board import Board
from leaderboard.render.methods import MethodLine, methods_table


def describe_methods(
    suite: Suite | None,
    plugins: Sequence[str] = (),
    report: Callable[[str], None] | None = None,
) -> list[MethodDescription]:
    """Describe the methods of a suite, or every installed one, and the plugins.

    A child process imports them.

    Args:
        suite: the suite; None for all methods that are installed.
        plugins: files with methods, as ``--plugin`` takes them.
        report: without a suite, called with a sentence for each method of another distribution
            that cannot be described, which is then left out; None: it is an error.

    Raises:
        MethodError: a method is unknown or cannot be described, or two have the same name.
    """
    with Session() as session:

        def described(names: Iterable[str], plugins: Sequence[str]) -> list[MethodDescription]:
            return resolve(names, plugins, session.describe, gamma_star.DERIVED)

        if suite is not None:
            return described(suite.methods, plugins)
        names = []
        for name, location in entry_point_sources().items():
            if report is not None and not is_builtin(location):
                try:
                    described([name], [])
                except MethodError as error:
                    remedy = f"correct {location.origin}, or uninstall it to do without it"
                    report(f"{name} is left out: {error}; {remedy}")
                    continue
            names.append(name)
        return described(names, plugins)


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
    unconfirmed = read_citations()["unconfirmed"]["methods"]
    lines = []
    for entry in sorted(
        entries, key=lambda e: (e["track"] == "oracle", *reference_first(e["method"]))
    ):
        papers = entry["papers"]
        paper, link = short_reference(papers[0]) if papers else ("", None)
        if entry["method"] in unconfirmed:
            paper = f"after {paper}; {OURS}'s form"
        lines.append(MethodLine(entry["method"], entry["summary"], paper, link, entry["track"]))
    return methods_table(lines, suite, boards)
