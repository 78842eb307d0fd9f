"""Where our own code and data are, and where the user's data is kept.

Nothing is written outside the data folder and the workspace.
"""

from __future__ import annotations

import os
from pathlib import Path

import benchmark

PACKAGE = Path(benchmark.__file__).resolve().parent
ROOT = PACKAGE.parent  # of all our packages: a checkout, or a site-packages folder

# Packages with labels, and those that score predictions: closed to every run.
PRIVATE_PACKAGES = ("data_manifests", "leaderboard")


def own_packages() -> tuple[Path, ...]:
    """The folders of our packages that every run may read: the harness, then the baselines."""
    return tuple(path for path in (*harness_packages(), ROOT / "baselines") if path.is_dir())


def harness_packages() -> tuple[Path, ...]:
    """The folders of our packages that are not methods; provenance covers their code."""
    return tuple(path for path in (PACKAGE, ROOT / "htbench") if path.is_dir())


def private_packages() -> frozenset[Path]:
    """The folders of our packages that no run may read."""
    return frozenset(ROOT / name for name in PRIVATE_PACKAGES)


def data_folder() -> Path:
    """The folder of image stores, source models and expanded manifests: ``$HTBENCH_DATA``.

    Default: the user's cache folder of the platform, such as ``~/.cache/htbench``.
    """
    chosen = os.environ.get("HTBENCH_DATA")
    if chosen:
        return Path(chosen).expanduser().resolve()
    import platformdirs  # here, because `htbench --help` does not need it

    return Path(platformdirs.user_cache_dir("htbench", appauthor=False))


def packaged_manifests() -> Path:
    """The folder ``data_manifests`` that ships with the suite, found without importing it."""
    folder = ROOT / "data_manifests"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; reinstall holistic-transfer-bench")
    return folder
