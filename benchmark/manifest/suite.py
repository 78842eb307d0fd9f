"""Suites: the grid of tasks, methods and seeds that people run by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.commands import command
from benchmark.errors import ManifestError
from benchmark.folders import data_folder, packaged_manifests
from benchmark.manifest.catalogue import load_manifest, published_recipes, withdrawn_as
from benchmark.manifest.manifest import DEFAULT_RECIPE, Manifest
from benchmark.manifest.read import read_toml
from benchmark.manifest.rules import NAME, Reader, check_canonical
from benchmark.methods.find import builtin_methods

ALL = "all"  # in place of a list of methods: every method that ships with the suite


@dataclass(frozen=True)
class Suite:
    """A grid that people run by name: tasks of one manifest, methods and seeds.

    In a suite's file ``methods`` may be ``"all"``; here they are listed by name.

    Attributes:
        manifest: a reference or a folder; see :func:`manifest_of`.
        recipe: the name of one of the manifest's recipes.
        tuned: whether its methods are tuned by ``htbench tune``, and its table has these runs only.
    """

    name: str
    title: str
    manifest: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: str = DEFAULT_RECIPE
    tuned: bool = False
    given: str | None = None  # see `argument`

    @property
    def argument(self) -> str:
        """What names the suite on a command line: its file as it was given, or its name."""
        return self.given or self.name

    @property
    def location(self) -> str:
        """What names the suite in any working directory: the path of its file, or its name."""
        is_file = self.argument.endswith(".toml")
        return str(Path(self.argument).resolve()) if is_file else self.argument


def load_suite(name: str) -> Suite:
    """Read a suite by name (``icons``) or from a ``.toml`` file.

    Raises:
        ManifestError: it does not exist or breaks a rule.
    """
    if name.endswith(".toml"):
        path = Path(name)
    else:
        path = packaged_manifests() / "suites" / f"{name}.toml"
        if NAME.fullmatch(name) and not path.is_file():
            path = _expanded_suite(name) or path
    if not path.is_file() or not (name.endswith(".toml") or NAME.fullmatch(name)):
        known = ", ".join(known_suites())
        raise ManifestError(
            f"unknown suite {name!r}; known: {known}. You can also give the path of a .toml file"
        )
    return replace(_check_suite(read_toml(path), path), given=name)


def manifest_of(suite: Suite) -> Manifest:
    """The manifest of a suite, with the suite's recipe.

    Raises:
        ManifestError: it does not exist, breaks a rule, or has no such recipe.
    """
    return load_manifest(suite.manifest).with_recipe(suite.recipe)


def _expanded_suite(name: str) -> Path | None:
    """The suite that was written beside the expansion of a recipe.

    Raises:
        ManifestError: there are several, or the recipe has not been expanded.
    """
    files = (data_folder() / "manifests" / name).glob(f"*/{name}.toml")
    suites = sorted(file for file in files if not withdrawn_as(f"{name}@{file.parent.name}"))
    if len(suites) > 1:
        raise ManifestError(
            f"the recipe {name} was expanded more than once; give the path of one of these suites: "
            + ", ".join(map(str, suites))
        )
    recipes = [r for r in published_recipes() if r.partition("@")[0] == name]
    if recipes and not suites:
        raise ManifestError(
            f"the suite {name} does not exist yet; expand its recipe first: "
            + command("manifest", "expand", recipes[-1], "--metadata", "metadata.csv")
        )
    return suites[0] if suites else None


def known_suites() -> list[str]:
    """Names of the suites that ship, sorted."""
    return sorted(path.stem for path in (packaged_manifests() / "suites").glob("*.toml"))


def _check_suite(document: Mapping[str, Any], path: Path) -> Suite:
    check_canonical(document, str(path))
    reader = Reader(document, str(path))
    reference = reader.text("manifest")
    if "@" not in reference and not Path(reference).is_absolute():
        reference = str((path.parent / reference).resolve())
    seeds = reader.get("seeds", list, "a list of whole numbers")
    if not seeds or any(type(s) is not int or not 0 <= s < 2**32 for s in seeds):
        raise reader.fail("seeds must be a list of whole numbers from 0 to 2^32 - 1")
    if len(set(seeds)) != len(seeds):
        raise reader.fail("seeds must not contain the same seed twice")
    return Suite(
        name=path.stem,
        title=reader.text("title"),
        manifest=reference,
        tasks=tuple(reader.names("tasks")),
        methods=_suite_methods(reader),
        seeds=tuple(seeds),
        recipe=reader.text("recipe") if "recipe" in document else DEFAULT_RECIPE,
        tuned=reader.get("tuned", bool, "true or false") if "tuned" in document else False,
    )


def _suite_methods(reader: Reader) -> tuple[str, ...]:
    """The methods that a suite names, or all that are the suite's own."""
    methods = reader.document.get("methods")
    if not isinstance(methods, str):
        return tuple(reader.names("methods"))
    if methods != ALL:
        raise reader.fail(
            f"methods is {methods!r}; it must be a list of names, or {ALL!r} for all "
            "built-in methods"
        )
    if not (names := builtin_methods()):
        raise reader.fail(
            f"methods is {ALL!r}, but no methods are installed; reinstall the suite "
            "(pip install -e .)"
        )
    return names
