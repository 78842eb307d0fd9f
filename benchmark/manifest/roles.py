"""Which images of a task play which role: the one table that every export is built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmark.choices import CLASS_ORDERS
from benchmark.errors import UsageError
from benchmark.manifest.catalogue import load_manifest

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from benchmark.manifest.manifest import Manifest, Task


# With underscores: a split of Hugging Face `datasets` may not have a hyphen in its name.
ROLES = {
    "source_train": "source domains, training images of all classes: trains the source model",
    "source_test": "source domains, test images of all classes: source accuracy only",
    "train": "target domain, training images of the seen classes: what methods receive",
    "train_missing": "target domain, training images of the missing classes: oracle methods only",
    "test": "target domain, test images of the seen and the missing classes: scored",
    "test_excluded": "target domain, test images of all other classes: not scored",
}
COLUMNS = ("image_id", "path", "domain", "split", "role", "class", "label", "seen")


def ordered_classes(manifest: Manifest, task: Task, order: str = "manifest") -> tuple[str, ...]:
    """Class names in the order of their labels.

    Args:
        manifest: the manifest of the task.
        task: decides which classes come first in ``seen-first``.
        order: a key of :data:`CLASS_ORDERS`.

    Raises:
        UsageError: there is no such order.
    """
    if order == "manifest":
        return manifest.classes
    if order == "sorted":
        return tuple(sorted(manifest.classes))
    if order == "seen-first":
        seen = set(task.seen)
        return tuple(sorted(manifest.classes, key=lambda name: name not in seen))  # stable
    raise UsageError(f"unknown class order {order!r}; known: {', '.join(CLASS_ORDERS)}")


def task_frame(
    manifest: str | Path | Manifest, task: str, class_order: str = "manifest"
) -> pd.DataFrame:
    """The images that play a role in a task, one per row.

    Args:
        manifest: a reference such as ``icons@2.0``, a folder, or a loaded manifest.
        task: id of one of its tasks.
        class_order: decides the label of each class: ``manifest``, ``sorted`` (by name) or
            ``seen-first``.

    Returns:
        Columns ``image_id``, ``path``, ``domain``, ``split``, ``role``, ``class``, ``label`` and
        ``seen``, then ``sha256``, ``group`` and ``datetime`` if the manifest has them. ``role`` is
        ``source_train``, ``source_test``, ``train``, ``train_missing``, ``test`` or
        ``test_excluded``; ``label`` (int64) is the index of ``class`` in that order; ``seen``
        (bool) says whether the class is seen in this task, in every domain. Rows are ordered by
        role, then by ``image_id``.

    Raises:
        ManifestError: there is no such manifest or task.
        UsageError: there is no such class order.
    """
    manifest = load_manifest(manifest)
    entry = manifest.task(task)
    classes = ordered_classes(manifest, entry, class_order)
    frame: pd.DataFrame = manifest.table.to_pandas()
    source = frame["domain"].isin(entry.sources)
    target = frame["domain"] == entry.target
    train = frame["split"] == "train"
    seen = frame["class"].isin(entry.seen)
    groups = dict(zip(manifest.classes, _groups(manifest, entry), strict=True))
    scored = frame["class"].map(groups) != "excluded"
    roles = [source & train, source & ~train, target & train & seen, target & train & ~seen]
    roles += [target & ~train & scored, target & ~train & ~scored]
    rank = np.select(roles, list(range(len(ROLES))), default=-1)
    frame["role"] = np.array([*ROLES, ""], dtype=object)[rank]
    frame["label"] = frame["class"].map({name: i for i, name in enumerate(classes)})
    frame["label"] = frame["label"].astype("int64")
    frame["seen"] = seen
    rows = np.argsort(rank, kind="stable")  # the table is sorted by image_id
    rows = rows[rank[rows] >= 0]
    extra = [column for column in frame.columns if column not in COLUMNS]
    return frame[[*COLUMNS, *extra]].iloc[rows].reset_index(drop=True)


def roles_in(frame: pd.DataFrame) -> list[str]:
    """The roles of a task, in order; ``test_excluded`` only if the task has such images."""
    excluded = bool((frame["role"] == "test_excluded").any())
    return [role for role in ROLES if excluded or role != "test_excluded"]


def _groups(manifest: Manifest, task: Task) -> list[str]:
    """The group of each class: seen, missing or excluded."""
    masks = zip(manifest.seen_mask(task), manifest.missing_mask(task), strict=True)
    return ["seen" if seen else "missing" if missing else "excluded" for seen, missing in masks]


def role_frame(
    manifest: Manifest, task: str, role: str, class_order: str = "manifest"
) -> pd.DataFrame:
    """The rows of :func:`task_frame` that have one role.

    Raises:
        UsageError: there is no such role or class order.
    """
    if role not in ROLES:
        raise UsageError(f"unknown role {role!r}; known: {', '.join(ROLES)}")
    frame = task_frame(manifest, task, class_order)
    return frame[frame["role"] == role].reset_index(drop=True)


def class_counts(manifest: Manifest, task: str) -> pd.DataFrame:
    """Count the images of each class in each role of a task.

    Returns:
        One row for each class in the manifest's order: ``class``, ``group`` (``seen``,
        ``missing`` or, for a class in neither, ``excluded``), then a column of int64 counts for
        each of :data:`ROLES`.
    """
    frame = task_frame(manifest, task)
    classes = list(manifest.classes)
    counts = frame.groupby(["class", "role"], observed=True).size().unstack(fill_value=0)
    counts = counts.reindex(index=classes, columns=list(ROLES), fill_value=0).astype("int64")
    counts.insert(0, "group", _groups(manifest, manifest.task(task)))
    return counts.rename_axis(columns=None).rename_axis("class").reset_index()


def shown_classes(counts: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The classes that a figure of a target domain shows, and how many it leaves out.

    Args:
        counts: from :func:`class_counts`.

    Returns:
        The rows with a target image or a group, seen classes first, with ``any_train`` and
        ``any_test``: target images of any role; and the number of other classes.
    """
    counts = counts.assign(
        any_train=counts["train"] + counts["train_missing"],
        any_test=counts["test"] + counts["test_excluded"],
    )
    empty = (counts["group"] == "excluded") & (counts["any_train"] + counts["any_test"] == 0)
    order = counts["group"].map({"seen": 0, "missing": 1, "excluded": 2})
    shown = counts.assign(order=order)[~empty].sort_values("order", kind="stable")
    return shown.drop(columns="order").reset_index(drop=True), int(empty.sum())


def split_totals(counts: pd.DataFrame) -> dict[str, int]:
    """The number of images of each role, with test images by group.

    Args:
        counts: what :func:`class_counts` returns.
    """
    seen = counts["group"] == "seen"
    return {
        "source_train": int(counts["source_train"].sum()),
        "source_test": int(counts["source_test"].sum()),
        "train_seen": int(counts["train"].sum()),
        "train_missing": int(counts["train_missing"].sum()),
        "test_seen": int(counts["test"][seen].sum()),
        "test_missing": int(counts["test"][~seen].sum()),
        "test_excluded": int(counts["test_excluded"].sum()),
    }
