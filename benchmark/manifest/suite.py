"""Suites: the grid of tasks, methods and seeds that people run by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, SupportsIndex

from benchmark.commands import command
from benchmark.errors import MAX_ITEM, ManifestError, UsageError, first
from benchmark.files import is_file
from benchmark.folders import data_folder, packaged_manifests
from benchmark.manifest.catalogue import (
    finished,
    load_manifest,
    published_recipes,
    reference_of,
    withdrawn_as,
)
from benchmark.manifest.manifest import DEFAULT_RECIPE, MANIFEST_FILE, Manifest
from benchmark.manifest.read import read_toml
from benchmark.manifest.reader import NAME, Reader, check_canonical
from benchmark.methods.find import builtin_methods
from benchmark.text import near, one_line, ranges

ENTRIES = ("title", "manifest", "tasks", "methods", "seeds", "recipe", "tuned")
MAX_SEED = 2**32 - 1
ALL = "all"  # in place of a list of methods: every method that ships with the benchmark


def checked_seed(seed: object) -> int:
    """A seed that need not be among those of a suite.

    Raises:
        UsageError: it is not a whole number from 0 to ``MAX_SEED``.
    """
    if not isinstance(seed, SupportsIndex) or not 0 <= int(seed) <= MAX_SEED:
        raise UsageError(f"seed is {seed!r}; give a whole number from 0 to {MAX_SEED}")
    return int(seed)


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
        if not self.argument.endswith(".toml"):
            return self.argument
        return str(Path(self.argument).resolve())

    def part(self, tasks: Collection[str] = (), seeds: Collection[int] = ()) -> Suite:
        """The suite with only some of its tasks and seeds, in its order; all where none are named.

        Raises:
            UsageError: a task or seed is not in the suite.
        """
        for task in tasks:
            if task not in self.tasks:
                raise UsageError(
                    f"--task {one_line(task, MAX_ITEM)} is not in suite {self.name}; "
                    f"{near(str(task), self.tasks)}it has: {', '.join(self.tasks)}"
                )
        for seed in seeds:
            if seed not in self.seeds:
                raise UsageError(  # '0' is not 0
                    f"--seed {seed!r} is not in suite {self.name}; it has: {ranges(self.seeds)}"
                )
        return replace(
            self,
            tasks=tuple(t for t in self.tasks if not tasks or t in tasks),
            seeds=tuple(s for s in self.seeds if not seeds or s in seeds),
        )


def load_suite(name: str | Path | Suite) -> Suite:
    """Read a suite by name (``icons``) or from a ``.toml`` file.

    Args:
        name: its name or file. A loaded suite is returned as it is.

    Returns:
        The suite, with ``name``, ``title``, ``manifest`` (a reference or a folder), and tuples of
        ``tasks``, ``methods`` and ``seeds``.

    Raises:
        ManifestError: it does not exist or breaks a rule.

    Example:
        >>> from htbench import load_suite
        >>> load_suite("icons").seeds
        (0, 1, 2)
    """
    if isinstance(name, Suite):
        return name
    name = str(name)
    if name.endswith(".toml"):
        path = Path(name)
    else:
        path = packaged_manifests() / "suites" / f"{name}.toml"
        if NAME.fullmatch(name) and not is_file(path):
            path = _own_suite(name) or path
    if not is_file(path) or not (name.endswith(".toml") or NAME.fullmatch(name)):
        known = [*known_suites(), *own_suites()]
        raise ManifestError(
            f"unknown suite {name!r}; {near(name, known)}known: "
            f"{', '.join(known)}. You can also give the path of a .toml file"
        )
    return replace(_check_suite(read_toml(path), path), given=name)


def manifest_of(suite: Suite) -> Manifest:
    """The manifest of a suite, with the suite's recipe.

    Raises:
        ManifestError: it does not exist, breaks a rule, or has no such recipe.
    """
    return load_manifest(suite.manifest).with_recipe(suite.recipe)


def run_command(suite: Suite, *options: object) -> str:
    """The command line that carries out all runs of a suite; that of a tuned one is another."""
    if suite.tuned:
        return command("tune", "--suite", suite.argument, "--methods", ALL, *options)
    return command("run", "--suite", suite.argument, *options)


def _own_suite(name: str) -> Path | None:
    """The suite in the folder of a manifest that the user expanded or added.

    Raises:
        ManifestError: there are several, or the recipe has not been expanded.
    """
    suites = _own_suites(name)
    if len(suites) > 1:
        raise ManifestError(
            f"there are several suites {name}; give the path of one of these: "
            + ", ".join(map(str, suites))
        )
    recipes = [r for r in published_recipes() if r.partition("@")[0] == name]
    if recipes and not suites:
        raise ManifestError(
            f"the suite {name} does not exist yet; expand its recipe first: "
            + command("manifest", "expand", recipes[-1], "--metadata", "metadata.csv")
        )
    return suites[0] if suites else None


def _own_suites(name: str = "*") -> list[Path]:
    """The files of the suites in the folders of manifests that the user expanded or added."""
    files = finished((data_folder() / "manifests").glob(f"*/*/{name}.toml"))
    used = [
        file
        for file in files
        if file.name != MANIFEST_FILE and not withdrawn_as(reference_of(file))
    ]
    return sorted(used, key=lambda file: (file.parent, file.stem))


def own_suites() -> list[str]:
    """What names each suite of a manifest that the user expanded or added: its name or file."""
    files = _own_suites()
    names = [file.stem for file in files]
    return [
        name if names.count(name) == 1 and name not in known_suites() else str(file)
        for name, file in zip(names, files, strict=True)
    ]


def load_suites(report: Callable[[str], None]) -> list[Suite]:
    """Read every suite that ships, and those of :func:`own_suites` that can be read.

    Args:
        report: called for each of the latter that cannot, with a sentence on why and what to do.

    Raises:
        ManifestError: a suite that ships breaks a rule.
    """
    suites = [load_suite(name) for name in known_suites()]
    for name, file in zip(own_suites(), _own_suites(), strict=True):
        try:
            suites.append(load_suite(name))
        except ManifestError as error:
            report(f"{name} is left out: {error}; correct it, or delete {file} to do without it")
    return suites


def known_suites() -> list[str]:
    """Names of the suites that ship, sorted."""
    return sorted(path.stem for path in (packaged_manifests() / "suites").glob("*.toml"))


def _check_suite(document: Mapping[str, Any], path: Path) -> Suite:
    check_canonical(document, str(path))
    reader = Reader(document, str(path))
    if unknown := sorted(document.keys() - set(ENTRIES)):  # such as recipes for recipe
        raise reader.fail(
            f"unknown entry {first(unknown)}; {near(unknown[0], ENTRIES)}known: "
            f"{', '.join(ENTRIES)}"
        )
    reference = reader.text("manifest")
    if "@" not in reference and not Path(reference).is_absolute():
        reference = str((path.parent / reference).resolve())
    seeds = reader.get("seeds", list, "a list of whole numbers")
    if not seeds or any(type(s) is not int or not 0 <= s <= MAX_SEED for s in seeds):
        raise reader.fail(f"seeds must be a list of whole numbers from 0 to {MAX_SEED}")
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
    """The methods that a suite names, or all that are the benchmark's own."""
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
            f"methods is {ALL!r}, but no methods are installed; reinstall htbench "
            "(pip install -e .)"
        )
    return names
