"""The time to import a folder of images by links, beside other ways to make the same links.

    python performance/import_folder.py
    python performance/import_folder.py --manifest domainnet@1.0 --repeats 1 --only-ours

Writes a small file for every image of a manifest, and then links to all of them: with
``import_images``, which also walks the folder and matches the names; with a temporary folder or a
temporary file for every link; and with ``cp``. Each way gets a new target folder, and the ways take
turns. Prints the median of each. DomainNet needs 1.3 million inodes and 2 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

from tabulate import tabulate

from benchmark.files import atomic_path
from benchmark.images.copy.take import import_images
from benchmark.images.place import absent_paths
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest

SPEEDUP = 8  # over a temporary folder per image, the least that is wanted
OURS, FOLDERS = "htbench data import", "a temporary folder per link"


def temporary_folders(paths: list[str], source: Path, target: Path) -> None:
    """Make each link in a temporary folder, then move it."""
    for path in paths:
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            link = Path(folder, "link")
            link.symlink_to((source / path).resolve())
            link.replace(file)


def temporary_files(paths: list[str], source: Path, target: Path) -> None:
    """Replace a temporary file by each link, then move it."""
    for path in paths:
        with atomic_path(target / path) as temporary:
            temporary.unlink()
            temporary.symlink_to((source / path).resolve())


def cp(option: str) -> Callable[[list[str], Path, Path], None]:
    """Copy the folder with ``cp``."""

    def run(_: list[str], source: Path, target: Path) -> None:
        subprocess.run(["cp", option, source, target], check=True)

    return run


def ours(manifest: Manifest) -> Callable[[list[str], Path, Path], None]:
    """Import the folder, as the command does."""

    def run(paths: list[str], source: Path, target: Path) -> None:
        os.environ["HTBENCH_DATA"] = str(target)
        assert import_images(manifest, source, copy=False) == len(paths)
        assert not absent_paths(manifest)

    return run


def measure(
    manifest: Manifest, folder: Path, repeats: int, *, only_ours: bool
) -> dict[str, list[float]]:
    """Seconds of each way, by its name."""
    paths, source = manifest.table["path"].to_pylist(), folder / "source"
    for path in paths:
        file = source / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode())
    ways = {
        OURS: ours(manifest),
        FOLDERS: temporary_folders,
        "a temporary file per link": temporary_files,
        "cp -as (symbolic links)": cp("-as"),
        "cp -al (hard links)": cp("-al"),
    }
    if only_ours:
        ways = {OURS: ways[OURS]}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            os.sync()  # so that no way pays for another
            start = perf_counter()
            way(paths, source, folder / "target")
            seconds[name].append(perf_counter() - start)
            shutil.rmtree(folder / "target")
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manifest", default="office-home@1.0")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: a new one")
    parser.add_argument("--only-ours", action="store_true", help="do not measure other ways")
    arguments = parser.parse_args()
    manifest = load_manifest(arguments.manifest)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        seconds = measure(manifest, Path(folder), arguments.repeats, only_ours=arguments.only_ours)
    medians = {name: median(values) for name, values in seconds.items()}
    rows = [
        (name, f"{value:.2f}", f"{value / medians[OURS]:.1f}") for name, value in medians.items()
    ]
    print(f"{manifest.table.num_rows} images, median of {arguments.repeats}")
    print(tabulate(rows, headers=["way", "seconds", "times ours"]))
    if FOLDERS in medians:
        ratio = medians[FOLDERS] / medians[OURS]
        print(f"wanted: {FOLDERS} takes at least {SPEEDUP} times ours; measured {ratio:.1f}")


if __name__ == "__main__":
    main()
