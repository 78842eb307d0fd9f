"""Manifests and suites: which images, classes, splits, tasks and recipes a benchmark is made of.

A manifest is a folder with ``manifest.toml`` (for people) and ``images.parquet`` (for machines).
Reading one checks every rule, so that the rest of the suite can trust what it holds. No torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.errors import ManifestError, first
from benchmark.folders import data_folder, packaged_manifests
from benchmark.networks import network_label
from benchmark.registry import builtin_methods

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

FORMAT = 1
MAX_TOML_BYTES = 4 << 20
MAX_TOML_DEPTH = 16
MAX_IMAGES = 5_000_000  # far above any benchmark here; bounds the cost of an untrusted file
SPLITS = ("train", "test")
ALL = "all"  # in place of a list of methods: every method that ships with the suite
# Where the pixels are: in images.parquet itself, or in files that the user has.
IMAGE_SOURCES = ("embedded", "folder")
STORES = ("raw", "jpeg")  # how the image store keeps pixels, where a manifest says so
REQUIRED_COLUMNS = ("image_id", "domain", "class", "split", "path")
OPTIONAL_COLUMNS = ("sha256", "group", "datetime")
RECIPE_FILE = "recipe.toml"  # instead of manifest.toml: see benchmark.expand
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*(\+[A-Za-z0-9.]+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Patterns that leave the root or have two spellings on some operating system.
_NOT_CANONICAL_PATH = r"[\\:]|^/|/$|//|(^|/)\.\.?(/|$)"
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # text may have tabs and line breaks


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
    def model_option(self) -> str:
        """The option that selects this network: `` --model NAME``, or an empty string."""
        return f" --model {network_label(self.model)}" if self.other_model is not None else ""

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
        known = ", ".join(task.id for task in self.tasks)
        raise ManifestError(f"{self.reference} has no task {task_id!r}; it has: {known}")

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
        wanted = {domains} if isinstance(domains, str) else set(domains)
        codes = self.codes
        keep = np.isin(codes["domain"], [i for i, d in enumerate(self.domains) if d.name in wanted])
        keep &= codes["split"] == SPLITS.index(split)
        rows = np.flatnonzero(keep)
        return Samples(tuple(self.ids[rows].tolist()), codes["class"][rows])

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


@dataclass(frozen=True)
class Suite:
    """A grid that people run by name: tasks of one manifest, methods and seeds.

    In a suite's file ``methods`` may be ``"all"``; here they are listed by name.
    """

    name: str
    title: str
    manifest: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]


# --- finding ---------------------------------------------------------------------------------


def manifest_folders() -> list[Path]:
    """Folders to search for manifests: those shipped, then those expanded by the user."""
    return [packaged_manifests(), data_folder() / "manifests"]


def published_manifests() -> list[str]:
    """References (``name@version``) of every manifest in those folders, sorted."""
    references = {
        f"{path.parent.parent.name}@{path.parent.name}"
        for folder in manifest_folders()
        for path in folder.glob("*/*/manifest.toml")
    }
    return sorted(references)


def published_recipes() -> list[str]:
    """References of the recipes that ship; each expands to a manifest with the user's metadata."""
    return sorted(
        f"{path.parent.parent.name}@{path.parent.name}"
        for path in packaged_manifests().glob(f"*/*/{RECIPE_FILE}")
    )


def load_manifest(reference: str | Path) -> Manifest:
    """Read a manifest by reference (``icons@1.0``) or from the folder that holds it.

    Args:
        reference: ``name@version``, or the path of a folder with ``manifest.toml``.

    Raises:
        ManifestError: it does not exist, breaks a rule, or is a recipe that was not expanded.
    """
    name, at, version = str(reference).partition("@")
    if at and _NAME.fullmatch(name) and _VERSION.fullmatch(version):
        for folder in manifest_folders():
            if (folder / name / version / "manifest.toml").is_file():
                manifest = read_manifest(folder / name / version)
                if manifest.reference != f"{name}@{version}":
                    raise ManifestError(
                        f"{manifest.root} holds {manifest.reference}, not {reference}; "
                        "rename the folder after the manifest"
                    )
                return manifest
    elif (Path(reference) / "manifest.toml").is_file():
        return read_manifest(Path(reference))
    recipes = published_recipes()
    for recipe in recipes:
        if reference in (recipe, recipe.partition("@")[0]) or (
            Path(reference).resolve() == packaged_manifests().joinpath(*recipe.split("@"))
        ):
            raise ManifestError(
                f"{recipe} is a recipe; expand it with your copy of the data set's metadata "
                f"file first: htbench manifest expand {recipe} --metadata metadata.csv"
            )
    known = ", ".join(published_manifests()) or "none"
    known += f"; recipes to expand: {', '.join(recipes)}" if recipes else ""
    raise ManifestError(
        f"no manifest {str(reference)!r}; known: {known}. "
        "Give name@version, or a folder with manifest.toml and images.parquet"
    )


