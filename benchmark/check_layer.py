"""A run of a method in the lock, from an environment on top of this one, for its checks.

Clusters often have a read-only environment, and a user's own on top of it. This module is what
runs there, see ``start.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark import start
from benchmark.check_cases import icons_slice
from benchmark.check_lock import SECONDS, run_in_lock
from benchmark.folders import PACKAGE
from benchmark.in_process import load
from benchmark.methods.describe import MethodDescription
from benchmark.temporary import temporary_folder

# Seconds that imports may take in addition to the run: a few, but minutes on a busy machine.
IMPORTS = 300.0
REMEDY = "Import packages by statements, and do not look for files beside the interpreter"


@dataclass(frozen=True)
class LayeredRun:
    """The outcome of a run.

    Attributes:
        error: why it failed or gave nothing, and what to do; None otherwise.
        logits: float32 (N, C).
    """

    error: str | None
    logits: NDArray[Any] | None


def run_in_layer(
    methods: Sequence[MethodDescription], settings: Mapping[str, str]
) -> LayeredRun | None:
    """Run a method as ``run_in_lock`` does, by an interpreter of another environment.

    Args:
        methods: the method, last, after those that it starts from.
        settings: hyper-parameters as text.

    Returns:
        None if this Python cannot create environments.
    """
    sources = [method.source for method in methods]
    with temporary_folder() as folder:
        python = _layer(folder / "layer")
        if python is None:
            return None
        out = folder / "logits.npy"
        request = {
            "names": [source.name for source in sources if source.file is None],
            "plugins": [
                f"{source.file}:{source.attribute}" if source.attribute else str(source.file)
                for source in sources
                if source.file is not None
            ],
            "settings": dict(settings),
            "out": str(out),
        }
        try:
            result = subprocess.run(
                [python, *start.command(__name__)[1:]],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                timeout=SECONDS + IMPORTS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            limit = f"it took more than {SECONDS + IMPORTS:.0f} s"
            return LayeredRun(f"{limit}; if this machine is busy, repeat the check", None)
        if result.returncode:
            last = (result.stderr.strip() or f"exit status {result.returncode}").splitlines()[-1]
            return LayeredRun(f"{last}. {REMEDY}", None)
        error = json.loads(result.stdout.splitlines()[-1])
        return LayeredRun(
            error and f"{error}. {REMEDY}",
            np.load(out, allow_pickle=False) if out.exists() else None,
        )


def _layer(folder: Path) -> Path | None:
    """The interpreter of a new environment that finds the packages of this one below its own."""
    try:
        venv.create(folder, symlinks=os.name != "nt")
    except (OSError, subprocess.CalledProcessError):
        return None
    variables = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", variables))
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    below = [path for path in sys.path if Path(path).is_dir() and path not in standard]
    (site / "below.pth").write_text("\n".join([str(PACKAGE.parent), *below]) + "\n")
    return Path(sysconfig.get_path("scripts", "venv", variables)) / "python"


def main() -> None:
    """Run the method that standard input names; print why it failed, and write its logits."""
    request = json.load(sys.stdin)
    loaded = load(request["names"], request["plugins"], request["settings"])
    descriptions = [entry.description for entry in loaded]
    run = run_in_lock(descriptions, request["settings"], icons_slice())
    if run.logits is not None:
        np.save(request["out"], run.logits)
    print(json.dumps(run.error or run.reason))


if __name__ == "__main__":
    main()
