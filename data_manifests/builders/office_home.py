"""Builder of office-home@1.0: manifest, images and text lists from the released lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

from benchmark.manifest.draws import draw_classes
from benchmark.manifest.manifest import IMAGES_FILE, MANIFEST_FILE
from data_manifests.builders import VERSION
from data_manifests.builders.parts import (
    Image,
    Task,
    images_bytes,
    manifest_text,
    read_fact,
    read_list,
    task_lists,
)

NAME = "office-home"
DOMAINS = ("Art", "Clipart", "Product", "Real_World")
SOURCES = {"Art": "ht_class_order_source_Ar", "Real_World": "ht_class_order_source_Rw"}
N_SEEN = 30
DRAWS = (1, 2, 3)

# The released lists, https://github.com/OSU-MLB/Fine-Tuning-Is-Fine-If-Calibrated at commit
# 2bc54b1, asset/OfficeHome/image_list: the SHA-256 of each.
LISTS = {
    ("Art", "train"): "ffe17ecef2d41ac8e259ca2bc97cbd73340af3e618eead5a26a803d8243d0654",
    ("Art", "test"): "813e33eff83fdf9ebec2c145319a84fd24171cd379ae402e65887c23defb17c6",
    ("Clipart", "train"): "35ed52cbeedb7e67b78b411a662c096ef45e9cbb7fe9f7eee527331f646144a2",
    ("Clipart", "test"): "cecdace9f6bbf8e032b0d47acf7e1d5b846596074dd1e26d8750f478ea6ef0b9",
    ("Product", "train"): "c7c9c1acc56d1b73dfca73dbe33243c5a0b034d5a42d4337f57b6a0b7704882a",
    ("Product", "test"): "0925f97e5db34422ac16393726a227177a4a23a6262b0e601d7e2cd6eb30a2f5",
    ("Real_World", "train"): "314dcb2633e38889657768d0786d8204a828735c5320b6a3868348c10ca41817",
    ("Real_World", "test"): "823a644f8390dfd96cc5fa7163c242209b8d5d74589f4debbb7a2311cb91c5be",
}
RELEASED_NAMES = {"train": "training", "test": "testing"}
CLASSES_FILE = "officehome_classes.json"  # the label order of the lists, and the seen classes
CLASSES_SHA256 = "0634f57c622632dc6a35321ec1c4bfcde3c60d32e3b417bebee410dd41899e08"


def make_tasks(classes: Sequence[str], published: Mapping[str, Sequence[str]]) -> list[Task]:
    """Return the six published tasks, then three draws for every ordered pair of domains.

    Args:
        classes: all class names, in class order.
        published: the published seen classes of each source in ``SOURCES``.
    """
    tasks = []
    for source, names in published.items():
        seen = [name for name in classes if name in set(names)]
        tasks += [Task(f"{source}-{t}", source, t, seen) for t in DOMAINS if t != source]
    for source, target in permutations(DOMAINS, 2):
        for draw in DRAWS:
            seen = draw_classes(f"{NAME}/{VERSION}/seen/{source}/draw{draw}", classes, N_SEEN)
            tasks.append(Task(f"{source}-{target}.draw{draw}", source, target, seen))
    return tasks


def build(facts: Path) -> dict[str, bytes]:
    """Build all files of the version from a folder of facts.

    Returns:
        Content by path relative to the version's folder.

    Raises:
        DataError: a fact cannot be read, or is not the released file.
    """
    orders = json.loads(read_fact(facts, CLASSES_FILE, CLASSES_SHA256))
    images: list[Image] = []
    for (domain, split), sha256 in LISTS.items():
        text = read_fact(facts, f"{domain}_{RELEASED_NAMES[split]}.txt.gz", sha256)
        images += read_list(text, split, orders["class_names_tllib_order"])
    published = {source: orders[key]["seen"] for source, key in SOURCES.items()}
    return build_files(images, published)


def build_files(
    images: Sequence[Image], published: Mapping[str, Sequence[str]]
) -> dict[str, bytes]:
    """Build all files of the version from its images and the published seen classes."""
    classes = sorted({image.class_name for image in images})
    tasks = make_tasks(classes, published)
    lists = task_lists(images, classes, [task for task in tasks if ".draw" not in task.id])
    return {
        MANIFEST_FILE: manifest_text(NAME, classes, tasks).encode(),
        IMAGES_FILE: images_bytes(images),
        **{f"lists/{name}": text.encode() for name, text in lists.items()},
    }
