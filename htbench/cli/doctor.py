"""`htbench doctor`: what this machine offers and what is where."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from htbench.cli.main import print_json

PACKAGES = ("holistic-transfer-bench", "torch", "torchvision", "datasets", "numpy", "pandas",
            "pyarrow", "safetensors")  # fmt: skip


@click.command("doctor")
@click.option("--workspace", "root", default="workspace", show_default=True, metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="Where runs go.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(root: Path, as_json: bool) -> None:
    """Show versions, device, kernel isolation, folders and what is cached.

    \b
    Examples:
      htbench doctor
      htbench doctor --json
    """
    report = {
        "versions": _versions(),
        "device": _device(),
        "isolation": _isolation(),
        "data": _data(),
        "workspace": _workspace(root),
    }
    if as_json:
        print_json(report)
        return
    for section, entries in report.items():
        click.echo(click.style(section, bold=True))
        for name, value in entries.items():
            click.echo(f"  {name:<24} {value}")


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {"python": f"{platform.python_version()} ({sys.executable})",
                             "system": platform.platform()}  # fmt: skip
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _device() -> dict[str, Any]:
    from benchmark.executors.local import slots
    from benchmark.runs.plan import resolve_device

    device = resolve_device("auto")
    return {"--device auto": device, "runs side by side": slots(device),
            "cores": os.cpu_count()}  # fmt: skip


def _isolation() -> dict[str, Any]:
    from benchmark.runs.sandbox import available

    found = available()
    return {
        "landlock": f"ABI {found.landlock}" if found.landlock else "not available",
        "seccomp": "available" if found.seccomp else "not available",
        **{f"missing {i}": text for i, text in enumerate(found.missing, start=1)},
    }


def _data() -> dict[str, Any]:
    from benchmark.folders import data_folder

    folder = data_folder()
    found: dict[str, Any] = {"folder": f"{folder}{'' if folder.is_dir() else ' (not made yet)'}"}
    for kind, marker in (("stores", "index.json"), ("sources", "source.json")):
        entries = sorted(path.parent for path in folder.glob(f"{kind}/*/{marker}"))
        size = sum(f.stat().st_size for e in entries for f in e.iterdir() if f.is_file())
        found[f"cached {kind}"] = f"{len(entries)} ({size / 2**20:.1f} MiB)"
    return found


def _workspace(root: Path) -> dict[str, Any]:
    from benchmark.runs.workspace import Workspace

    workspace = Workspace(root)
    runs = len(list(workspace.runs.glob("[0-9a-f]*/run.json")))
    there = "" if workspace.root.is_dir() else " (not made yet)"
    return {"folder": f"{workspace.root}{there}", "runs": runs}
