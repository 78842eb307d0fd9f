"""Folds contain seen training images only, and the settings with the best mean are chosen."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import UsageError
from benchmark.manifest.manifest import Manifest, Task
from benchmark.manifest.roles import task_frame
from benchmark.tuning.folds import Trial, best, fold, trial

REPEATS = 3


def image_ids(manifest: Manifest, split: str) -> set[str]:
    """The ids of all images of a split."""
    return set(manifest.samples([d.name for d in manifest.domains], split).ids)


@pytest.mark.parametrize("repeat", range(REPEATS))
@pytest.mark.parametrize("number", range(3))
def test_a_fold_has_the_seen_training_images_only(icons, number, repeat):
    task = icons.tasks[number]
    pseudo_manifest = fold(icons, task, repeat)
    seen = {icons.classes.index(name) for name in task.seen}
    train = icons.samples(task.target, "train")
    seen_ids = {i for i, label in zip(train.ids, train.labels, strict=True) if label in seen}
    assert image_ids(pseudo_manifest, "train") | image_ids(pseudo_manifest, "test") == seen_ids
    assert not image_ids(pseudo_manifest, "train") & image_ids(pseudo_manifest, "test")


def test_half_of_the_seen_classes_are_pseudo_missing_and_never_trained_on(icons):
    task = icons.tasks[0]
    for repeat in range(REPEATS):
        pseudo_manifest = fold(icons, task, repeat)
        (pseudo,) = pseudo_manifest.tasks
        assert pseudo.missing is not None
        assert len(pseudo.missing) == len(task.seen) // 2
        assert sorted(pseudo.seen + pseudo.missing) == sorted(task.seen)
        roles = task_frame(pseudo_manifest, pseudo.id).groupby("role")["class"].agg(set)
        assert roles["train"] == set(pseudo.seen)
        assert roles["test"] == set(task.seen)


def test_a_fifth_of_every_seen_class_is_held_out(icons):
    task = icons.tasks[0]
    pseudo_manifest = fold(icons, task, 0)
    train_labels = icons.samples(task.target, "train").labels.tolist()
    test_labels = pseudo_manifest.samples(task.target, "test").labels.tolist()
    for name in task.seen:
        label = icons.classes.index(name)
        count = train_labels.count(label)
        assert test_labels.count(label) == min(max(1, count // 5), count - 1)


def test_repeats_draw_other_classes(icons):
    draws = {fold(icons, icons.tasks[0], repeat).tasks[0].missing for repeat in range(REPEATS)}
    assert len(draws) == REPEATS


def test_test_images_and_missing_classes_change_nothing(icons):
    """A manifest without test images and images of missing classes gives the same folds."""
    task = icons.tasks[0]
    split, classes = (icons.table[name].to_pylist() for name in ("split", "class"))
    keep = [s == "train" and c in task.seen for s, c in zip(split, classes, strict=True)]
    bare = replace(icons, table=icons.table.filter(pa.array(keep)))
    assert fold(bare, task, 1).table.equals(fold(icons, task, 1).table)


def test_few_seen_classes_cannot_be_halved(icons):
    task = replace(icons.tasks[0], seen=icons.tasks[0].seen[:3])
    with pytest.raises(UsageError, match="has 3 seen classes"):
        fold(icons, task, 0)


def test_a_score_is_the_mean_of_both_groups_over_folds():
    result = trial({"weight": "1"}, [(90.0, 10.0), (80.0, 40.0)])
    assert (result.seen, result.missing, result.score) == (85.0, 25.0, 55.0)


def test_settings_that_fail_on_one_fold_are_never_chosen():
    failed = trial({"weight": "1"}, [(99.0, 99.0), None])
    assert failed.score is None
    good = trial({"weight": "2"}, [(1.0, 1.0), (1.0, 1.0)])
    assert best([failed, good]) is good
    assert best([failed]) is None


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=8))
def test_the_first_of_equally_good_settings_is_chosen(pairs):
    trials = [Trial({"a": str(i)}, *pair) for i, pair in enumerate(pairs)]
    scores = [(seen + missing) / 2 for seen, missing in pairs]
    assert best(trials).settings == {"a": str(scores.index(max(scores)))}


def with_few(icons: Manifest, task: Task, single: Collection[str]) -> Manifest:
    """The icons with one training image of some classes in the task's target."""
    taken: set[str] = set()
    keep = []
    for row in icons.table.to_pylist():
        is_few = (row["domain"], row["split"]) == (task.target, "train") and row["class"] in single
        keep.append(not (is_few and row["class"] in taken))
        taken |= {row["class"]} if is_few else set()
    return replace(icons, table=icons.table.filter(pa.array(keep)))


def test_a_fold_without_held_out_images_of_a_group_is_refused_before_any_run(icons):
    task = icons.tasks[0]
    (pseudo,) = fold(icons, task, 0).tasks
    for single, group in ((pseudo.seen, "stay seen"), (pseudo.missing, "play missing")):
        few = with_few(icons, task, single)
        with pytest.raises(UsageError, match=f"seen classes that {group} in a fold"):
            fold(few, task, 0)
    fold(with_few(icons, task, pseudo.seen[1:]), task, 0)
