"""The suite's folders. It writes only to the data folder and the workspace."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """Return the folder of image stores, source models and expanded manifests.

    It is ``$HTBENCH_DATA``; default: the platform's cache folder, such as ``~/.cache/htbench``.
    """
    if folder := os.environ.get("HTBENCH_DATA"):
        return Path(folder).expanduser().resolve()
    return Path(platformdirs.user_cache_dir("htbench", appauthor=False))


def packaged_manifests() -> Path:
    """Return the folder ``data_manifests`` that ships with the suite, without importing it.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    folder = Path(__file__).resolve().parent.parent / "data_manifests"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; reinstall holistic-transfer-bench")
    return folder
