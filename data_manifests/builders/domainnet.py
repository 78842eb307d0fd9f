"""Builder of domainnet@1.0: manifest, images and text lists from the official lists."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
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

NAME = "domainnet"
DOMAINS = ("clipart", "infograph", "painting", "real", "sketch")
SOURCES = ("real", "sketch")
N_SEEN = 172

# The official lists of the cleaned version, byte for byte, and a reconstruction of real's training
# list: the SHA-256 of each text.
LISTS = {
    "clipart_train": "affdadf5f95a7583e6b98030a3d35007e2613ee4dd942393c5a705ec2b429312",
    "clipart_test": "62c8e36aaba1c41ad9e249099739707220a44c08f167b37ef420f34a31628a6b",
    "infograph_train": "36b44cbd41a2915e0dc73b4f4be8862a6f3c220f93c8d63fb2439beeae3aefda",
    "infograph_test": "413cfa54ac92e7e6b242f4f09fbd9c8ace85c4deaf3cb6c81ff6b68264460136",
    "painting_train": "f1da38d50a702fddf1329f85bc607d7a2abcae7e6aec75e1fd49cc1bd340d47b",
    "painting_test": "11472b13b5188e09f06918b12eebb660588c97a20e43e268d9b02e3e37eb8f97",
    "real_train.reconstructed": "b8ce3dafcdbd93d8a1fb0a66bd3913b749e73a08e894e34a172ed31b68c535b9",
    "real_test": "2b3f75bcde309aeb5931292084b2162e936b5f189e3bb1ad716f0f74c460864c",
    "sketch_train": "72f4bc6afa5702a1ccba800d0053c1427de87439dfaf246dbc9a2e71abfec54f",
    "sketch_test": "3fb48fca18c507c4321f007c3f62b308ec232ff6928cbfe2af64e76ec366e840",
}
CLASSES_FILE = "domainnet_classes.json"  # the official label order
CLASSES_SHA256 = "107258373e775a742200dd80bd92aa859e1c3d7823fac148fac0cf49b5f3eed5"


def make_tasks(images: Sequence[Image], classes: Sequence[str]) -> list[Task]:
    """Return every source paired with every other domain.

    A drawn class without training images in the target is missing there.
    """
    trained = {(image.domain, image.class_name) for image in images if image.split == "train"}
    tasks = []
    for source in SOURCES:
        drawn = draw_classes(f"{NAME}/{VERSION}/seen/{source}", classes, N_SEEN)
        for target in DOMAINS:
            if target != source:
                seen = [name for name in drawn if (target, name) in trained]
                tasks.append(Task(f"{source}-{target}", source, target, seen))
    return tasks


def build(facts: Path) -> dict[str, bytes]:
    """Build all files of the version from a folder of facts.

    Returns:
        Content by path relative to the version's folder.

    Raises:
        DataError: a fact cannot be read, or is not the published file.
    """
    classes = json.loads(read_fact(facts, CLASSES_FILE, CLASSES_SHA256))["class_names"]
    images: list[Image] = []
    for name, sha256 in LISTS.items():
        split = "train" if "train" in name else "test"
        images += read_list(read_fact(facts, f"{name}.txt.gz", sha256), split, classes)
    return build_files(images, classes)


def build_files(images: Sequence[Image], classes: Sequence[str]) -> dict[str, bytes]:
    """Build all files of the version from its images and the classes in the official order."""
    tasks = make_tasks(images, classes)
    lists = task_lists(images, classes, tasks)
    return {
        MANIFEST_FILE: manifest_text(NAME, classes, tasks).encode(),
        IMAGES_FILE: images_bytes(images),
        # Without a timestamp the bytes depend on the text and zlib alone.
        **{f"lists/{n}.gz": gzip.compress(t.encode(), mtime=0) for n, t in lists.items()},
    }
