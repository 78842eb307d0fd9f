"""Every rule that a manifest must follow; a message names the file and the first offenders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.errors import ManifestError, first
from benchmark.manifest.manifest import (
    DEFAULT_RECIPE,
    HEADLINES,
    RATES,
    REQUIRED_COLUMNS,
    Manifest,
    Task,
    is_ascending,
)
from benchmark.manifest.transforms import check_transforms

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

FORMAT = 1
MAX_TOML_DEPTH = 16
# Where the pixels are: in images.parquet itself, or in files that the user has.
IMAGE_SOURCES = ("embedded", "folder")
STORES = ("raw", "jpeg")  # how the image store keeps pixels, where a manifest says so
# Names and versions become names of files and folders, which have at most 255 bytes.
MAX_NAME = 100
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{MAX_NAME - 1}}}")
_TASK_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.+-]{{0,{MAX_NAME - 1}}}")
VERSION = re.compile(rf"(?!.{{{MAX_NAME + 1}}})[0-9]+(\.[0-9]+)*(\+[A-Za-z0-9.]+)?")
_AVERAGES = ("mean", "pooled")  # what boards show beside tasks
_RECIPE_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MAX_SOURCE_SEEDS = 100
PIN_KEYS = frozenset(("sources", "seed", "sha256", "test_accuracy", "file", "urls"))
# Of the entries of a training recipe: the types, the smallest and the largest value.
_RATE = ((int, float), 1e-12, 1000.0)
TRAINING = {
    "steps": ((int,), 1, 10**9),
    "batch_size": ((int,), 1, 10**6),
    "lr": _RATE,
    "head_lr": _RATE,
    "backbone_lr": _RATE,
    "momentum": ((int, float), 0.0, 1.0),
    "weight_decay": ((int, float), 0.0, 1000.0),
}
REQUIRED = ("steps", "batch_size", "momentum", "nesterov", "weight_decay")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Patterns that leave the root or have two spellings on some operating system.
_NOT_CANONICAL_PATH = r"[\\:]|^/|/$|//|(^|/)\.\.?(/|$)"
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # text may have tabs and line breaks


class Reader:
    """Typed access to a TOML document; its errors say where a value is wrong."""

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        self.document, self.where = document, where

    def fail(self, problem: str) -> ManifestError:
        """The error that names the file and the problem; the caller raises it."""
        return ManifestError(f"{self.where}: {problem}")

    def get(self, key: str, kind: type, what: str) -> Any:
        """The value of a key, which must have a type; ``what`` describes it in the error."""
        value = self.document.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            state = "is missing" if value is None else f"is {value!r}"
            raise self.fail(f"{key} {state}; it must be {what}")
        return value

    def text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        """The value of a key, which must be a non-empty string that matches the pattern."""
        value: str = self.get(key, str, "a string")
        if not value.strip() or (pattern and not pattern.fullmatch(value)):
            raise self.fail(
                f"{key} is {value!r}; it must be a name or version of at most {MAX_NAME} "
                "characters, such as 'icons' or '1.0'"
            )
        return value

    def names(self, key: str) -> list[str]:
        """The value of a key, which must be a list of distinct names."""
        values = self.get(key, list, "a list of names")
        bad = [v for v in values if not isinstance(v, str) or not v or _CONTROL.search(v)]
        if not values or bad:
            problem = f"but it contains {first(bad)}" if bad else "but it is empty"
            raise self.fail(f"{key} must be a non-empty list of names, {problem}")
        if repeated := _repeated(values):
            raise self.fail(f"{key} contains {first(repeated)} more than once")
        return list(values)


def _repeated(values: Iterable[str]) -> list[str]:
    once: set[str] = set()
    twice: dict[str, None] = {}
    for value in values:
        if value in once:
            twice[value] = None
        once.add(value)
    return list(twice)


def check_document(document: Mapping[str, Any], where: str) -> None:
    """Check ``manifest.toml``, apart from what depends on the images.

    Raises:
        ManifestError: a rule is broken; the message begins with ``where``.
    """
    check_canonical(document, where)
    reader = Reader(document, where)
    if document.get("format") != FORMAT:
        raise reader.fail(
            f"format is {document.get('format')!r}; this version of the suite reads format {FORMAT}"
        )
    reader.text("name", NAME)
    reader.text("version", VERSION)
    for key in ("title", "terms", "citation"):
        reader.text(key)
    if not 1 <= reader.get("image_size", int, "a number of pixels") <= 4096:
        raise reader.fail("image_size must be between 1 and 4096 pixels")
    if document.get("images") not in IMAGE_SOURCES:
        raise reader.fail(
            f"images is {document.get('images')!r}; known: {', '.join(IMAGE_SOURCES)}"
        )
    if (store := document.get("store", "raw")) not in STORES:
        raise reader.fail(f"store is {store!r}; known: {', '.join(STORES)}")
    if (headline := document.get("headline", HEADLINES[0])) not in HEADLINES:
        raise reader.fail(f"headline is {headline!r}; known: {', '.join(HEADLINES)}")
    reader.names("classes")
    for key in ("model", "transforms", "source", "recipe"):
        reader.get(key, dict, "a table")
    check_transforms(document["transforms"], reader.fail)
    _check_named(reader, "domains", "name", NAME)
    for domain in document["domains"]:
        Reader(domain, f"{where}: domain {domain['name']}").names("folders")
    _check_mirrors(reader)
    _check_recipes(reader)
    _check_named(reader, "tasks", "id", _TASK_ID)
    if taken := [e["id"] for e in reader.document["tasks"] if e["id"] in _AVERAGES]:
        raise reader.fail(f"a task cannot be called {taken[0]}, as boards call an average of tasks")
    _check_sources(reader)


def _check_mirrors(reader: Reader) -> None:
    """Where the images can be downloaded: an address, optionally its size and SHA-256."""
    mirrors = reader.document.get("mirrors", [])
    if not isinstance(mirrors, list) or not all(isinstance(entry, dict) for entry in mirrors):
        raise reader.fail("mirrors must be an array of tables [[mirrors]]")
    for index, entry in enumerate(mirrors):
        mirror = Reader(entry, f"{reader.where}: mirrors[{index}]")
        mirror.text("address")
        if "bytes" in entry and mirror.get("bytes", int, "a number of bytes") < 1:
            raise mirror.fail("bytes must be at least 1")
        if "sha256" in entry and not _SHA256.fullmatch(mirror.text("sha256")):
            raise mirror.fail("sha256 must be 64 lower-case hexadecimal digits")


def _check_recipes(reader: Reader) -> None:
    """The numbers of all recipes; a named one replaces entries of ``[recipe]`` of the same type."""
    _check_training(reader, "source")
    _check_training(reader, "recipe")
    if "recipes" not in reader.document:
        return
    default = reader.document["recipe"]
    for name, table in reader.get("recipes", dict, "tables [recipes.NAME]").items():
        if not _RECIPE_NAME.fullmatch(name) or name == DEFAULT_RECIPE:
            raise reader.fail(
                f"a recipe is named {name!r}; use lower case letters, digits and dashes, and not "
                f"{DEFAULT_RECIPE!r}, which is [recipe]"
            )
        if not isinstance(table, dict) or not table:
            raise reader.fail(f"recipes.{name} must be a table of the entries that it replaces")
        for key, value in table.items():
            known = default.get(key, "" if key == "chosen" else None)
            if known is None:
                raise reader.fail(
                    f"recipes.{name} has {key!r}, which [recipe] does not have; it has: "
                    f"{', '.join(default)}"
                )
            if type(value) is not type(known):
                raise reader.fail(
                    f"recipes.{name}.{key} is {value!r}; it must be of the type of [recipe], where "
                    f"it is {known!r}"
                )
        _check_training(reader, f"recipes.{name}", default)


def _check_training(reader: Reader, name: str, default: Mapping[str, Any] | None = None) -> None:
    """The numbers of a training recipe; ``default`` has the entries that a named one leaves out."""
    table: Any = reader.document
    for part in name.split(".", 1):
        table = table[part]
    for key in ("tf32", "nesterov"):
        if not isinstance(table.get(key, False), bool):
            raise reader.fail(f"{name}.{key} is {table[key]!r}; it must be true or false")
    for key, value in table.items():
        if key not in TRAINING:
            continue
        kinds, low, high = TRAINING[key]
        if type(value) not in kinds or not low <= value <= high:
            what = "a whole number" if kinds == (int,) else "a number"
            raise reader.fail(
                f"{name}.{key} is {value!r}; it must be {what} from {low:g} to {high:g}"
            )
    whole = {**(default or {}), **table}
    if absent := [key for key in REQUIRED if key not in whole]:
        raise reader.fail(f"{name} has no {', '.join(absent)}; add it")
    if (rates := whole.keys() & set(RATES)) not in ({RATES[0]}, {*RATES[1:]}):
        raise reader.fail(
            f"{name} has {first(sorted(rates)) or 'no rate'}; give lr, or head_lr and backbone_lr"
        )
    if whole["nesterov"] and whole["momentum"] == 0:
        raise reader.fail(f"{name} has nesterov and no momentum; set nesterov = false")


def _check_sources(reader: Reader) -> None:
    """How many source models there are for the same domains, and which are fixed."""
    source = Reader(reader.document["source"], f"{reader.where}: source")
    seeds = (
        source.get("seeds", int, "a number of source models") if "seeds" in source.document else 1
    )
    if not 1 <= seeds <= MAX_SOURCE_SEEDS:
        raise source.fail(f"seeds is {seeds}; it must be between 1 and {MAX_SOURCE_SEEDS}")
    if "checkpoints" not in source.document:
        return
    entries = source.get("checkpoints", list, "an array of tables [[source.checkpoints]]")
    known = {domain["name"] for domain in reader.document["domains"]}
    places = set()
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise source.fail("checkpoints must be an array of tables [[source.checkpoints]]")
        pin = Reader(entry, f"{reader.where}: source.checkpoints[{index}]")
        if extra := sorted(entry.keys() - PIN_KEYS):
            raise pin.fail(f"unknown entry {first(extra)}; known: {', '.join(sorted(PIN_KEYS))}")
        domains = pin.names("sources")
        if unknown := [name for name in domains if name not in known]:
            raise pin.fail(f"unknown domain {first(unknown)}; known: {sorted(known)}")
        seed = pin.get("seed", int, "a whole number") if "seed" in entry else 0
        if not 0 <= seed < seeds:
            raise pin.fail(f"seed is {seed}; source.seeds is {seeds}, so it must be below")
        if (place := (frozenset(domains), seed)) in places:
            raise pin.fail(f"{'+'.join(domains)} with seed {seed} is listed twice")
        places.add(place)
        if not _SHA256.fullmatch(pin.text("sha256")):
            raise pin.fail("sha256 must be 64 lower-case hexadecimal digits")
        if not 0 <= pin.get("test_accuracy", float, "a number in per cent") <= 100:
            raise pin.fail("test_accuracy must be between 0 and 100")
        _check_places(pin)


def _check_places(pin: Reader) -> None:
    """A fixed source model is a file in the manifest's folder, or is at some addresses."""
    if ("file" in pin.document) == ("urls" in pin.document):
        raise pin.fail("give either file, a path in the manifest's folder, or urls")
    if "urls" in pin.document:
        if bad := [url for url in pin.names("urls") if not url.startswith(("http://", "https://"))]:
            raise pin.fail(f"urls must be http or https addresses: {first(bad)}")
    elif re.search(_NOT_CANONICAL_PATH, file := pin.text("file")):
        raise pin.fail(
            f"file is {file!r}; it must be a path in the manifest's folder with forward slashes"
        )


