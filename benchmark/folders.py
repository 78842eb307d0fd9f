"""Where things are kept: nothing is written outside the data folder and the workspace."""

from __future__ import annotations

import os
from pathlib import Path


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
    beside = Path(__file__).resolve().parent.parent / "data_manifests"
    if not beside.is_dir():
        raise FileNotFoundError(f"data_manifests is not beside {beside.parent / 'benchmark'}")
    return beside