def load_suite(name: str) -> Suite:
    """Read a suite by name (``icons``) or from a ``.toml`` file.

    Raises:
        ManifestError: it does not exist or breaks a rule.
    """
    if name.endswith(".toml"):
        path = Path(name)
    else:
        path = packaged_manifests() / "suites" / f"{name}.toml"
        if _NAME.fullmatch(name) and not path.is_file():
            path = _expanded_suite(name) or path
    if not path.is_file() or not (name.endswith(".toml") or _NAME.fullmatch(name)):
        known = ", ".join(known_suites())
        raise ManifestError(f"no suite {name!r}; known: {known}. Or give the path of a .toml file")
    return _check_suite(_read_toml(path), path)


def _expanded_suite(name: str) -> Path | None:
    """The suite that was written beside the expansion of a recipe.

    Raises:
        ManifestError: there are several, or the recipe has not been expanded.
    """
    suites = sorted((data_folder() / "manifests" / name).glob(f"*/{name}.toml"))
    if len(suites) > 1:
        raise ManifestError(
            f"{name} was expanded more than once; give the path of one of its suites: "
            + ", ".join(map(str, suites))
        )
    recipes = [r for r in published_recipes() if r.partition("@")[0] == name]
    if recipes and not suites:
        raise ManifestError(
            f"the suite {name} does not exist until its recipe is expanded: "
            f"htbench manifest expand {recipes[-1]} --metadata metadata.csv"
        )
    return suites[0] if suites else None


def known_suites() -> list[str]:
    """Names of the suites that ship, sorted."""
    return sorted(path.stem for path in (packaged_manifests() / "suites").glob("*.toml"))


def pinned_digests() -> dict[str, str]:
    """The digest of every published manifest, from ``data_manifests/digests.toml``."""
    pins = _read_toml(packaged_manifests() / "digests.toml")
    return {name: digest for name, digest in pins.items() if isinstance(digest, str)}


def pinned_recipes() -> dict[str, str]:
    """The digest of every published recipe, from ``data_manifests/digests.toml``."""
    return dict(_read_toml(packaged_manifests() / "digests.toml")["recipes"])


# --- reading ---------------------------------------------------------------------------------


def read_manifest(root: Path) -> Manifest:
    """Read and check the manifest in a folder.

    Raises:
        ManifestError: a rule is broken; the message names the file and the first offenders.
    """
    document = _read_toml(root / "manifest.toml")
    where = str(root / "manifest.toml")
    _check_document(document, where)
    table = _read_images(root / "images.parquet")
    manifest = Manifest(root.resolve(), document, table)
    _check_images(manifest, str(root / "images.parquet"))
    _check_tasks(manifest, where)
    return manifest


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
    table = table.sort_by("image_id")
    for column in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS):
        if column in table.column_names:
            values = table[column].to_pylist()
            state.update(f"\n\n{column}\n".encode())
            state.update("\n".join("\0" if v is None else v for v in values).encode())
    return state.hexdigest()


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ManifestError(f"{path} does not exist")
    if path.stat().st_size > MAX_TOML_BYTES:
        raise ManifestError(f"{path} is larger than {MAX_TOML_BYTES} bytes")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8, a giant number
        raise ManifestError(f"{path} is not valid TOML: {error}") from None


def _read_images(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ManifestError(
            f"{path} does not exist; a manifest is manifest.toml and images.parquet"
        )
    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_rows > MAX_IMAGES:
            raise ManifestError(f"{path} has more than {MAX_IMAGES} rows")
        names = file.schema_arrow.names
        if absent := [c for c in REQUIRED_COLUMNS if c not in names]:
            raise ManifestError(f"{path} is missing the columns {', '.join(absent)}")
        columns = [c for c in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS) if c in names]
        if repeated := [c for c in columns if names.count(c) > 1]:
            raise ManifestError(f"{path} has more than one column named {', '.join(repeated)}")
        table = file.read(columns=columns)
        table.validate(full=True)  # reading does not check that strings are UTF-8
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"{path} is not a readable Parquet file: {error}") from None
    arrays = []
    for name in columns:
        kind = table.schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise ManifestError(f"{path}: column {name} holds {kind}, not strings")
        arrays.append(table[name].cast(pa.string()))
    return pa.table(dict(zip(columns, arrays, strict=True))).sort_by("image_id")


