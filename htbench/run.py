"""The Python equivalent of ``htbench run``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmark import gpu_hours
from benchmark.driver import SuitePlan, plan_suite
from benchmark.errors import UsageError
from benchmark.files import write_file
from benchmark.isolation.client import Limits
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, load_suite, run_command
from benchmark.methods.describe import setting_text
from benchmark.progress import Silent
from benchmark.runs.shards import Shard, parse_shard
from benchmark.runs.workspace import Workspace
from htbench.long_runs import long_runs
from htbench.progress import Terminal, log
from htbench.results import open_workspace, shown_problems, suite_boards
from leaderboard.board import Board
from leaderboard.gamma_star import DERIVED
from leaderboard.published import relative_costs
from leaderboard.render import FORMATS
from leaderboard.render.asked import AskedCells
from leaderboard.render.data import to_frame
from leaderboard.results import Report

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
BOARD_FILE = "leaderboard.md"


def run_suite(
    suite: str | Path | Suite,
    *,
    methods: Iterable[str] | None = None,
    plugins: Iterable[str | Path] | None = None,
    tasks: Iterable[str] | None = None,
    seeds: Iterable[int] | None = None,
    settings: Mapping[str, bool | int | float | str] | None = None,
    network: str | None = None,
    workspace: str | Path = "workspace",
    device: str = "auto",
    jobs: int | None = None,
    isolation: str = "auto",
    time_limit: float = Limits.seconds,
    memory_limit: float | None = None,
    shard: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run the unfinished runs of a suite and return its leaderboard, like ``htbench run``.

    Methods run in child processes, as with the command. Finished runs are not repeated. A failed
    run does not raise; its row has the ``state`` ``failed``.

    Args:
        suite: a suite's name, its .toml file, or a loaded suite.
        methods: methods to run. If None or empty, all methods of the suite, or only the plugins if
            there are any.
        plugins: files with methods of your own, ``FILE.py`` or ``FILE.py:CLASS``.
        tasks: only these tasks; all if None or empty.
        seeds: only these seeds; all if None or empty.
        settings: hyper-parameters by name; each applies to every selected method that has that
            field.
        network: another network: ``NAME`` or ``NAME@WEIGHTS`` of torchvision, ``timm/NAME`` or
            ``timm/NAME.TAG``.
        workspace: where runs and results are kept.
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: number of parallel runs; None means one per core on the CPU, or one on a GPU.
        isolation: ``auto``, or ``required`` to fail if this machine cannot sandbox methods.
        time_limit: seconds that one run may take.
        memory_limit: memory limit per run in GiB (Python and torch alone use about 0.4); None for
            80 % of the memory of this machine or its container.
        shard: ``I/N`` runs only part I of N, as ``--shard`` does.
        progress: whether to show the progress on standard error, and first how long the runs will
            take if that is more than a day on a CPU.

    Returns:
        The rows of the suite's tables, including results of earlier calls: one per ``table``,
        ``label`` (the method with its settings) and ``task``, where the task ``mean`` is the mean
        over tasks. ``overall``, ``seen`` and ``missing`` are accuracies in per cent. A row shows
        one version of its method's code, ``method_code``: that of this call if it has the method.

    Warns:
        UserWarning: folders of the workspace cannot be used; see :func:`load_results`.

    Raises:
        HTBenchError: an argument is invalid, a plugin cannot be loaded, images are missing, or the
            device is not available.

    Example:
        >>> board = run_suite("icons", plugins=["half_way.py"], tasks=["outline-solid"], seeds=[0])
        >>> board[["label", "task", "seen", "missing"]]
    """
    loaded = load_suite(suite)
    place = open_workspace(Path(workspace))
    part, costs = shard_of(shard)
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs is {jobs}; give a number from 1, or None for one per core")
    with plan_suite(
        loaded,
        place,
        tasks=_listed("tasks", tasks),
        methods=_listed("methods", methods),
        seeds=_listed("seeds", seeds),
        settings={name: setting_text(value) for name, value in (settings or {}).items()},
        plugins=[str(plugin) for plugin in _listed("plugins", plugins)],
        network=network,
        device=device,
        isolation=isolation,
        time_limit=time_limit,
        memory_limit=memory_limit,
        derived=DERIVED,
        shard=part,
        costs=costs,
    ) as plan:
        if progress and (warning := long_runs(plan.device, lambda: plan.estimate(jobs))):
            log(warning)
        plan.execute(jobs, Terminal() if progress else Silent())
        asked = plan.keys()
    problems: list[str] = []
    boards = write_board(loaded, place, problems.append, asked)
    if problems:
        warnings.warn("\n".join(shown_problems(problems)), stacklevel=2)
    return to_frame(boards)


