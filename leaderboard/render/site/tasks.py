"""What the page of a task says about its split: counts, classes, and a few images."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from benchmark.manifest.manifest import Manifest
from leaderboard.predictions import counted_samples
from leaderboard.render import svg


@dataclass(frozen=True)
class ClassCount:
    """A class in the target domain.

    Attributes:
        name: its name.
        seen: whether its training images are used.
        train: number of training images that a method gets, 0 for a missing class.
        test: number of test images.
        train_bar, test_bar: the same as drawings.
        examples: data URIs of an image of each source domain, then of the target domain.
    """

    name: str
    seen: bool
    train: int
    test: int
    train_bar: Markup
    test_bar: Markup
    examples: tuple[str, ...]


@dataclass(frozen=True)
class TaskFacts:
    """A task of a manifest.

    Attributes:
        sources, target: its domains.
        classes: the seen classes, then the missing ones, in the manifest's order.
        excluded: names of the classes in neither group.
        train: number of training images.
        test_seen, test_missing: numbers of test images.
        groups: number of groups of test images; 0 if every image is a group.
    """

    sources: tuple[str, ...]
    target: str
    classes: tuple[ClassCount, ...]
    excluded: tuple[str, ...]
    train: int
    test_seen: int
    test_missing: int
    groups: int

    @property
    def n_seen(self) -> int:
        """The number of seen classes."""
        return sum(of_class.seen for of_class in self.classes)

    @property
    def has_examples(self) -> bool:
        """Whether any class has an image."""
        return any(of_class.examples for of_class in self.classes)


def task_facts(manifest: Manifest, task_id: str, images: Mapping[str, bytes]) -> TaskFacts:
    """The counts of a task.

    Args:
        manifest: its manifest.
        task_id: the task.
        images: PNG files that may be shown, by image id; empty if none may be.
    """
    task = manifest.task(task_id)
    size = len(manifest.classes)
    seen, missing = manifest.seen_mask(task), manifest.missing_mask(task)
    train = manifest.class_counts(task.target, "train") * seen
    samples = counted_samples(manifest, task_id)
    test = np.bincount(samples.labels, minlength=size)
    largest = float(max(train.max(), test.max()))
    domains = (*task.sources, task.target) if images else ()
    shown = [_examples(manifest, domain, images) for domain in domains]
    order = [*np.flatnonzero(seen).tolist(), *np.flatnonzero(missing & ~seen).tolist()]
    n_groups = len(set(samples.groups))
    return TaskFacts(
        sources=task.sources,
        target=task.target,
        classes=tuple(
            ClassCount(
                name=manifest.classes[index],
                seen=bool(seen[index]),
                train=int(train[index]),
                test=int(test[index]),
                train_bar=svg.bar(float(train[index]), largest, "seen"),
                test_bar=svg.bar(float(test[index]), largest, "seen" if seen[index] else "missing"),
                examples=tuple(by_class[index] for by_class in shown if index in by_class),
            )
            for index in order
        ),
        excluded=tuple(np.array(manifest.classes)[~(seen | missing)].tolist()),
        train=int(train.sum()),
        test_seen=int(samples.is_seen.sum()),
        test_missing=int((~samples.is_seen).sum()),
        groups=n_groups if n_groups < len(samples.groups) else 0,
    )


def _examples(manifest: Manifest, domain: str, images: Mapping[str, bytes]) -> dict[int, str]:
    """The first training image of each class of a domain that may be shown, as a data URI."""
    samples = manifest.samples(domain, "train")
    examples: dict[int, str] = {}
    for image_id, label in zip(samples.ids, samples.labels.tolist(), strict=True):
        if label not in examples and image_id in images:
            text = base64.b64encode(images[image_id]).decode()
            examples[label] = f"data:image/png;base64,{text}"
    return examples
