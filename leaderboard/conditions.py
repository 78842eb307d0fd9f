"""Which comparisons a suite's results allow: of recipes, of draws, of numbers of seen classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from benchmark.files import digest_json
from benchmark.manifest.manifest import DEFAULT_RECIPE, Manifest, Task
from benchmark.manifest.suite import Suite
from benchmark.text import seed_list
from leaderboard.board import MEAN, Board, build_boards
from leaderboard.comparison import Comparison, compare

if TYPE_CHECKING:
    import pyarrow as pa

# How the title of a comparison begins, by what is compared.
TITLES = {
    "recipe": "Other recipes",
    "draw": "Draws of the seen classes",
    "share": "Number of seen classes",
}


def with_comparisons(
    boards: Sequence[Board], suite: Suite, manifest: Manifest, results: pa.Table
) -> list[Board]:
    """The boards of a suite, of which the main one has the comparisons that its results allow.

    Args:
        boards: what ``build_boards`` returned for the other arguments.
        suite: the suite.
        manifest: the suite's.
        results: the output of ``results.update_results``. Runs of the manifest's other recipes on
            the suite's tasks are compared with the default.
    """
    if not boards or not boards[0].is_main:
        return list(boards)
    main, *others = boards
    comparisons = [
        _recipes(suite, manifest, results),
        by_draw(main, manifest),
        by_share(main, manifest),
    ]
    return [replace(main, comparisons=tuple(c for c in comparisons if c is not None)), *others]


def _recipes(suite: Suite, manifest: Manifest, results: pa.Table) -> Comparison | None:
    """Compare the default recipe with those that have results."""
    if manifest.recipe_name != DEFAULT_RECIPE:
        return None
    seeds = {name: _seeds(suite, manifest, results, name) for name in manifest.recipe_names}
    names = [name for name, of_recipe in seeds.items() if of_recipe]
    if len(names) < 2:
        return None
    # The studies of recipes have fewer seeds than the suite.
    common = tuple(seed for seed in suite.seeds if all(seed in seeds[name] for name in names))
    boards: dict[str, Board] = {}
    for name in names:
        same = replace(suite, recipe=name, seeds=common)
        of_recipe = build_boards(same, manifest.with_recipe(name), results) if common else []
        if of_recipe and of_recipe[0].is_main:
            boards[name] = of_recipe[0]
    only = "" if common == suite.seeds else f" ({seed_list(common)})"
    return by_board(f"{TITLES['recipe']}{only}", boards)


def _seeds(suite: Suite, manifest: Manifest, results: pa.Table, recipe: str) -> set[int]:
    """The seeds of the suite's tasks for which a recipe has results."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keep = pc.and_(
        pc.equal(results["manifest_digest"], manifest.digest),
        pc.equal(results["recipe_digest"], digest_json(manifest.recipe_of(recipe))),
    )
    keep = pc.and_(keep, pc.is_in(results["task"], pa.array(suite.tasks)))
    return set(results.filter(keep)["seed"].to_pylist())


def by_board(title: str, boards: Mapping[str, Board]) -> Comparison | None:
    """Compare boards by their means over tasks, such as those of several recipes or data sets.

    Args:
        title: heading of the table.
        boards: by the name of the condition.

    Returns:
        None as well where the boards rank by different columns.
    """
    conditions = {name: _overall(board, [MEAN]) for name, board in boards.items()}
    oracles = {label for board in boards.values() for label in _oracles(board)}
    columns = {board.headline[0] for board in boards.values()}
    if len(columns) != 1:
        return None
    return compare(title, conditions, oracles, columns.pop())


def by_tuning(title: str, default: Board, tuned: Board) -> Comparison | None:
    """Compare methods at their defaults with the same methods tuned, by their means over tasks.

    Args:
        title: heading of the table.
        default: the main board of a suite.
        tuned: the board of tuned methods on the same tasks and seeds. Methods without a search
            space are there at their defaults.
    """
    overall = _overall(tuned, [MEAN])
    conditions = {
        "default": _overall(default, [MEAN]),
        "tuned": {label.removesuffix("(tuned)"): value for label, value in overall.items()},
    }
    return compare(title, conditions, _oracles(default), default.headline[0])


def by_draw(board: Board, manifest: Manifest) -> Comparison | None:
    """Compare draws of the seen classes: tasks that differ in nothing but which classes are seen.

    The n-th condition is the mean over the n-th draw of every pair of domains and number of seen
    classes.

    Returns:
        None unless all of these have as many draws, at least two.
    """
    groups = _grouped(board, manifest, lambda task: (*_pair(task), len(task.seen)))
    counts = {len(tasks) for tasks in groups}
    if len(counts) != 1 or counts == {1}:  # early, because cells of many tasks take long
        return None
    draws = zip(*groups, strict=True)
    conditions = {f"draw {n}": _overall(board, tasks) for n, tasks in enumerate(draws, 1)}
    return compare(TITLES["draw"], conditions, _oracles(board), board.headline[0])


def by_share(board: Board, manifest: Manifest) -> Comparison | None:
    """Compare numbers of seen classes, on the same pairs of domains.

    Returns:
        None where :func:`tasks_by_share` is.
    """
    sizes = tasks_by_share(board, manifest)
    if sizes is None:
        return None
    total = len(manifest.classes)
    conditions = {f"{n} of {total} seen": _overall(board, tasks) for n, tasks in sizes.items()}
    return compare(TITLES["share"], conditions, _oracles(board), board.headline[0])


def tasks_by_share(board: Board, manifest: Manifest) -> dict[int, list[str]] | None:
    """The ids of the suite's tasks by their number of seen classes, in ascending order.

    Returns:
        None unless there are two or more numbers, and every pair of domains has the same share of
        the tasks of each: means over other mixtures of pairs differ in more than the number.
    """
    sizes: dict[int, list[str]] = {}
    for task in map(manifest.task, board.suite.tasks):
        sizes.setdefault(len(task.seen), []).append(task.id)
    mixtures = [_mixture(list(map(manifest.task, tasks))) for tasks in sizes.values()]
    if len(sizes) < 2 or any(mixture != mixtures[0] for mixture in mixtures):
        return None
    return dict(sorted(sizes.items()))


def _mixture(tasks: Sequence[Task]) -> dict[object, Fraction]:
    """The share of tasks that each pair of domains has."""
    counts = Counter(map(_pair, tasks))
    return {pair: Fraction(count, len(tasks)) for pair, count in counts.items()}


def _pair(task: Task) -> tuple[frozenset[str], str]:
    return frozenset(task.sources), task.target


def _grouped(
    board: Board, manifest: Manifest, key: Callable[[Task], object]
) -> Sequence[Sequence[str]]:
    """Ids of the suite's tasks by a key, in the order of the suite."""
    groups: dict[object, list[str]] = {}
    for task in map(manifest.task, board.suite.tasks):
        groups.setdefault(key(task), []).append(task.id)
    return list(groups.values())


def _overall(board: Board, tasks: Sequence[str]) -> dict[str, float]:
    """Mean overall accuracy over some tasks, of the methods that completed all of them."""
    cells = [board.of_task(task) for task in tasks]
    complete = [
        label for label in board.labels if all(of_task[label]["state"] == "ok" for of_task in cells)
    ]
    return {
        label: float(np.mean([of_task[label][board.headline[0]] for of_task in cells]))
        for label in complete
    }


def _oracles(board: Board) -> set[str]:
    return {label for label, cell in board.of_task(MEAN).items() if cell["track"] == "oracle"}
