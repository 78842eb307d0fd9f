"""Shared parts of the builders: read facts, draw classes, format and write a version's files."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.errors import DataError, first
from benchmark.files import write_file
from benchmark.manifest.toml import to_toml

ATTRIBUTION = "ATTRIBUTION.csv"
SPLITS = ("train", "test")
TEMPLATES = Path(__file__).parent / "templates"


class Image(NamedTuple):
    """One image of a data set with the layout ``domain/class/file``."""

    path: str
    split: str

    @property
    def image_id(self) -> str:
        """The path without its extension, because copies of a data set may be re-encoded."""
        return self.path.rpartition(".")[0]

    @property
    def domain(self) -> str:
        """The first part of the path."""
        return self.path.split("/")[0]

    @property
    def class_name(self) -> str:
        """The second part of the path."""
        return self.path.split("/")[1]


class Task(NamedTuple):
    """A task with one source domain, as written to ``manifest.toml``."""

    id: str
    source: str
    target: str
    seen: list[str]

    def table(self) -> dict[str, object]:
        """Return the entry in ``[[tasks]]``."""
        return {"id": self.id, "sources": [self.source], "target": self.target, "seen": self.seen}


def read_fact(folder: Path, name: str, sha256: str) -> str:
    """Read a text file, decompressing it if its name ends in ``.gz``.

    Args:
        folder: the folder of facts.
        name: the file's name in that folder.
        sha256: hexadecimal SHA-256 of the decompressed text.

    Raises:
        DataError: the file cannot be read, or its checksum does not match.
    """
    path = folder / name
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot read '{path}': {reason}; use --facts to give the folder that contains it"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DataError(
            f"'{path}' has SHA-256 {digest}, but the file that this manifest was built "
            f"from has {sha256}; download that file"
        )
    return content.decode()


def read_list(text: str, split: str, classes: Sequence[str]) -> list[Image]:
    """Parse lines ``domain/class/file label``.

    Raises:
        DataError: a label is not the index of its class in ``classes``.
    """
    images = []
    for line in text.splitlines():
        path, _, label = line.rpartition(" ")
        image = Image(path, split)
        if classes[int(label)] != image.class_name:
            raise DataError(
                f"line '{line}': label {label} means class {classes[int(label)]!r}, "
                f"but the path is of class {image.class_name!r}"
            )
        images.append(image)
    return images


def images_bytes(
    images: Iterable[Image],
    sha256: Mapping[str, str] | None = None,
    group_of: Callable[[str], str] | None = None,
) -> bytes:
    """Encode ``images.parquet``, sorted by id; the bytes also depend on pyarrow's version.

    Args:
        images: all images.
        sha256: hexadecimal SHA-256 of each image's file by its path, if known.
        group_of: the group of an image by its path, if images have groups.
    """
    rows = sorted(images, key=lambda image: image.image_id)
    columns = {
        "image_id": [image.image_id for image in rows],
        "domain": [image.domain for image in rows],
        "class": [image.class_name for image in rows],
        "split": [image.split for image in rows],
        "path": [image.path for image in rows],
    }
    if sha256 is not None:
        columns["sha256"] = [sha256[image.path] for image in rows]
    if group_of is not None:
        columns["group"] = [group_of(image.path) for image in rows]
    table = pa.table(columns)
    buffer = pa.BufferOutputStream()
    repeated = ["domain", "class", "split"]
    pq.write_table(table, buffer, compression="zstd", compression_level=19, use_dictionary=repeated)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def task_lists(
    images: Sequence[Image], classes: Sequence[str], tasks: Sequence[Task]
) -> dict[str, str]:
    """Return the sorted lists ``<task>_train.txt`` and ``<task>_test.txt``: lines ``path label``.

    A training list contains the seen classes of the target, a test list all of its classes. A label
    is the index of the class in ``classes``.
    """
    label = {name: index for index, name in enumerate(classes)}
    cells: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for image in sorted(images):
        cells[image.domain, image.split].append((image.class_name, image.path))
    lists = {}
    for task in tasks:
        for split, allowed in zip(SPLITS, (set(task.seen), set(classes)), strict=True):
            lists[f"{task.id}_{split}.txt"] = "".join(
                f"{path} {label[name]}\n"
                for name, path in cells[task.target, split]
                if name in allowed
            )
    return lists


def manifest_text(
    name: str, classes: Sequence[str], tasks: Sequence[Task], recipe: str = ""
) -> str:
    """Return ``manifest.toml``: a template with its classes filled in, a recipe, and the tasks.

    Args:
        name: of the data set, whose template is read.
        classes: names in class order.
        tasks: of the manifest.
        recipe: TOML of the table ``[recipe]``, if the template has none.
    """
    parts = [fill_classes(template(name), classes)]
    if recipe:
        parts.append(recipe)
    return "\n".join([*parts, to_toml({"tasks": [task.table() for task in tasks]})])


def template(name: str) -> str:
    """Return the text that the manifest of a data set begins with."""
    return (TEMPLATES / f"{name}.toml").read_text("utf-8")


def fill_classes(text: str, classes: Sequence[str]) -> str:
    """Fill in a template's line ``classes = []``.

    Raises:
        DataError: the template does not contain that line.
    """
    head, line, tail = text.partition("classes = []\n")
    if not line:
        raise DataError("the manifest template does not contain the line 'classes = []'")
    return head + to_toml({"classes": list(classes)}) + tail


def write_files(folder: Path, files: Mapping[str, bytes], *, force: bool) -> None:
    """Write each file atomically, skipping identical ones; after an error none has been written.

    Args:
        folder: created if absent.
        files: content by path relative to ``folder``.
        force: overwrite files that differ.

    Raises:
        DataError: a file exists with different content and ``force`` is false.
    """
    changed = {name: data for name, data in files.items() if not _contains(folder / name, data)}
    existing = [name for name in changed if (folder / name).exists()]
    if existing and not force:
        raise DataError(
            f"'{folder}' already contains a different {first(existing)}. Published "
            "versions must not change: choose another folder with --out or, if this "
            "version is not published yet, add --force"
        )
    for name, content in changed.items():
        write_file(folder / name, content)


def _contains(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def checksum_lines(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Return one line per file: its path, size and SHA-256."""
    return [
        f"{folder / name}  {len(content)} bytes  sha256 {hashlib.sha256(content).hexdigest()}"
        for name, content in files.items()
    ]
