"""The role of every image of a task, and the numbers of its classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmark.errors import ManifestError, UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.roles import (
    COLUMNS,
    ROLES,
    class_counts,
    ordered_classes,
    role_frame,
    task_frame,
)
from tests.benchmark.expected_roles import TASK, check_roles, expected_roles

Draft = Any  # the class in conftest.py


class TestTaskFrame:
    def test_it_agrees_with_the_files(self, mini: Manifest) -> None:
        frame = task_frame(mini, TASK)
        check_roles(frame, mini, TASK, mini.classes)
        assert list(frame.columns) == [*COLUMNS, "sha256", "group"]
        assert frame["label"].dtype == np.int64
        assert frame["seen"].dtype == np.bool_

    def test_it_is_ordered_by_role_and_id(self, mini: Manifest) -> None:
        frame = task_frame(mini, TASK)
        assert list(dict.fromkeys(frame["role"])) == list(ROLES)[:5]
        for _, part in frame.groupby("role"):
            assert part["image_id"].is_monotonic_increasing

    def test_it_agrees_with_the_samples_of_a_run(self, icons: Manifest) -> None:
        for task in icons.tasks:
            frame = role_frame(icons, task.id, "test")
            test = icons.samples(task.target, "test")
            assert frame["image_id"].tolist() == list(test.ids)
            assert frame["label"].tolist() == test.labels.tolist()

    def test_a_class_in_neither_group_has_its_own_role(self, draft: Draft) -> None:
        draft.document["tasks"][0]["missing"] = ["star"]  # airplane counts in no metric
        manifest = draft.read()
        frame = task_frame(manifest, "outline-solid")
        check_roles(frame, manifest, "outline-solid", manifest.classes)
        rows = frame[frame["role"] == "test_excluded"]
        assert set(rows["class"]) == {"airplane"}
        assert len(rows) == 3
        groups = class_counts(manifest, "outline-solid")["group"].tolist()
        assert groups == ["excluded", "seen", "seen", "seen", "missing"]


def test_class_orders(draft: Draft) -> None:
    draft.document["classes"] = ["star", "house", "airplane", "bug", "bell"]
    manifest = draft.read()
    task = manifest.tasks[0]
    assert ordered_classes(manifest, task) == ("star", "house", "airplane", "bug", "bell")
    classes = ordered_classes(manifest, task, "sorted")
    assert classes == ("airplane", "bell", "bug", "house", "star")
    classes = ordered_classes(manifest, task, "seen-first")
    assert classes == ("house", "bug", "bell", "star", "airplane")
    check_roles(task_frame(manifest, task.id, "seen-first"), manifest, task.id, classes)


def test_class_counts_agree_with_the_files(icons: Manifest) -> None:
    counts = class_counts(icons, TASK).set_index("class")
    sizes = expected_roles(icons, TASK).groupby(["class", "role"]).size()
    assert list(counts.index) == list(icons.classes)
    for name in icons.classes:
        for role in ROLES:
            assert counts.loc[name, role] == sizes.get((name, role), 0)


def test_an_unknown_name_lists_the_known_ones(mini: Manifest) -> None:
    with pytest.raises(ManifestError, match="has no task 'nope'"):
        task_frame(mini, "nope")
    with pytest.raises(UsageError, match="unknown class order 'nope'; known: manifest"):
        task_frame(mini, TASK, "nope")
    with pytest.raises(UsageError, match="unknown role 'val'; known: source_train"):
        role_frame(mini, TASK, "val")
