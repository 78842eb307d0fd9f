"""The rules of a manifest's ``[source]``, ``[recipe]`` and ``[recipes.NAME]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from benchmark.errors import first
from benchmark.manifest.manifest import DEFAULT_RECIPE, RATES
from benchmark.manifest.reader import NOT_CANONICAL_PATH, Reader

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


def check_recipes(reader: Reader) -> None:
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
    if not isinstance(chosen := table.get("chosen", ""), str):
        raise reader.fail(f"{name}.chosen is {chosen!r}; it must be a string")
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


def check_sources(reader: Reader) -> None:
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
        pin.sha256("sha256")
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
    elif re.search(NOT_CANONICAL_PATH, file := pin.text("file")):
        raise pin.fail(
            f"file is {file!r}; it must be a path in the manifest's folder with forward slashes"
        )
