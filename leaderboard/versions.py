"""Chooses the runs of a table: every row shows one version of its method's code and settings.

Runs of the same label may differ in the method's code, in defaults that have changed, in the code
of the method that they start from, or in what the benchmark computed them with. Such runs are
different versions: one version is shown, and the others are counted below the table.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmark.files import digest_json
from benchmark.manifest.suite import Suite
from benchmark.records import NOT_APPLICABLE
from benchmark.text import plural, printable
from leaderboard import gamma_star
from leaderboard.row_columns import Rows
from leaderboard.rows import Row, group_rows, json_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODE_DIGITS = 8  # of a code digest, where people read it
MAX_NAMED = 3  # versions or cells that a remark names


class Version(NamedTuple):
    """What all runs of a row have in common: everything that a key covers except the cell.

    Attributes:
        code: digest of the method's code.
        settings: all settings as JSON; without those that a search chose, which differ by task.
        search: what the search tried, as JSON; None without a search.
        device: ``cpu`` or ``cuda``.
        computation: the benchmark's code, torch and the like, as JSON.
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

    rows: Rows
    runs: Mapping[tuple[str, str], int]
    remarks: tuple[str, ...]


def select(suite: Suite, rows: Rows, every: Rows, asked: Collection[str]) -> Selection:
    """Choose the runs that a table shows.

    Of each label, one version is shown: of the versions that were asked for (of all, if none was),
    the one with runs in the most cells of the suite, and the newest of several. Rows that are
    derived from runs are shown if their runs are.

    Args:
        suite: the suite, whose tasks and seeds are the cells.
        rows: the rows of the table.
        every: all rows of the results, to look up the runs that others start from.
        asked: keys of the runs that the user has just asked for.
    """
    is_derived = rows.equal("method", gamma_star.NAME)
    runs = _by_time(rows.where(~is_derived))
    labels, facts = runs.codes("label"), _facts(runs, every)
    cells = runs.combined("label", "task", "seed")
    by_key: Mapping[str, Row] = _ByKey(every)
    shown: list[NDArray[np.intp]] = []
    remarks: list[str] = []
    order = np.argsort(labels.numbers, kind="stable")
    parts = np.split(
        order, np.cumsum(np.bincount(labels.numbers, minlength=len(labels.names)))[:-1]
    )
    for label, part in sorted(zip(labels.names, parts, strict=True), key=lambda pair: pair[0]):
        if (facts[part] == facts[part[0]]).all() and len(np.unique(cells[part])) == len(part):
            shown.append(part)  # the usual case: all are of one version
            continue
        of_label = list(runs.take(part))
        versions = group_rows(of_label, lambda row: version_of(row, by_key))
        wanted = {v: r for v, r in versions.items() if any(row["key"] in asked for row in r)}
        version = max(wanted or versions, key=lambda v: _rank(suite, versions[v]))
        in_time = versions[version]
        newest = {(row["task"], row["seed"]): row["key"] for row in in_time}
        position = dict(zip((row["key"] for row in of_label), part.tolist(), strict=True))
        shown.append(np.array([position[key] for key in newest.values()], dtype=np.intp))
        remarks += _other_versions(label, version, versions)
        remarks += _repeated_cells(label, in_time)
    chosen = runs.take(np.concatenate([np.empty(0, dtype=np.intp), *shown]))
    derived = rows.where(is_derived)
    if len(derived):
        chosen = chosen.joined(derived.where(derived.is_in("base", chosen.texts("key"))))
    return Selection(chosen, _runs_of_cells(rows), tuple(remarks))


def _by_time(rows: Rows) -> Rows:
    """The rows in the order in which they finished; of two at the same time, the key decides."""
    keys = np.array(rows.texts("key"), dtype=object)
    return rows.take(np.lexsort((keys, np.nan_to_num(rows.numbers("measured_finished")))))


def _runs_of_cells(rows: Rows) -> dict[tuple[str, str], int]:
    """The number of rows of each label and task."""
    labels, tasks = rows.codes("label"), rows.codes("task")
    shape = len(labels.names), len(tasks.names)
    counts = np.bincount(labels.numbers * shape[1] + tasks.numbers, minlength=shape[0] * shape[1])
    return {
        (labels.names[i], tasks.names[t]): int(count)
        for (i, t), count in np.ndenumerate(counts.reshape(shape))
        if count
    }


def _facts(runs: Rows, every: Rows) -> NDArray[np.intp]:
    """(N,) numbers that are equal only for runs of one version.

    Runs of one version may have different numbers if searches chose their settings.
    """
    own = every.combined("method_code", "config", "search", "device", "computation")
    bases, keys = every.codes("base"), every.texts("key") if every.is_known("base").any() else []
    if keys:
        position = {key: i for i, key in enumerate(keys)}
        of_names = np.array([position.get(base, -1) for base in bases.names], dtype=np.intp)
        base = of_names[bases.numbers]
        # A base that is not there is known by its key.
        own = _pairs(own, np.where(base < 0, bases.numbers, -1))
        number = 0
        while (count := len(np.unique(own))) > number:  # one more run of each chain
            number, own = count, _pairs(own, np.where(base < 0, -1, own[base]))
    of_table = np.zeros(int(every.positions.max(initial=-1)) + 1, dtype=np.intp)
    of_table[every.positions] = own
    return np.asarray(of_table[runs.positions])


def _pairs(one: NDArray[np.intp], two: NDArray[np.intp]) -> NDArray[np.intp]:
    """(N,) numbers that are equal where both of two numbers from -1 are equal."""
    pairs = one * (int(two.max(initial=0)) + 2) + two + 1
    return np.asarray(np.unique(pairs, return_inverse=True)[1])


class _ByKey(Mapping[str, Row]):
    """Rows by their keys."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @cached_property
    def _position(self) -> dict[str, int]:
        return {key: i for i, key in enumerate(self._rows.texts("key"))}

    def __getitem__(self, key: str) -> Row:
        return self._rows[self._position[key]]

    def __contains__(self, key: object) -> bool:
        return key in self._position

    def __iter__(self) -> Iterator[str]:
        return iter(self._position)

    def __len__(self) -> int:
        return len(self._rows)


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
    counts = {other: plural(len(versions[other]), "run") for other in others}
    parts = [
        f"{counts[other]} of {_name(other)}{_differences(shown, other)}"
        for other in others[:MAX_NAMED]
    ]
    if rest := others[MAX_NAMED:]:
        count = sum(len(versions[other]) for other in rest)
        parts.append(f"{plural(count, 'run')} of {plural(len(rest), 'more version')}")
    line = f"{label}: the row shows {_name(shown)}; not averaged: {'; '.join(parts)}"
    return [printable(line)]


def _repeated_cells(label: str, rows: Iterable[Row]) -> list[str]:
    """Name the cells in which a version has several runs."""
    counts = Counter((row["task"], row["seed"]) for row in rows)
    repeated = sorted(cell for cell, count in counts.items() if count > 1)
    if not repeated:
        return []
    parts = [f"{task}, seed {seed} ({counts[task, seed]} runs)" for task, seed in repeated]
    if len(repeated) > MAX_NAMED:
        parts[MAX_NAMED:] = [plural(len(repeated) - MAX_NAMED, "more cell")]
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