def _encode(column: pa.ChunkedArray, order: Sequence[str]) -> NDArray[np.int64]:
    """Index of every value in a list of names; -1 for a value that is not in the list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = pc.index_in(column, value_set=pa.array(order, pa.string()))
    return np.asarray(pc.fill_null(codes, -1).to_numpy(), dtype=np.int64)


# --- checking manifest.toml ------------------------------------------------------------------


class _Reader:
    """Typed access to a TOML document; its errors say where a value is wrong."""

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        self.document, self.where = document, where

    def fail(self, problem: str) -> ManifestError:
        return ManifestError(f"{self.where}: {problem}")

    def get(self, key: str, kind: type, what: str) -> Any:
        value = self.document.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            state = "is missing" if value is None else f"is {value!r}"
            raise self.fail(f"{key} {state}; it must be {what}")
        return value

    def text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        value: str = self.get(key, str, "a string")
        if not value.strip() or (pattern and not pattern.fullmatch(value)):
            raise self.fail(f"{key} is {value!r}; it must be a name such as 'icons' or '1.0'")
        return value

    def names(self, key: str) -> list[str]:
        values = self.get(key, list, "a list of names")
        bad = [v for v in values if not isinstance(v, str) or not v or _CONTROL.search(v)]
        if not values or bad:
            raise self.fail(f"{key} must be a list of names; it holds {first(bad) or 'nothing'}")
        if repeated := _repeated(values):
            raise self.fail(f"{key} names {first(repeated)} more than once")
        return list(values)


def _repeated(values: Iterable[str]) -> list[str]:
    once: set[str] = set()
    twice: dict[str, None] = {}
    for value in values:
        if value in once:
            twice[value] = None
        once.add(value)
    return list(twice)


def _check_document(document: Mapping[str, Any], where: str) -> None:
    _check_plain(document, where)
    reader = _Reader(document, where)
    if document.get("format") != FORMAT:
        raise reader.fail(
            f"format is {document.get('format')!r}; this version of the suite reads format {FORMAT}"
        )
    reader.text("name", _NAME)
    reader.text("version", _VERSION)
    for key in ("title", "terms", "citation"):
        reader.text(key)
    if not 1 <= reader.get("image_size", int, "a number of pixels") <= 4096:
        raise reader.fail("image_size must be from 1 to 4096 pixels")
    if document.get("images") not in IMAGE_SOURCES:
        raise reader.fail(
            f"images is {document.get('images')!r}; known: {', '.join(IMAGE_SOURCES)}"
        )
    if (store := document.get("store", "raw")) not in STORES:
        raise reader.fail(f"store is {store!r}; known: {', '.join(STORES)}")
    reader.names("classes")
    for key in ("model", "transforms", "source", "recipe"):
        reader.get(key, dict, "a table")
    _check_named(reader, "domains", "name", _NAME)
    for domain in document["domains"]:
        _Reader(domain, f"{where}: domain {domain['name']}").names("folders")
    _check_mirrors(reader)
    _check_named(reader, "tasks", "id", _TASK_ID)


def _check_mirrors(reader: _Reader) -> None:
    """Where the images can be downloaded: an address, optionally its size and SHA-256."""
    mirrors = reader.document.get("mirrors", [])
    if not isinstance(mirrors, list) or not all(isinstance(entry, dict) for entry in mirrors):
        raise reader.fail("mirrors must be an array of tables [[mirrors]]")
    for index, entry in enumerate(mirrors):
        mirror = _Reader(entry, f"{reader.where}: mirrors[{index}]")
        mirror.text("address")
        if "bytes" in entry and mirror.get("bytes", int, "a number of bytes") < 1:
            raise mirror.fail("bytes must be at least 1")
        if "sha256" in entry and not _SHA256.fullmatch(mirror.text("sha256")):
            raise mirror.fail("sha256 must be 64 lower-case hex digits")


def _check_named(reader: _Reader, key: str, name: str, pattern: re.Pattern[str]) -> None:
    """A non-empty array of tables, each with a valid and unique name."""
    entries = reader.get(key, list, f"an array of tables [[{key}]]")
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise reader.fail(f"{key} must be a non-empty array of tables [[{key}]]")
    names = [
        _Reader(e, f"{reader.where}: {key}[{i}]").text(name, pattern) for i, e in enumerate(entries)
    ]
    if repeated := _repeated(names):
        raise reader.fail(f"{key} names {first(repeated)} more than once")


def _check_plain(value: object, where: str, depth: int = 0) -> None:
    """Allow only values with one canonical JSON form that are safe to print on a terminal."""
    if depth > MAX_TOML_DEPTH:
        raise ManifestError(f"{where}: tables are nested more than {MAX_TOML_DEPTH} deep")
    if isinstance(value, Mapping):
        _check_plain(list(value), where, depth)
        _check_plain(list(value.values()), where, depth)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, where, depth + 1)
    elif isinstance(value, str):
        if _NOT_TEXT.search(value):
            raise ManifestError(f"{where}: control characters in {value[:100]!r}")
    elif isinstance(value, int):
        if abs(value) >= 1 << 63:
            raise ManifestError(f"{where}: {value!r:.40} does not fit into a 64-bit integer")
    elif not isinstance(value, float) or not np.isfinite(value):  # a date, NaN, an infinity
        raise ManifestError(
            f"{where}: the value {value!r} is not allowed; use a string or a number"
        )


# --- checking images.parquet and the tasks ----------------------------------------------------


def _check_images(manifest: Manifest, where: str) -> None:
    table, codes = manifest.table, manifest.codes
    if table.num_rows == 0:
        raise ManifestError(f"{where}: the table is empty; a manifest needs images")
    for name in table.column_names:
        _check_strings(table[name], name, where)
    if repeated := _repeated_values(table["image_id"]):
        raise ManifestError(f"{where}: image_id is not unique: {first(repeated)}")
    for name, what in (("class", "classes"), ("domain", "domains"), ("split", "splits")):
        if (bad := np.flatnonzero(codes[name] < 0)).size:
            values = sorted({table[name][int(i)].as_py() for i in bad})
            example = manifest.ids[int(bad[0])]
            raise ManifestError(
                f"{where}: unknown {name} {first(values)} (image {example!r}); "
                f"use one of the {what} of the manifest"
            )
    _check_one_split(manifest, "path", np.zeros_like(codes["domain"]), where)
    _check_paths(table["path"], where)
    sums = table["sha256"].to_pylist() if "sha256" in table.column_names else [None]
    if manifest.document["images"] == "embedded" and None in sums:
        # The digest of a manifest covers embedded pixels through this column only.
        raise ManifestError(f"{where}: every embedded image needs a sha256")
    if bad_sums := [s for s in sums if s is not None and not _SHA256.fullmatch(s)]:
        raise ManifestError(f"{where}: sha256 must be 64 lower-case hex digits: {first(bad_sums)}")
    if "sha256" in table.column_names:
        _check_one_split(manifest, "sha256", codes["domain"], where)


def _check_strings(column: pa.ChunkedArray, name: str, where: str) -> None:
    import pyarrow.compute as pc

    if name in REQUIRED_COLUMNS and column.null_count:
        raise ManifestError(f"{where}: column {name} has {column.null_count} null values")
    broken = pc.match_substring_regex(column, r"[\x00-\x1f\x7f\x{80}-\x{9f}]|^$")
    if pc.any(broken).as_py():
        bad = column.filter(pc.fill_null(broken, False)).to_pylist()
        raise ManifestError(
            f"{where}: column {name} holds empty strings or control characters: {first(bad)}"
        )


def _check_paths(paths: pa.ChunkedArray, where: str) -> None:
    """A path must stay below the data set's root on every system."""
    import pyarrow.compute as pc

    bad = paths.filter(pc.match_substring_regex(paths, _NOT_CANONICAL_PATH))
    if len(bad):
        raise ManifestError(
            f"{where}: a path must be relative, use / and stay below the data set's root: "
            f"{first(bad.to_pylist())}"
        )
    if repeated := _repeated_values(paths):
        raise ManifestError(f"{where}: two images have the same path: {first(repeated)}")


