"""The columns of the leaderboard: of its tables, and of its CSV, JSON and Parquet files.

Each column of a table is fully defined by its entry in ``COLUMNS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from benchmark.errors import UsageError
from leaderboard.rows import Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What disruption and the gap are measured from.
SOURCE, BN_STATS, ORACLE = "source", "bn-stats", "oracle-finetune"
FINETUNE = "finetune"
REFERENCES = (SOURCE, FINETUNE, ORACLE)  # what other methods are shown beside

# A number, or an array with its value in each bootstrap draw of the test samples.
Value: TypeAlias = "float | NDArray[np.float64]"
# From the row of a run, and the rows of all runs with scores on the same task and seed by label,
# to the value of the run; NaN if it has none. The metrics of the rows may be arrays.
Compute = Callable[[Row, Mapping[str, Row]], Value]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the board.

    Attributes:
        key: its name in CSV and JSON.
        heading: its name in tables.
        legend: what it shows, for the caption of a table.
        digits: decimal places in tables.
        compute: computes the value of one run; the board averages over tasks and seeds.
        sampled: whether it is computed from the test samples, so that tables show an interval.
        linear: whether it is linear in the outcomes of the samples, so that its mean over seeds is
            its value for the mean outcomes.
        lower_is_better: whether the smallest value is the best, rather than the largest.
        optional: whether tables show it only on request. CSV and JSON have every column.
    """

    key: str
    heading: str
    legend: str
    digits: int
    compute: Compute
    sampled: bool = False
    linear: bool = True
    lower_is_better: bool = False
    optional: bool = False


# Keys of the columns that a table shows first, by ``Manifest.headline``. The first of them orders
# and ranks the methods.
HEADLINES = {
    "micro": ("overall", "seen", "missing"),
    "macro": ("macro_overall", "macro_seen", "macro_missing"),
}


def table_columns(
    requested: Sequence[str] = (), headline: Sequence[str] = HEADLINES["micro"]
) -> tuple[Column, ...]:
    """Return the columns of a table, in order.

    Args:
        requested: keys of optional columns to include; others may be named as well.
        headline: keys of the columns that come first.

    Raises:
        UsageError: a key is not that of a column.
    """
    keys = [column.key for column in COLUMNS]
    if unknown := [key for key in requested if key not in keys]:
        raise UsageError(f"{unknown[0]!r} is not a column; choose from: {', '.join(keys)}")
    shown = (c for c in COLUMNS if not c.optional or c.key in (*requested, *headline))
    return tuple(sorted(shown, key=lambda c: c.key not in headline))


def column_of(key: str) -> Column:
    """The column with a key."""
    return next(column for column in COLUMNS if column.key == key)


def column_values(row: Row, peers: Mapping[str, Row]) -> dict[str, Any]:
    """Return one run's value for every column, by column key.

    Args:
        row: the run's row.
        peers: the rows of all runs with scores on the same task and seed, by label.
    """
    return {column.key: column.compute(row, peers) for column in COLUMNS}


def _value(row: Row | None, name: str) -> Any:
    """A number of a row, or an array of its values; NaN if the row or the number is missing."""
    value = None if row is None else row[name]
    return math.nan if value is None else value


def _entry(name: str, scale: float = 1) -> Compute:
    """Computes a column that is an entry of the row, divided by ``scale``."""
    return lambda row, peers: _value(row, name) / scale


def _disruption(reference: str) -> Compute:
    """Computes the missing accuracy of a reference minus that of the row."""
    return lambda row, peers: _value(peers.get(reference), "missing") - _value(row, "missing")


def _gap_closed(row: Row, peers: Mapping[str, Row]) -> float:
    """NaN unless the oracle is above the source: otherwise there is no gap to close."""
    source, oracle = (_value(peers.get(label), "overall") for label in (SOURCE, ORACLE))
    gap = np.asarray(oracle - source)
    closed = 100 * (_value(row, "overall") - source) / np.where(gap > 0, gap, np.nan)
    return closed if np.ndim(closed) else float(closed)


MICRO = (
    Column(
        key="overall",
        heading="overall",
        legend="accuracy on all test images, in per cent",
        digits=1,
        compute=_entry("overall"),
        sampled=True,
    ),
    Column(
        key="seen",
        heading="seen",
        legend="accuracy on seen classes, predicted among all classes, in per cent",
        digits=1,
        compute=_entry("seen"),
        sampled=True,
    ),
    Column(
        key="missing",
        heading="missing",
        legend="accuracy on missing classes, predicted among all classes, in per cent",
        digits=1,
        compute=_entry("missing"),
        sampled=True,
    ),
)