def _check_named(reader: Reader, key: str, name: str, pattern: re.Pattern[str]) -> None:
    """A non-empty array of tables, each with a valid and unique name."""
    entries = reader.get(key, list, f"an array of tables [[{key}]]")
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise reader.fail(f"{key} must be a non-empty array of tables [[{key}]]")
    names = [
        Reader(e, f"{reader.where}: {key}[{i}]").text(name, pattern) for i, e in enumerate(entries)
    ]
    if repeated := _repeated(names):
        raise reader.fail(f"{key} contains {first(repeated)} more than once")


def check_canonical(value: object, where: str, depth: int = 0) -> None:
    """Allow only values with one canonical JSON form that are safe to print on a terminal."""
    if depth > MAX_TOML_DEPTH:
        raise ManifestError(f"{where}: tables must not be nested more than {MAX_TOML_DEPTH} deep")
    if isinstance(value, Mapping):
        check_canonical(list(value), where, depth)
        check_canonical(list(value.values()), where, depth)
    elif isinstance(value, list):
        for item in value:
            check_canonical(item, where, depth + 1)
    elif isinstance(value, str):
        if _NOT_TEXT.search(value):
            raise ManifestError(f"{where}: control characters in {value[:100]!r}")
    elif isinstance(value, int):
        if abs(value) >= 1 << 63:
            raise ManifestError(f"{where}: {value!r:.40} does not fit in a 64-bit integer")
    elif not isinstance(value, float) or not np.isfinite(value):  # a date, NaN, an infinity
        raise ManifestError(
            f"{where}: the value {value!r} is not allowed; use a string or a number"
        )


