"""Find the suite that a workspace's newest runs belong to."""

from __future__ import annotations

from benchmark.choices import WORKSPACE
from benchmark.errors import HTBenchError
from benchmark.files import digest_json
from benchmark.manifest.suite import Suite, known_suites, load_suite, manifest_of
from benchmark.runs.workspace import Workspace
from benchmark.text import one_line
from htbench.progress import log
from leaderboard.results import RESULTS_FILE, STORED
from leaderboard.results_file import read_table
from leaderboard.rows import Row, rows_of_table

DEFAULT = "icons"  # of a workspace without runs
MAX_NAME = 300  # bytes of a suite's name in a message


def chosen_suite(suite: str | None, workspace: Workspace | None) -> Suite:
    """The suite that a command uses; says on standard error which one if the user named none.

    Args:
        suite: what the user named; None for the suite of the workspace's newest runs.
        workspace: where runs are kept; None for published results, whose default is ``icons``.

    Raises:
        ManifestError: the suite that was named cannot be used.
    """
    if suite is not None:
        return load_suite(suite)
    if workspace is None:
        return load_suite(DEFAULT)
    name = workspace.newest_suite()
    of_journal = None if name is None else _readable(name)
    own = of_journal or _of_rows(workspace)
    place = workspace.option[-1] if workspace.option else WORKSPACE
    if name is not None and of_journal is None:
        own = own or load_suite(DEFAULT)
        log(
            f"suite {own.argument}; that of the newest runs in {place}, "
            f"{one_line(name, MAX_NAME)}, cannot be read; name its file with --suite"
        )
    elif own is not None:
        log(
            f"suite {one_line(own.argument, MAX_NAME)}, that of the newest runs in {place}; "
            "choose another with --suite"
        )
    return own or load_suite(DEFAULT)


def _readable(name: str) -> Suite | None:
    """A suite; None if it can no longer be read."""
    try:
        return load_suite(name)
    except (HTBenchError, OSError, ValueError):
        return None


def _of_rows(workspace: Workspace) -> Suite | None:
    """The smallest suite that ships and has the cell of the newest row, with its method if any."""
    rows = rows_of_table(read_table(workspace.root / RESULTS_FILE, STORED, _FACTS)[0])
    if not rows:
        return None
    newest = max(rows, key=lambda row: row["measured_finished"] or 0)
    suites = [suite for suite in map(load_suite, known_suites()) if _has_cell(suite, newest)]

    def size(suite: Suite) -> tuple[bool, int]:
        return newest["method"] not in suite.methods, len(suite.tasks) * len(suite.methods)

    return min(suites, key=size, default=None)


_FACTS = (
    *("manifest", "manifest_digest", "recipe_digest", "task", "seed", "search", "method"),
    "measured_finished",
)


def _has_cell(suite: Suite, row: Row) -> bool:
    """Whether a row is of a suite's manifest, recipe, tasks and seeds."""
    if suite.manifest != row["manifest"] or suite.tuned != (row["search"] is not None):
        return False
    if row["task"] not in suite.tasks or row["seed"] not in suite.seeds:
        return False
    manifest = manifest_of(suite)
    same_recipe = suite.tuned or digest_json(manifest.recipe) == row["recipe_digest"]
    return manifest.digest == row["manifest_digest"] and same_recipe
