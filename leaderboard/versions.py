"""Chooses the runs of a table: every row shows one version of its method's code and settings.

Runs of the same label may differ in the method's code, in defaults that have changed, in the code
of the method that they start from, or in what the suite computed them with. Such runs are
different versions: one version is shown, and the others are counted below the table.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmark.files import digest_json
from benchmark.manifest.suite import Suite
from benchmark.records import NOT_APPLICABLE
from leaderboard import gamma_star
from leaderboard.rows import Row, group_rows, json_text

CODE_DIGITS = 8  # of a code digest, where people read it
MAX_NAMED = 3  # versions or cells that a remark names


class Version(NamedTuple):
    """What all runs of a row have in common: everything that a key covers except the cell.

    Attributes:
        code: digest of the method's code.
        settings: all settings as JSON; without those that a search chose, which differ by task.
        search: what the search tried, as JSON; None without a search.
        device: ``cpu`` or ``cuda``.
        computation: the suite's code, torch and the like, as JSON.
        base: the version of the method that the runs start from; None without one. If that run is
            not in the workspace, its key, which no other cell has.
    """

    code: str
    settings: str
    search: str | None
    device: str
    computation: str
    base: str | None


@dataclass(frozen=True)
class Selection:
    """The runs that a table shows.

    Attributes:
        rows: one per label, task and seed; the rows of a label have one version.
        runs: how many runs of a label and task exist, shown or not.
        remarks: lines on the runs that are not shown.
    """

    rows: list[Row]
    runs: Mapping[tuple[str, str], int]
    remarks: tuple[str, ...]


def select(
    suite: Suite, rows: Iterable[Row], every: Mapping[str, Row], asked: Collection[str]
) -> Selection:
    """Choose the runs that a table shows.

    Of each label, one version is shown: of the versions that were asked for (of all, if none was),
    the one with runs in the most cells of the suite, and the newest of several. Rows that are
    derived from runs are shown if their runs are.

    Args:
        suite: the suite, whose tasks and seeds are the cells.
        rows: the rows of the table.
        every: all rows of the results by key, to look up the runs that others start from.
        asked: keys of the runs that the user has just asked for.
    """
    rows = list(rows)
    runs = [row for row in rows if row["method"] != gamma_star.NAME]
    shown: list[Row] = []
    remarks: list[str] = []
    for label, of_label in sorted(group_rows(runs, lambda row: row["label"]).items()):
        versions = group_rows(of_label, lambda row: version_of(row, every))
        wanted = {v: r for v, r in versions.items() if any(row["key"] in asked for row in r)}
        version = max(wanted or versions, key=lambda v: _rank(suite, versions[v]))
        in_time = sorted(versions[version], key=_time)
        shown += {(row["task"], row["seed"]): row for row in in_time}.values()
        remarks += _other_versions(label, version, versions)
        remarks += _repeated_cells(label, in_time)
    keys = {row["key"] for row in shown}
    shown += [r for r in rows if r["method"] == gamma_star.NAME and r["base"] in keys]
    return Selection(shown, Counter((row["label"], row["task"]) for row in rows), tuple(remarks))


def version_of(row: Row, every: Mapping[str, Row]) -> Version:
    """The version of a run.

    Args:
        row: its row.
        every: all rows of the results by key.
    """
    search = json.loads(row["search"]) if row["search"] else {}
    chain = [row]
    while chain[-1]["base"] in every:
        chain.append(every[chain[-1]["base"]])
    base = chain[-1]["base"]
    for run in reversed(chain[1:]):
        base = digest_json(_version(run, search, base))
    return _version(row, search, base)


def _version(row: Row, search: Mapping[str, object], base: str | None) -> Version:
    settings = row["config"] or "{}"
    if search:
        chosen = search["chosen"]
        assert isinstance(chosen, dict)
        config = json.loads(settings)
        settings = json_text({name: v for name, v in config.items() if name not in chosen})
    return Version(
        code=row["method_code"] or "",
        settings=settings,
        search=json_text(_procedure(search)) if search else None,
        device=row["device"] or "",
        computation=row["computation"] or "{}",
        base=base,
    )


def _procedure(search: Mapping[str, object]) -> dict[str, object]:
    """How a search chose settings, without its results, which differ by task."""
    tried = search["tried"]
    assert isinstance(tried, list)
    results = {"chosen", "steps", "tried"}
    rest = {name: value for name, value in search.items() if name not in results}
    return {**rest, "tried": [entry["settings"] for entry in tried]}


def _rank(suite: Suite, rows: Sequence[Row]) -> tuple[int, tuple[float, str]]:
    """In how many cells a version has runs, and its newest run."""
    cells = {(row["task"], row["seed"]) for row in rows}
    # What does not apply to a task with one seed does not apply with any other.
    cells |= {
        (row["task"], seed)
        for row in rows
        if row["status"] == NOT_APPLICABLE
        for seed in suite.seeds
    }
    return len(cells), max(map(_time, rows))


def _time(row: Row) -> tuple[float, str]:
    """When a run finished; of two at the same time, the key decides."""
    return float(row["measured_finished"] or 0), row["key"]


# --- remarks -----------------------------------------------------------------------------------


def _other_versions(
    label: str, shown: Version, versions: Mapping[Version, Sequence[Row]]
) -> list[str]:
    """Name the versions of a label that are not shown, the newest first."""
    others = sorted(
        (version for version in versions if version != shown),
        key=lambda version: max(map(_time, versions[version])),
        reverse=True,
    )
    if not others:
        return []
    counts = {other: _count(len(versions[other]), "run") for other in others}
    parts = [
        f"{counts[other]} of {_name(other)}{_differences(shown, other)}"
        for other in others[:MAX_NAMED]
    ]
    if rest := others[MAX_NAMED:]:
        count = sum(len(versions[other]) for other in rest)
        parts.append(f"{_count(count, 'run')} of {_count(len(rest), 'more version')}")
    return [f"{label}: the row shows {_name(shown)}; not averaged: {'; '.join(parts)}"]


def _repeated_cells(label: str, rows: Iterable[Row]) -> list[str]:
    """Name the cells in which a version has several runs."""
    counts = Counter((row["task"], row["seed"]) for row in rows)
    repeated = sorted(cell for cell, count in counts.items() if count > 1)
    if not repeated:
        return []
    parts = [f"{task}, seed {seed} ({counts[task, seed]} runs)" for task, seed in repeated]
    if len(repeated) > MAX_NAMED:
        parts[MAX_NAMED:] = [_count(len(repeated) - MAX_NAMED, "more cell")]
    return [f"{label}: the row shows the newest of several runs: {'; '.join(parts)}"]


def _name(version: Version) -> str:
    return f"code {version.code[:CODE_DIGITS] or '-'}"


def _differences(shown: Version, other: Version) -> str:
    """What differs between two versions besides the method's code, in brackets."""
    one, two = json.loads(shown.computation), json.loads(other.computation)
    facts = sorted(name for name in {*one, *two} if one.get(name) != two.get(name))
    names = [
        *(name for name in ("settings", "search", "device") if _differ(shown, other, name)),
        *("code of the suite" if name == "compute" else name for name in facts),
        *(["base"] if _differ(shown, other, "base") else []),
    ]
    return f" (other {', '.join(names)})" if names else ""


def _differ(one: Version, two: Version, name: str) -> bool:
    return bool(getattr(one, name) != getattr(two, name))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