def check_images(manifest: Manifest, where: str) -> None:
    """Check ``images.parquet``: ids, classes, domains, splits, paths and checksums.

    Raises:
        ManifestError: a rule is broken; the message begins with ``where``.
    """
    table, codes = manifest.table, manifest.codes
    if table.num_rows == 0:
        raise ManifestError(f"{where}: the table has no rows; a manifest needs at least one image")
    for name in table.column_names:
        _check_strings(table[name], name, where)
    if repeated := _repeated_values(table["image_id"]):
        raise ManifestError(f"{where}: image_id is not unique: {first(repeated)}")
    for name, what in (("class", "classes"), ("domain", "domains"), ("split", "splits")):
        if (bad := np.flatnonzero(codes[name] < 0)).size:
            values = sorted({table[name][int(i)].as_py() for i in bad})
            example = manifest.ids[int(bad[0])]
            raise ManifestError(
                f"{where}: unknown {name} {first(values)} (for example, in image {example!r}); "
                f"use one of the {what} listed in the manifest"
            )
    _check_one_split(manifest, "path", np.zeros_like(codes["domain"]), where)
    _check_paths(table["path"], where)
    sums = table["sha256"] if "sha256" in table.column_names else None
    if manifest.document["images"] == "embedded" and (sums is None or sums.null_count):
        # The digest of a manifest covers embedded pixels through this column only.
        raise ManifestError(f"{where}: every embedded image needs a sha256")
    if sums is not None:
        _check_sums(sums, where)
        _check_one_split(manifest, "sha256", codes["domain"], where)


