"""What the author of a method imports, and the splits for use elsewhere; nothing else.

Every name is resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.errors import NotApplicable as NotApplicable
    from benchmark.manifest import load_manifest as load_manifest
    from benchmark.method import Method as Method
    from benchmark.method import Run as Run
    from benchmark.method import SourceModel as SourceModel
    from benchmark.method import TargetData as TargetData
    from benchmark.method import check_share as check_share
    from benchmark.models import Classifier as Classifier
    from benchmark.splits.hub import to_datasets as to_datasets
    from benchmark.splits.torch_data import torch_dataset as torch_dataset
    from benchmark.training import Batch as Batch
    from benchmark.training import cosine as cosine
    from benchmark.training import fit as fit
    from benchmark.training import fit_head as fit_head
    from benchmark.training import predict as predict

# name -> module: PEP 562, so that `import benchmark` (and `htbench --help`) loads no torch.
_HOMES = {
    "Batch": "benchmark.training",
    "Classifier": "benchmark.models",
    "Method": "benchmark.method",
    "NotApplicable": "benchmark.errors",
    "Run": "benchmark.method",
    "SourceModel": "benchmark.method",
    "TargetData": "benchmark.method",
    "check_share": "benchmark.method",
    "cosine": "benchmark.training",
    "fit": "benchmark.training",
    "fit_head": "benchmark.training",
    "load_manifest": "benchmark.manifest",
    "predict": "benchmark.training",
    "to_datasets": "benchmark.splits.hub",
    "torch_dataset": "benchmark.splits.torch_data",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'benchmark' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
