"""The data classes of a manifest: domains, tasks, samples, and the digest of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.errors import ManifestError
from benchmark.networks.names import network_label
from benchmark.text import near

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


SPLITS = ("train", "test")
REQUIRED_COLUMNS = ("image_id", "domain", "class", "split", "path")
OPTIONAL_COLUMNS = ("sha256", "group", "datetime")
MANIFEST_FILE, IMAGES_FILE = "manifest.toml", "images.parquet"  # of a version's folder
RECIPE_FILE = "recipe.toml"  # instead of these two: see benchmark.manifest.expand
HEADLINES = ("micro", "macro")  # averages over samples, and over classes; the first is the default
RATES = ("lr", "head_lr", "backbone_lr")  # of a recipe; `lr` sets the other two
DEFAULT_RECIPE = "default"  # the name of [recipe]; others are in [recipes]
SLICE_ROWS = 4096  # of a column, as Python objects, which take five times the memory of the column


@dataclass(frozen=True)
class Domain:
    """A domain, and the folder names that copies of the data set use for it."""

    name: str
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One partial-target task: sources, target and the names of the seen classes.

    Attributes:
        missing: the missing classes, where the task names them. Every other class is then in
            neither group: its test images are predicted but excluded from all metrics. None:
            every class that is not seen is missing.
    """

    id: str
    sources: tuple[str, ...]
    target: str
    seen: tuple[str, ...]
    missing: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PinnedCheckpoint:
    """A source model that a manifest fixes: it is used and never trained.

    Attributes:
        sources: its domains; ``seed``: the number of the source model, from 0.
        sha256: of the safetensors file.
        test_accuracy: on the source domains' test images, in per cent.
        file: the file's path in the manifest's folder, or None; ``urls``: where else it is.
    """

    sources: tuple[str, ...]
    seed: int
    sha256: str
    test_accuracy: float
    file: str | None = None
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Samples:
    """Images of a manifest, sorted by id: ids and class indices of the same length."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Manifest:
    """A checked manifest. Build one with :func:`read_manifest` or :func:`load_manifest`."""

    root: Path
    document: Mapping[str, Any]
    table: pa.Table  # REQUIRED_COLUMNS and those of OPTIONAL_COLUMNS that exist, sorted by image_id
    other_model: Mapping[str, Any] | None = None  # see `model`
    given: str | None = None  # see `argument`
    recipe_name: str = DEFAULT_RECIPE  # see `recipe`
    rate_factor: float = 1.0  # see `recipe`

    @property
    def name(self) -> str:
        """Name without version, such as ``icons``."""
        return str(self.document["name"])

    @property
    def version(self) -> str:
        """Version, such as ``1.0``."""
        return str(self.document["version"])

    @property
    def reference(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def argument(self) -> str:
        """What names the manifest on a command line: its folder as it was given, or its reference.

        The reference of a manifest in a folder of the user's own is not found.
        """
        return self.given or self.reference

    @property
    def model(self) -> Mapping[str, Any]:
        """The network: ``[model]`` of the manifest, or the one that a user chose instead.

        The digest stays that of the manifest, because splits, tasks and recipes do not change.
        Results of another network have their own keys, source models and tables.
        """
        return self.other_model or self.document["model"]

    def with_model(self, model: Mapping[str, Any]) -> Manifest:
        """The same manifest with another network."""
        return replace(self, other_model=None if model == self.document["model"] else model)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How models are adapted: ``[recipe]``, with the entries of a named recipe in their place.

        A search may multiply the learning rates by a factor. As with another network, the digest
        stays that of the manifest.
        """
        recipe = self.recipe_of(self.recipe_name)
        if self.rate_factor == 1:
            return recipe
        rates = {n: recipe[n] * self.rate_factor for n in RATES if n in recipe}
        return {**recipe, **rates}

    def recipe_of(self, name: str) -> Mapping[str, Any]:
        """The recipe of a name.

        Raises:
            ManifestError: there is no such recipe; the message lists those that exist.
        """
        recipe: Mapping[str, Any] = self.document["recipe"]
        if name == DEFAULT_RECIPE:
            return recipe
        named: Mapping[str, Any] = self.document.get("recipes", {})
        if name not in named:
            known = ", ".join(self.recipe_names)
            raise ManifestError(f"{self.reference} has no recipe {name!r}; it has: {known}")
        # How the default was chosen says nothing of another recipe.
        return {**{n: v for n, v in recipe.items() if n != "chosen"}, **named[name]}

    @property
    def recipe_names(self) -> tuple[str, ...]:
        """The names of all recipes, the default first."""
        return (DEFAULT_RECIPE, *self.document.get("recipes", {}))

    def with_recipe(self, name: str) -> Manifest:
        """The same manifest with another of its recipes.

        Raises:
            ManifestError: there is no such recipe.
        """
        self.recipe_of(name)
        return replace(self, recipe_name=name)

    def with_rate(self, factor: float) -> Manifest:
        """The same manifest with all learning rates of the recipe times a factor."""
        return replace(self, rate_factor=factor)

    @property
    def source_recipe(self) -> Mapping[str, Any]:
        """How source models are trained: ``[source]`` without what says which ones there are."""
        source = self.document["source"]
        return {n: v for n, v in source.items() if n not in ("seeds", "checkpoints")}

    @property
    def source_seeds(self) -> int:
        """How many source models there are for the same domains: a run of seed s uses s mod it."""
        return int(self.document["source"].get("seeds", 1))

    @cached_property
    def checkpoints(self) -> tuple[PinnedCheckpoint, ...]:
        """The source models that the manifest fixes."""
        return tuple(
            PinnedCheckpoint(
                tuple(entry["sources"]),
                entry.get("seed", 0),
                entry["sha256"],
                float(entry["test_accuracy"]),
                entry.get("file"),
                tuple(entry.get("urls", ())),
            )
            for entry in self.document["source"].get("checkpoints", ())
        )

    @property
    def headline(self) -> str:
        """How its boards rank methods: over samples (``micro``) or over classes (``macro``)."""
        return str(self.document.get("headline", HEADLINES[0]))

    @property
    def model_option(self) -> tuple[str, ...]:
        """The words that select this network on a command line; empty for the manifest's own."""
        return ("--model", network_label(self.model)) if self.other_model is not None else ()

    @property
    def image_size(self) -> int:
        """Side of a stored image in pixels."""
        return int(self.document["image_size"])

    @property
    def input_size(self) -> int:
        """Side in pixels of a transformed image, the input of a network."""
        return int(self.document["transforms"].get("size", self.image_size))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names; their order is the order of the columns of all logits."""
        return tuple(self.document["classes"])

    @cached_property
    def domains(self) -> tuple[Domain, ...]:
        """The domains in the order of the manifest."""
        return tuple(Domain(d["name"], tuple(d["folders"])) for d in self.document["domains"])

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks in the order of the manifest."""
        return tuple(
            Task(
                t["id"],
                tuple(t["sources"]),
                t["target"],
                tuple(t["seen"]),
                tuple(t["missing"]) if "missing" in t else None,
            )
            for t in self.document["tasks"]
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical form of both files; see :func:`canonical_digest`."""
        return canonical_digest(self.document, self.table)

    def task(self, task_id: str) -> Task:
        """The task of that id.

        Raises:
            ManifestError: there is no such task; the message lists those that exist.
        """
        for task in self.tasks:
            if task.id == task_id:
                return task
        known = [task.id for task in self.tasks]
        raise ManifestError(
            f"{self.reference} has no task {task_id!r}; {near(task_id, known)}it has: "
            f"{', '.join(known)}"
        )

    def seen_mask(self, task: Task) -> NDArray[np.bool_]:
        """Which classes are seen in a task: bool array of shape (C,)."""
        return self._mask(task.seen)

    def missing_mask(self, task: Task) -> NDArray[np.bool_]:
        """Classes whose test images count as missing in a task: bool array of shape (C,).

        For the scorer only. To a method every class that is not seen is missing, because a task
        may have chosen its missing classes by looking at test images.
        """
        return ~self.seen_mask(task) if task.missing is None else self._mask(task.missing)

    def _mask(self, names: Iterable[str]) -> NDArray[np.bool_]:
        wanted = set(names)
        return np.array([name in wanted for name in self.classes], dtype=np.bool_)

    def samples(self, domains: str | Iterable[str], split: str) -> Samples:
        """Ids and class indices of the images of some domains in one split, sorted by id."""
        rows = self.rows(domains, split)
        return Samples(tuple(self.ids[rows].tolist()), self.codes["class"][rows])

    def class_counts(self, domains: str | Iterable[str], split: str) -> NDArray[np.int64]:
        """Numbers of images of each class, of some domains in one split: array of shape (C,)."""
        labels = self.codes["class"][self.rows(domains, split)]
        return np.bincount(labels, minlength=len(self.classes))

    def rows(self, domains: str | Iterable[str], split: str) -> NDArray[np.int64]:
        """Rows of the images of some domains in one split, in the order of :meth:`samples`."""
        wanted = {domains} if isinstance(domains, str) else set(domains)
        codes = self.codes
        keep = np.isin(codes["domain"], [i for i, d in enumerate(self.domains) if d.name in wanted])
        keep &= codes["split"] == SPLITS.index(split)
        return np.flatnonzero(keep)

    def test_groups(self, domain: str) -> NDArray[np.object_]:
        """What statistics resample together, for each test image of a domain, sorted by id.

        Returns:
            (N,) object array: the ``group`` of each image, or its id where the manifest has none.
        """
        codes = self.codes
        number = next(i for i, d in enumerate(self.domains) if d.name == domain)
        rows = np.flatnonzero(
            (codes["domain"] == number) & (codes["split"] == SPLITS.index("test"))
        )
        ids = self.ids[rows]
        if "group" not in self.table.column_names:
            return ids
        groups = self.table["group"].to_numpy(zero_copy_only=False)[rows]
        return np.where(groups == None, ids, groups)  # noqa: E711 - elementwise

    @cached_property
    def ids(self) -> NDArray[np.object_]:
        """The ``image_id`` of every row: object array of shape (N,)."""
        return np.asarray(self.table["image_id"].to_numpy(zero_copy_only=False), dtype=object)

    @cached_property
    def codes(self) -> dict[str, NDArray[np.int64]]:
        """Domain, class and split of every row as indices into their lists; -1 if unknown."""
        orders = {
            "domain": [d.name for d in self.domains],
            "class": list(self.classes),
            "split": list(SPLITS),
        }
        return {name: _encode(self.table[name], order) for name, order in orders.items()}


def canonical_digest(document: Mapping[str, Any], table: pa.Table) -> str:
    """SHA-256 (hex) of a manifest's content, independent of the program that wrote its files.

    The form: the parsed TOML as JSON with sorted keys and no spaces, then, for each column of
    ``REQUIRED_COLUMNS + OPTIONAL_COLUMNS`` that exists, its name and its values in the order of
    ``image_id``, one per line (no value holds a line break, see :func:`read_manifest`). Comments,
    key order, row order, Parquet encoding and embedded pixels (covered by their ``sha256``) do
    not count.
    """
    state = hashlib.sha256(b"htbench manifest 1\n")
    state.update(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    table = sorted_by_id(table)
    for column in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS):
        if column in table.column_names:
            state.update(f"\n\n{column}\n".encode())
            for number, values in enumerate(slices(table[column])):
                state.update(b"\n" if number else b"")
                state.update("\n".join("\0" if v is None else v for v in values).encode())
    return state.hexdigest()


def sorted_by_id(table: pa.Table) -> pa.Table:
    """A table in the order of its column ``image_id``; the same one if it is in this order."""
    return table if is_ascending(table["image_id"]) else table.sort_by("image_id")


def is_ascending(column: pa.ChunkedArray) -> bool:
    """Whether each value of a column is larger than the one before, and none is null."""
    import pyarrow.compute as pc

    if column.null_count:
        return False
    return bool(pc.all(pc.less(column[:-1], column[1:])).as_py())


def slices(column: pa.ChunkedArray) -> Iterator[list[Any]]:
    """The values of a column, a few thousand at a time: a list of all would be large."""
    for start in range(0, len(column), SLICE_ROWS):
        yield column.slice(start, SLICE_ROWS).to_pylist()


def _encode(column: pa.ChunkedArray, order: Sequence[str]) -> NDArray[np.int64]:
    """Index of every value in a list of names; -1 for a value that is not in the list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = pc.index_in(column, value_set=pa.array(order, pa.string()))
    return np.asarray(pc.fill_null(codes, -1).to_numpy(), dtype=np.int64)
