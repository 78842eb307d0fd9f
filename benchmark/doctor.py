"""What this machine offers to the benchmark: versions, device, isolation, folders, caches."""

from __future__ import annotations

import os
import platform
import shlex
import stat
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmark.executors.local import slots
from benchmark.folders import data_folder
from benchmark.isolation import cgroup
from benchmark.isolation.launch import VARIABLE, idle_seconds, warm_folder
from benchmark.isolation.sandbox import available
from benchmark.mounts import describe_mount
from benchmark.runs.drivers import foreign_drivers
from benchmark.runs.plan import CUDA_NODES
from benchmark.runs.workspace import Workspace
from benchmark.text import one_line

MAX_ANSWER = 500  # characters
# Run in another process, because this one loads no torch.
_ASK_TORCH = """
import torch
torch.cuda.init()
cards = []
for number in range(torch.cuda.device_count()):
    card = torch.cuda.get_device_properties(number)
    version = f"compute capability {card.major}.{card.minor}"
    cards.append(f"{card.name} ({card.total_memory / 2**30:.1f} GiB, {version})")
print("; ".join(cards), f"with CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
"""
DISTRIBUTIONS = (
    "holistic-transfer-bench",
    "torch",
    "torchvision",
    "datasets",
    "numpy",
    "pandas",
    "pyarrow",
    "safetensors",
)


def machine_report(workspace: Path) -> dict[str, dict[str, Any]]:
    """Facts by section: versions, device, isolation, data, workspace and file systems.

    Args:
        workspace: the workspace folder to report on; it need not exist.
    """
    return {
        "versions": _versions(),
        "device": _device(),
        "isolation": _isolation(),
        "data": _data(),
        "workspace": _workspace(workspace),
        "file systems": {
            "data": describe_mount(data_folder()),
            "workspace": describe_mount(Workspace(workspace).root),
        },
    }


def _versions() -> dict[str, Any]:
    versions: dict[str, Any] = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
    }
    for name in DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _device() -> dict[str, Any]:
    gpu, is_usable = _gpu()
    device = "cuda" if is_usable else "cpu"
    return {
        "--device auto": device,
        "NVIDIA GPU": gpu,
        "parallel runs": slots(device),
        "cores": os.cpu_count(),
    }


def _gpu() -> tuple[str, bool]:
    """What torch says of the GPUs, or why it cannot use one; and whether it can."""
    if not any(Path(node).exists() for node in CUDA_NODES):
        return f"none: no device node {' or '.join(CUDA_NODES)}", False
    result = subprocess.run(
        [sys.executable, "-P", "-c", _ASK_TORCH], capture_output=True, text=True, check=False
    )
    lines = (result.stdout if result.returncode == 0 else result.stderr).strip().splitlines()
    answer = one_line(lines[-1] if lines else "torch could not be asked", MAX_ANSWER)
    return (answer, True) if result.returncode == 0 else (f"not usable: {answer}", False)


def _isolation() -> dict[str, Any]:
    offer = available()
    group = cgroup.delegated()
    by_polling = "not delegated to this process; the driver checks the memory of each run itself"
    return {
        "landlock": f"ABI {offer.landlock}" if offer.landlock else "not available",
        "seccomp": "available" if offer.seccomp else "not available",
        "cgroup v2": f"limits memory and threads ({group})" if group else by_polling,
        "waiting processes": _waiting(),
        **{f"missing {i}": text for i, text in enumerate(offer.missing, start=1)},
    }


def _waiting() -> str:
    """The processes with torch that wait for the next command."""
    seconds = idle_seconds()
    if not seconds:
        return f"none, because {VARIABLE} is {os.environ[VARIABLE]}"
    if sys.platform != "linux" or available().missing:
        return "none, because runs are not isolated here"
    try:
        folder = warm_folder(create=False)
    except FileNotFoundError:
        count, place = 0, ""
    except OSError as error:
        return f"none: {error}"
    else:
        count = sum(stat.S_ISSOCK(path.lstat().st_mode) for path in folder.iterdir())
        place = f" ({folder})"
    return f"{count}{place}; each ends {seconds} s after its last use; {VARIABLE}=0 keeps none"


def _data() -> dict[str, Any]:
    folder = data_folder()
    facts: dict[str, Any] = {"folder": _folder(folder)}
    for kind, marker in (("stores", "index.json"), ("sources", "source.json")):
        entries = sorted(path.parent for path in folder.glob(f"{kind}/*/{marker}"))
        size = sum(f.stat().st_size for e in entries for f in e.iterdir() if f.is_file())
        facts[f"cached {kind}"] = f"{len(entries)} ({size / 2**20:.1f} MiB)"
    return facts


def _workspace(root: Path) -> dict[str, Any]:
    workspace = Workspace(root)
    runs = len(list(workspace.runs.glob("[0-9a-f]*/run.json")))
    others = {
        f"driver of another host {i}": f"host {driver.host}, process {driver.process}; if it has "
        f"ended, remove its files: rm -r {shlex.quote(str(folder))} {shlex.quote(f'{folder}.lock')}"
        for i, (folder, driver) in enumerate(foreign_drivers(workspace.root / "tmp"), start=1)
    }
    return {
        "folder": _folder(workspace.root),
        "runs": runs,
        **others,
    }


def _folder(path: Path) -> str:
    return str(path) if path.is_dir() else f"{path} (does not exist yet)"