def _check_strings(column: pa.ChunkedArray, name: str, where: str) -> None:
    import pyarrow.compute as pc

    if name in REQUIRED_COLUMNS and column.null_count:
        raise ManifestError(f"{where}: column {name} has {column.null_count} null values")
    broken = pc.match_substring_regex(column, r"[\x00-\x1f\x7f\x{80}-\x{9f}]|^$")
    if pc.any(broken).as_py():
        bad = column.filter(pc.fill_null(broken, False)).to_pylist()
        raise ManifestError(
            f"{where}: column {name} contains empty strings or control characters: {first(bad)}"
        )


def _check_sums(sums: pa.ChunkedArray, where: str) -> None:
    import pyarrow.compute as pc

    bad = sums.filter(pc.invert(pc.match_substring_regex(sums, f"^{_SHA256.pattern}$")))
    if len(bad):
        raise ManifestError(
            f"{where}: sha256 must be 64 lower-case hexadecimal digits: {first(bad.to_pylist())}"
        )


def _check_paths(paths: pa.ChunkedArray, where: str) -> None:
    """A path must stay below the data set's root on every system."""
    import pyarrow.compute as pc

    bad = paths.filter(pc.match_substring_regex(paths, _NOT_CANONICAL_PATH))
    if len(bad):
        raise ManifestError(
            f"{where}: paths must be relative, use forward slashes and stay inside the data set's "
            f"root: {first(bad.to_pylist())}"
        )
    if repeated := _repeated_values(paths):
        raise ManifestError(f"{where}: two images have the same path: {first(repeated)}")