def _repeated_values(column: pa.ChunkedArray) -> list[str]:
    """The values that occur more than once in a column; fast if there are none."""
    return [] if len(column.unique()) == len(column) else _repeated(column.to_pylist())


def _check_one_split(manifest: Manifest, column: str, scope: NDArray[np.int64], where: str) -> None:
    """Within a scope, no path or checksum may be both in train and in test."""
    values = manifest.table[column]
    if not _repeated_values(values.drop_null()):
        return
    split = manifest.codes["split"]
    home: dict[tuple[int, str], int] = {}
    for row, value in enumerate(values.to_pylist()):
        if value is None:
            continue
        other = home.setdefault((int(scope[row]), value), row)
        if split[other] != split[row]:
            raise ManifestError(
                f"{where}: an image is in two splits: {manifest.ids[other]!r} and "
                f"{manifest.ids[row]!r} have the same {column} {value!r}; keep it in one"
            )


def _check_tasks(manifest: Manifest, where: str) -> None:
    known_domains = {domain.name for domain in manifest.domains}
    for entry in manifest.document["tasks"]:
        reader = _Reader(entry, f"{where}: task {entry['id']}")
        sources, seen = reader.names("sources"), reader.names("seen")
        target = reader.text("target")
        if unknown := [d for d in (*sources, target) if d not in known_domains]:
            raise reader.fail(f"unknown domain {first(unknown)}; known: {sorted(known_domains)}")
        if target in sources:
            raise reader.fail(f"the target {target!r} is also a source; choose another target")
        missing = reader.names("missing") if "missing" in entry else []
        for group, names in (("seen", seen), ("missing", missing)):
            if unknown := [c for c in names if c not in set(manifest.classes)]:
                raise reader.fail(
                    f"unknown class {first(unknown)} in {group}; check the list of classes"
                )
        if both := [c for c in missing if c in set(seen)]:
            raise reader.fail(f"{first(both)} is both seen and missing")
        _check_groups(manifest, manifest.task(entry["id"]), reader)


