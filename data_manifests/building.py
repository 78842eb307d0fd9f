"""What the builders of the data sets share: facts in, draws of classes, files of a version out."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.errors import DataError, HTBenchError, first
from data_manifests.toml_writer import dumps, dumps_list

IMAGES, MANIFEST = "images.parquet", "manifest.toml"
SPLITS = ("train", "test")


class UserMistake(click.ClickException):
    """A mistake that the user can mend: shown as one sentence, without a traceback."""

    exit_code = 2


class Image(NamedTuple):
    """One image of a data set that is kept as a folder ``domain/class/file``."""

    path: str
    split: str

    @property
    def image_id(self) -> str:
        """The path without its extension: copies of a data set may be re-encoded."""
        return self.path.rpartition(".")[0]

    @property
    def domain(self) -> str:
        """First part of the path."""
        return self.path.split("/")[0]

    @property
    def class_name(self) -> str:
        """Second part of the path."""
        return self.path.split("/")[1]


class Task(NamedTuple):
    """A task of one source, as it is written to ``manifest.toml``."""

    id: str
    source: str
    target: str
    seen: list[str]

    def table(self) -> dict[str, object]:
        """The entry of ``[[tasks]]``."""
        return {"id": self.id, "sources": [self.source], "target": self.target, "seen": self.seen}


def read_fact(folder: Path, name: str, sha256: str) -> str:
    """Read a text file of raw facts, gzipped if its name says so.

    Args:
        folder: where the facts are.
        name: of the file in it.
        sha256: hexadecimal, of the text itself and not of the gzip file.

    Raises:
        DataError: it cannot be read, or is not the text of that checksum.
    """
    path = folder / name
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read '{path}': {reason}; give its folder with --facts") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(f"'{path}' has SHA-256 {found}, not {sha256}: it is not the published list")
    return content.decode()


def read_list(text: str, split: str, classes: Sequence[str]) -> list[Image]:
    """Read lines ``domain/class/file label``.

    Raises:
        DataError: a label is not the index of the class in ``classes``.
    """
    images = []
    for line in text.splitlines():
        path, _, label = line.rpartition(" ")
        image = Image(path, split)
        if classes[int(label)] != image.class_name:
            raise DataError(f"'{line}': label {label} is {classes[int(label)]!r}, not that class")
        images.append(image)
    return images


def draw_classes(prefix: str, classes: Sequence[str], count: int) -> list[str]:
    """The ``count`` classes whose SHA-256 of ``<prefix>/<class>`` come first, in class order."""

    def key(name: str) -> str:
        return hashlib.sha256(f"{prefix}/{name}".encode()).hexdigest()

    drawn = set(sorted(classes, key=key)[:count])
    return [name for name in classes if name in drawn]


def images_bytes(images: Iterable[Image]) -> bytes:
    """``images.parquet``, sorted by id; the bytes depend on the images and pyarrow's version."""
    rows = sorted(images, key=lambda image: image.image_id)
    table = pa.table(
        {
            "image_id": [image.image_id for image in rows],
            "domain": [image.domain for image in rows],
            "class": [image.class_name for image in rows],
            "split": [image.split for image in rows],
            "path": [image.path for image in rows],
        }
    )
    buffer = pa.BufferOutputStream()
    repeated = ["domain", "class", "split"]
    pq.write_table(table, buffer, compression="zstd", compression_level=19, use_dictionary=repeated)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def task_lists(
    images: Sequence[Image], classes: Sequence[str], tasks: Sequence[Task]
) -> dict[str, str]:
    """The lists ``<task>_train.txt`` and ``<task>_test.txt``: lines ``path label``, sorted.

    The training list holds the seen classes of the target, the test list all of its classes. A
    label is the index of the class in ``classes``.
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


def manifest_text(template: str, classes: Sequence[str], tasks: Sequence[Task]) -> str:
    """``manifest.toml``: a template, its line ``classes = []`` filled in, and the tasks."""
    head, line, tail = template.partition("classes = []\n")
    if not line:
        raise DataError("the template of the manifest has no line 'classes = []'")
    listed = dumps({"classes": list(classes)})
    return f"{head}{listed}{tail}\n{dumps_list('tasks', [task.table() for task in tasks])}"


def write_files(folder: Path, files: Mapping[str, bytes], *, force: bool) -> None:
    """Write files, each by rename, leaving equal ones alone; a refusal writes none of them.

    Raises:
        DataError: a file exists with other content and ``force`` is not given.
    """
    changed = {name: data for name, data in files.items() if not _holds(folder / name, data)}
    existing = [name for name in changed if (folder / name).exists()]
    if existing and not force:
        raise DataError(
            f"'{folder}' already has another {first(existing)}, and published versions never "
            "change: choose another folder with --out, or add --force before publication"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in changed.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def report(folder: Path, files: Mapping[str, bytes]) -> Sequence[str]:
    """Return one line for every file: its path, size and SHA-256."""
    return [
        f"{folder / name}  {len(content)} bytes  sha256 {hashlib.sha256(content).hexdigest()}"
        for name, content in files.items()
    ]


def publish(build: Callable[[], Mapping[str, bytes]], out: Path, *, force: bool) -> None:
    """What a build command does: build, write, say what was written; a mistake is one sentence."""
    try:
        built = build()
        write_files(out, built, force=force)
    except HTBenchError as error:
        raise UserMistake(str(error)) from error
    for line in report(out, built):
        click.echo(line)
