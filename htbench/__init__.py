"""Holistic Transfer Bench: the public Python API, for methods, scripts and notebooks.

Names are imported lazily, so ``import htbench`` does not load torch or pandas.

Example:
    >>> import htbench
    >>> board = htbench.run_suite("icons", methods=["source", "finetune"])
    >>> source, target, run = htbench.open_task("icons", "outline-solid")
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    raise ImportError(
        "the benchmark does not run on Windows: each run is a forked process, which Windows does "
        "not have; install it in the Windows Subsystem for Linux (`wsl --install`)"
    )


def _own_packages_first() -> None:
    """Run ``benchmark/start.py`` by its path: the name ``benchmark`` may be a user's own file."""
    path = Path(__file__).resolve().parent.parent / "benchmark" / "start.py"
    spec = importlib.util.spec_from_file_location("_htbench_start", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.install()


_own_packages_first()

if TYPE_CHECKING:
    from benchmark.errors import NotApplicable as NotApplicable
    from benchmark.folds import check_share as check_share
    from benchmark.manifest.catalogue import load_manifest as load_manifest
    from benchmark.manifest.roles import task_frame as task_frame
    from benchmark.manifest.suite import load_suite as load_suite
    from benchmark.method import Method as Method
    from benchmark.method import Run as Run
    from benchmark.method import SourceModel as SourceModel
    from benchmark.method import TargetData as TargetData
    from benchmark.networks.build import Classifier as Classifier
    from benchmark.splits.hub import to_datasets as to_datasets
    from benchmark.splits.torch_data import torch_dataset as torch_dataset
    from benchmark.training import Batch as Batch
    from benchmark.training import cosine as cosine
    from benchmark.training import fit as fit
    from benchmark.training import fit_head as fit_head
    from benchmark.training import predict as predict
    from htbench.boards import load_boards as load_boards
    from htbench.checks import method_checks as method_checks
    from htbench.results import load_results as load_results
    from htbench.run import run_suite as run_suite
    from htbench.task import open_task as open_task
    from leaderboard.published_predictions import published_predictions as published_predictions
    from leaderboard.scoring import score as score

# Public name -> its module.
_MODULES = {
    # for authors of methods
    "Batch": "benchmark.training",
    "Classifier": "benchmark.networks.build",
    "Method": "benchmark.method",
    "NotApplicable": "benchmark.errors",
    "Run": "benchmark.method",
    "SourceModel": "benchmark.method",
    "TargetData": "benchmark.method",
    "check_share": "benchmark.folds",
    "cosine": "benchmark.training",
    "fit": "benchmark.training",
    "fit_head": "benchmark.training",
    "method_checks": "htbench.checks",
    "predict": "benchmark.training",
    # for scripts and notebooks
    "load_boards": "htbench.boards",
    "load_manifest": "benchmark.manifest.catalogue",
    "load_results": "htbench.results",
    "load_suite": "benchmark.manifest.suite",
    "open_task": "htbench.task",
    "published_predictions": "leaderboard.published_predictions",
    "run_suite": "htbench.run",
    "score": "leaderboard.scoring",
    "task_frame": "benchmark.manifest.roles",
    "to_datasets": "benchmark.splits.hub",
    "torch_dataset": "benchmark.splits.torch_data",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'htbench' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