MACRO = tuple(
    replace(
        column,
        key=f"macro_{column.key}",
        heading=f"macro {column.heading}",
        legend=f"{column.key} as an unweighted mean over classes, in per cent",
        compute=_entry(f"macro_{column.key}"),
        optional=True,
    )
    for column in MICRO
)

COLUMNS = (
    *MICRO,
    *MACRO,
    Column(
        key="disruption",
        heading="disr.",
        legend=f"disruption: missing-class accuracy lost relative to {SOURCE} (in points; lower is "
        "better)",
        digits=1,
        compute=_disruption(SOURCE),
        sampled=True,
        lower_is_better=True,
    ),
    Column(
        key="disruption_bn_stats",
        heading="disr. bn",
        legend=f"disruption relative to {BN_STATS}, because BatchNorm statistics alone change the "
        "missing-class accuracy (in points)",
        digits=1,
        compute=_disruption(BN_STATS),
        optional=True,
        sampled=True,
        lower_is_better=True,
    ),
    Column(
        key="harmonic",
        heading="H",
        legend="harmonic mean of seen and missing",
        digits=1,
        compute=_entry("harmonic"),
        sampled=True,
        linear=False,
    ),
    Column(
        key="ausuc",
        heading="AUSUC",
        legend="area under the seen-unseen accuracy curve, from 0 to 1",
        digits=3,
        compute=_entry("ausuc"),
        sampled=True,
    ),
    Column(
        key="openworld_auc",
        heading="OWAUC",
        legend="OpenworldAUC, from 0 to 1: the share of pairs of a seen-class and a missing-class "
        "image in which both are right within their group and the first has the larger margin",
        digits=3,
        compute=_entry("openworld_auc"),
        optional=True,
        sampled=True,
    ),
    Column(
        key="gap_closed",
        heading="gap",
        legend=f"percentage of the gap in overall accuracy between {SOURCE} and "
        f"{ORACLE} that the method closes",
        digits=0,
        compute=_gap_closed,
        sampled=True,
        linear=False,
    ),
    Column(
        key="total_steps",
        heading="steps",
        legend="gradient steps, including those of the base run that the method starts from, as "
        "in depth, adapt s and MiB; * if the method declared some of them itself",
        digits=0,
        compute=_entry("total_steps"),
    ),
    Column(
        key="sequential_steps",
        heading="depth",
        legend="sequential gradient steps; steps of models that could train in parallel, as the "
        "method declares, count once",
        digits=0,
        compute=_entry("sequential_steps"),
    ),
    Column(
        key="measured_adapt_seconds",
        heading="adapt s",
        legend="seconds from the lock of the process, before the method is imported, to the "
        "adapted model",
        digits=1,
        compute=_entry("measured_adapt_seconds"),
    ),
    Column(
        key="measured_predict_seconds",
        heading="pred s",
        legend="seconds to predict the test images, without the base run",
        digits=1,
        compute=_entry("measured_predict_seconds"),
    ),
    Column(
        key="peak_mib",
        heading="MiB",
        legend="peak memory of the process, in MiB",
        digits=0,
        compute=_entry("measured_peak_memory", scale=2**20),
    ),
)

# What CSV, JSON and Parquet say of a cell before its values: name -> meaning.
CELL = {
    "label": "the method, with those of its settings that are not the default",
    "track": "`standard`, or `oracle` for a method that is not ranked",
    "task": "the task, `mean` for the unweighted mean over the suite's tasks, or `pooled` for "
    "their test images together",
    "tasks": "how many tasks the values cover: 0 where there are none",
    "seeds": "how many seeds the values are means of; with tasks of several counts, the smallest",
    "state": "`ok`, `partial` (runs are missing), `failed` or `not-applicable`",
    "method_code": "digest of the method's code",
    "provenance": "`local`; of an accepted submission `submitted`, or `verified` if the "
    "maintainers have repeated runs of it",
    "runs": "how many runs exist, shown or not",
    "other_runs": "how many of them are not shown",
}
# What they say of each value: suffix of the column's name -> meaning.
SUFFIXES = {
    "": "mean over seeds (and, for `mean`, over tasks), not rounded",
    "_std": "sample standard deviation over seeds",
    "_half": "half the width of the 95 % interval",
}
TABLE = "the table of the suite: runs that do not compare are in separate tables"
RANK = (
    "1 + the number of methods that are significantly better in overall accuracy, or in macro "
    "overall if this is the headline"
)


def file_columns() -> tuple[str, ...]:
    """The names of the columns of a CSV file, in order."""
    keys = [column.key for column in COLUMNS]
    values = [f"{key}{suffix}" for key in keys for suffix in ("", "_std")]
    return ("table", *CELL, *values, "rank", *(f"{key}_half" for key in keys))