def _check_groups(manifest: Manifest, task: Task, reader: _Reader) -> None:
    count = len(manifest.classes)
    mask = manifest.seen_mask(task)
    train = np.bincount(manifest.samples(task.target, "train").labels, minlength=count)
    test = np.bincount(manifest.samples(task.target, "test").labels, minlength=count)
    if (empty := np.flatnonzero(mask & (train == 0))).size:
        names = [manifest.classes[i] for i in empty]
        raise reader.fail(f"seen class without a training image in {task.target}: {first(names)}")
    if mask.all():
        raise reader.fail("every class is seen; a partial-target task needs missing classes")
    for group, members in (("seen", mask), ("missing", manifest.missing_mask(task))):
        if test[members].sum() == 0:
            raise reader.fail(f"empty group: no test image of a {group} class in {task.target}")
    source = np.bincount(manifest.samples(task.sources, "train").labels, minlength=count)
    if source.sum() == 0:
        raise reader.fail(f"the source {'+'.join(task.sources)} has no training image")


def _check_suite(document: Mapping[str, Any], path: Path) -> Suite:
    _check_plain(document, str(path))
    reader = _Reader(document, str(path))
    reference = reader.text("manifest")
    if "@" not in reference and not Path(reference).is_absolute():
        reference = str((path.parent / reference).resolve())
    seeds = reader.get("seeds", list, "a list of whole numbers")
    if not seeds or any(type(s) is not int or not 0 <= s < 2**32 for s in seeds):
        raise reader.fail("seeds must be a list of whole numbers from 0 to 2^32 - 1")
    if len(set(seeds)) != len(seeds):
        raise reader.fail("seeds names a seed more than once")
    return Suite(
        name=path.stem,
        title=reader.text("title"),
        manifest=reference,
        tasks=tuple(reader.names("tasks")),
        methods=_suite_methods(reader),
        seeds=tuple(seeds),
    )


def _suite_methods(reader: _Reader) -> tuple[str, ...]:
    """The methods that a suite names, or all that are the suite's own."""
    methods = reader.document.get("methods")
    if not isinstance(methods, str):
        return tuple(reader.names("methods"))
    if methods != ALL:
        raise reader.fail(
            f"methods is {methods!r}; it must be a list of names, or {ALL!r} for every method "
            "that ships with the suite"
        )
    if not (names := builtin_methods()):
        raise reader.fail(
            f"methods is {ALL!r}, but no method is registered; install the suite (pip install -e .)"
        )
    return names