def estimated_gpu_hours(plan: SuitePlan) -> str | None:
    """What the unfinished runs of a plan and their source models cost on a GPU, in a sentence.

    Returns:
        None if the plan is for a CPU, or no speed of its network is published.
    """
    if plan.device != "cuda" or not gpu_hours.is_known(plan.manifest):
        return None
    cells = zip(plan.cells, plan.preview(), strict=True)
    runs = [(cell.task, cell.method.name) for cell, run in cells if not run.finished]
    images = gpu_hours.images_of_runs(plan.manifest, runs, relative_costs())
    sources = sum(gpu_hours.images_of_source(spec.manifest) for spec in plan.untrained())
    return gpu_hours.sentence(images + sources)


def shard_of(text: str | None) -> tuple[Shard | None, dict[str, float]]:
    """The shard that ``--shard`` names, None without one, and what splits the runs evenly.

    Raises:
        UsageError: see :func:`benchmark.runs.shards.parse_shard`.
    """
    if text is None:
        return None, {}
    return parse_shard(text, os.environ), relative_costs()


def write_board(
    suite: Suite,
    workspace: Workspace,
    report: Report,
    asked: Collection[str],
    manifest: Manifest | None = None,
) -> list[Board]:
    """Score new runs, write ``leaderboard.md`` to the workspace, and return the leaderboards.

    Args:
        suite: the suite.
        workspace: where runs are kept.
        report: called for each run's folder that cannot be used; see ``update_results``.
        asked: keys of the runs that were asked for: the boards show their versions.
        manifest: the suite's, if it was read before.

    Raises:
        UsageError: the workspace has no run of the suite.
    """
    boards = existing_boards(suite, workspace, report, asked, manifest)
    write_file(workspace.root / BOARD_FILE, FORMATS["markdown"](boards).encode())
    return boards


def asked_cells(
    suite: Suite,
    workspace: Workspace,
    asked: Collection[str],
    manifest: Manifest | None = None,
) -> AskedCells | None:
    """The table of the cells that a run was asked for.

    Args:
        suite: the suite, with only the tasks and seeds that were asked for.
        workspace: where runs are kept.
        asked: keys of the runs.
        manifest: the suite's, if it was read before.

    Returns:
        None if none of the runs has a row.
    """
    boards = suite_boards(
        suite, workspace, lambda problem: None, asked, manifest=manifest, comparisons=False
    )
    board = next((board for board in boards if not board.keys.isdisjoint(asked)), None)
    if board is None:
        return None
    labels = set(board.rows.where(board.rows.is_in("key", asked)).codes("label").names)
    words = ("leaderboard", "--suite", suite.argument, *workspace.option)
    return AskedCells(board, labels, words)


def existing_boards(
    suite: Suite,
    workspace: Workspace,
    report: Report = warnings.warn,
    asked: Collection[str] = (),
    manifest: Manifest | None = None,
) -> list[Board]:
    """The boards of a suite, with new runs scored first; arguments as for :func:`write_board`.

    Raises:
        UsageError: the workspace has no run of the suite.
    """
    boards = suite_boards(suite, workspace, report, asked, manifest=manifest)
    if not boards:
        run = run_command(suite, *workspace.option)
        raise UsageError(
            f"the workspace {workspace.root} has no runs of suite {suite.name}; run `{run}` "
            "first, or choose another workspace with --workspace"
        )
    return boards


def _listed(name: str, values: Iterable[T] | None) -> list[T]:
    """The values of an argument, which may be an array or a generator; none for None.

    Raises:
        UsageError: they are one value. A string would be read as a list of letters.
    """
    if values is None:
        return []
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UsageError(f"{name} must be a list, such as [{values!r}], not {values!r}")
    return list(values)
