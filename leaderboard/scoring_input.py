"""Checks of what is scored: types, shapes, labels and groups of classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmark.errors import ScoringError, first
from benchmark.text import plural

BoolArray: TypeAlias = npt.NDArray[np.bool_]
IntArray: TypeAlias = npt.NDArray[np.intp]
FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Truth:
    """The labels of a test set and the groups of its classes, checked once for all its runs.

    Attributes:
        labels: (N,) class indices, of an index type.
        seen: (C,) bool, with both values.
        n_seen, n_missing: the numbers of samples of both groups, above 0.
        totals: (C,) samples of each class.
        groups: the classes that have samples: all, the seen and the missing ones.
    """

    labels: IntArray
    seen: BoolArray
    n_seen: int
    n_missing: int
    totals: IntArray
    groups: tuple[IntArray, IntArray, IntArray]

    @classmethod
    def of(cls, labels: object, seen: object) -> Truth:
        """Check labels and groups.

        Raises:
            ScoringError: They have the wrong type, shape or range, or one of the two groups has no
                classes or no test samples.
        """
        labels = _array("labels", labels, ndim=1, shape="(N,)")
        seen = _array("seen", seen, ndim=1, shape="(C,)")
        _check_dtypes(labels, seen)
        _check_range(labels, seen.size)
        checked = labels.astype(np.intp)  # in [0, C) by now, so exact for every integer type
        _check_groups(checked, seen)
        totals = np.bincount(checked, minlength=seen.size)
        n_seen = int(totals[seen].sum())
        groups = (totals > 0, seen & (totals > 0), ~seen & (totals > 0))
        every, of_seen, of_missing = map(np.flatnonzero, groups)
        n_missing = checked.size - n_seen
        return cls(checked, seen, n_seen, n_missing, totals, (every, of_seen, of_missing))

    def masks(self, dtype: np.dtype[Any], rows: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """What hides the columns of one group when it is added: 0 or -inf, (rows, C) each.

        Returns:
            The mask that leaves the seen classes, and the one that leaves the missing classes.
        """
        if (dtype, rows) not in self._masks:
            of_seen, of_missing = (
                np.tile(np.where(group, 0, -np.inf).astype(dtype), (rows, 1))
                for group in (self.seen, ~self.seen)
            )
            self._masks[dtype, rows] = of_seen, of_missing
        return self._masks[dtype, rows]

    @cached_property
    def _masks(self) -> dict[tuple[np.dtype[Any], int], tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        return {}


def checked_truth(logits: object, labels: object, seen: object) -> Truth:
    """Check everything but the values of the logits.

    Raises:
        ScoringError: The input has the wrong type, shape or range, or one of the two groups has no
            classes or no test samples.
    """
    logits = _array("logits", logits, ndim=2, shape="(N, C)")
    labels = _array("labels", labels, ndim=1, shape="(N,)")
    seen = _array("seen", seen, ndim=1, shape="(C,)")
    _check_logits(logits)
    _check_dtypes(labels, seen)
    _check_shapes(logits, labels, seen)
    return Truth.of(labels, seen)


def check_logits(logits: object, truth: Truth) -> None:
    """Check the type and the shape of logits.

    Raises:
        ScoringError: They are not floating-point numbers, one for each sample and class.
    """
    logits = _array("logits", logits, ndim=2, shape="(N, C)")
    _check_logits(logits)
    _check_shapes(logits, truth.labels, truth.seen)


def _array(name: str, value: object, ndim: int, shape: str) -> npt.NDArray[Any]:
    if not isinstance(value, np.ndarray):
        raise ScoringError(f"{name} must be a numpy array {shape}, not {type(value).__name__}")
    if value.ndim != ndim:
        raise ScoringError(f"{name} must have shape {shape}, not {value.shape}")
    return value


def _check_logits(logits: npt.NDArray[Any]) -> None:
    if logits.dtype.kind != "f" or logits.dtype.itemsize > 8:
        raise ScoringError(
            f"logits must be float16, float32 or float64, not {logits.dtype}; "
            "pass the model's outputs, not predicted classes"
        )


def _check_dtypes(labels: npt.NDArray[Any], seen: npt.NDArray[Any]) -> None:
    if labels.dtype.kind not in "iu":
        raise ScoringError(
            f"labels must be integers (class indices), not {labels.dtype}; convert "
            "them first, for example with labels.astype(int)"
        )
    if seen.dtype.kind != "b":
        raise ScoringError(
            f"seen must be a boolean mask over the classes, not {seen.dtype}; to "
            "convert class indices, start from an all-False mask and set "
            "mask[indices] = True"
        )


def _check_shapes(
    logits: npt.NDArray[Any], labels: npt.NDArray[Any], seen: npt.NDArray[Any]
) -> None:
    n_samples, n_classes = logits.shape
    if n_samples == 0:
        raise ScoringError("there are no samples to score (logits have 0 rows)")
    if n_classes != seen.size:
        raise ScoringError(
            f"logits have {plural(n_classes, 'column')}, but the seen mask has "
            f"{plural(seen.size, 'entry')}; give one column per class, in the manifest's order"
        )
    if n_samples != labels.size:
        raise ScoringError(
            f"logits have {plural(n_samples, 'row')} but there are {plural(labels.size, 'label')}; "
            "give one row for each labelled sample, in the same order"
        )


def _check_range(labels: npt.NDArray[Any], n_classes: int) -> None:
    outside = (labels < 0) | (labels >= n_classes)
    if outside.any():
        refuse_rows(
            f"labels outside 0..{n_classes - 1} (such as {labels[outside][0]})",
            outside,
            "use class indices in the manifest's order",
        )


def _check_groups(labels: IntArray, seen: BoolArray) -> None:
    is_seen = seen[labels]
    for name, columns, samples in (("seen", seen, is_seen), ("missing", ~seen, ~is_seen)):
        if not columns.any():
            raise ScoringError(
                f"there are no {name} classes (the seen mask is the same for all {seen.size} "
                "classes); a task needs both seen and missing classes"
            )
        if not samples.any():
            raise ScoringError(
                f"no test sample belongs to a {name} class, so {name} accuracy is undefined; "
                "check the labels and the seen mask, or leave this task out"
            )


def refuse_rows(what: str, bad: BoolArray, remedy: str) -> NoReturn:
    """Raise an error that names the rows where ``bad`` (N,) is true."""
    rows = np.flatnonzero(bad).tolist()
    raise ScoringError(
        f"{what} in {len(rows):,} of {plural(bad.size, 'sample')} (rows {first(rows)}); {remedy}"
    )