def is_portable(path: str) -> bool:
    """Whether a path can be in a manifest: it stays below the root, and is text on every system."""
    if re.search(_NOT_CANONICAL_PATH, path) or _CONTROL.search(path):
        return False
    return path.isascii() or not re.search("[\ud800-\udfff]", path)  # bytes that are not UTF-8


def _repeated_values(column: pa.ChunkedArray) -> list[str]:
    """The values that occur more than once in a column; fast if there are none."""
    if is_ascending(column) or len(column.unique()) == len(column):
        return []
    return _repeated(column.to_pylist())


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
                f"{where}: images {manifest.ids[other]!r} and {manifest.ids[row]!r} have the same "
                f"{column} {value!r} but are in different splits; keep the image in only one split"
            )


def check_tasks(manifest: Manifest, where: str) -> None:
    """Check every task: its domains and classes, and that no group is empty.

    Raises:
        ManifestError: a rule is broken; the message begins with ``where``.
    """
    known_domains = {domain.name for domain in manifest.domains}
    readers = [Reader(e, f"{where}: task {e['id']}") for e in manifest.document["tasks"]]
    for reader in readers:
        sources, seen = reader.names("sources"), reader.names("seen")
        target = reader.text("target")
        if unknown := [d for d in (*sources, target) if d not in known_domains]:
            raise reader.fail(f"unknown domain {first(unknown)}; known: {sorted(known_domains)}")
        if target in sources:
            raise reader.fail(f"the target {target!r} is also a source; choose another target")
        missing = reader.names("missing") if "missing" in reader.document else []
        for group, names in (("seen", seen), ("missing", missing)):
            if unknown := [c for c in names if c not in set(manifest.classes)]:
                raise reader.fail(
                    f"unknown class {first(unknown)} in {group}; check the list of classes"
                )
        if both := [c for c in missing if c in set(seen)]:
            raise reader.fail(f"class {first(both)} is listed as both seen and missing")
    for reader in readers:  # when all are checked: the manifest builds its tasks together
        _check_groups(manifest, manifest.task(reader.document["id"]), reader)


def _check_groups(manifest: Manifest, task: Task, reader: Reader) -> None:
    mask = manifest.seen_mask(task)
    train = manifest.class_counts(task.target, "train")
    test = manifest.class_counts(task.target, "test")
    if (empty := np.flatnonzero(mask & (train == 0))).size:
        names = [manifest.classes[i] for i in empty]
        raise reader.fail(
            f"every seen class needs training images in {task.target}, but these have none: "
            f"{first(names)}"
        )
    if mask.all():
        raise reader.fail("every class is seen; a partial-target task needs missing classes")
    for group, members in (("seen", mask), ("missing", manifest.missing_mask(task))):
        if test[members].sum() == 0:
            raise reader.fail(f"{task.target} has no test images of {group} classes")
    if manifest.class_counts(task.sources, "train").sum() == 0:
        raise reader.fail(f"the source {'+'.join(task.sources)} has no training images")
