"""A quick run of a suite, for two steps on few images, to see whether a set-up works.

Its workspace and data folder are temporary, and its keys are those of a manifest that nothing else
uses, so its rows cannot reach a board.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from benchmark.folders import data_folder
from benchmark.manifest.manifest import Manifest, Task
from benchmark.runs.workspace import Workspace, temporary_workspace
from benchmark.temporary import temporary_folder

VARIABLE = "HTBENCH_DATA"
METHODS = ("source", "finetune")  # unless others are asked for
STEPS = 2
IMAGES = {"train": 4, "test": 2}  # of each class and domain
SHARED = ("downloads", "images", "manifests", "weights")  # folders of data that nobody computed


def small(manifest: Manifest, tasks: Iterable[Task]) -> Manifest:
    """A manifest with few images, those of some tasks, and few steps for every model.

    Its source models are trained for as few steps, whether or not the manifest fixes some.
    """
    import pyarrow as pa

    domains = {domain for task in tasks for domain in (*task.sources, task.target)}
    columns = (manifest.table[name].to_pylist() for name in ("domain", "class", "split"))
    counts: Counter[tuple[str, str, str]] = Counter()
    keep = []
    for row in zip(*columns, strict=True):
        counts[row] += 1
        keep.append(row[0] in domains and counts[row] <= IMAGES[row[2]])
    document = manifest.document
    steps = {"steps": STEPS}
    source = {n: v for n, v in document["source"].items() if n not in ("seeds", "checkpoints")}
    recipes: Mapping[str, Mapping[str, Any]] = document.get("recipes", {})
    document = {
        **document,
        "source": {**source, **steps},
        "recipe": {**document["recipe"], **steps},
        **({"recipes": {n: {**r, **steps} for n, r in recipes.items()}} if recipes else {}),
    }
    few_rows = manifest.table.filter(pa.array(keep))
    return replace(manifest, document=document, table=few_rows)


@contextlib.contextmanager
def smoke_workspace() -> Iterator[Workspace]:
    """A temporary workspace, and a temporary data folder with the user's images and weights."""
    user, before = data_folder(), os.environ.get(VARIABLE)
    with temporary_workspace("htbench-smoke-") as workspace, temporary_folder() as data:
        for name in SHARED:
            (user / name).mkdir(parents=True, exist_ok=True)
            (data / name).symlink_to(user / name)
        os.environ[VARIABLE] = str(data)
        try:
            yield workspace
        finally:
            del os.environ[VARIABLE]
            if before is not None:
                os.environ[VARIABLE] = before
