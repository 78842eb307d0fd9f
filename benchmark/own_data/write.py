"""Write a new manifest, its suites and README, and link to its images: whole, or not at all."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.commands import command
from benchmark.errors import UsageError
from benchmark.files import check_output, new_folder
from benchmark.images.place import images_folder
from benchmark.manifest.catalogue import own_folder
from benchmark.manifest.manifest import IMAGES_FILE, MANIFEST_FILE, Manifest
from benchmark.manifest.read import read_manifest
from benchmark.manifest.toml import to_toml
from benchmark.own_data.build import Choices, NewManifest
from benchmark.own_data.readme import readme_text, rules, wrapped

SEEDS = [0, 1, 2]


@dataclass(frozen=True)
class Written:
    """A manifest that was written.

    Attributes:
        manifest: as it was read again.
        suites: the paths of its suites, first that of draw 1.
        images: the folder of the links to its images.
    """

    manifest: Manifest
    suites: tuple[Path, ...]
    images: Path


def check_place(choices: Choices, folder: Path) -> None:
    """Check that nothing would be overwritten.

    Raises:
        UsageError: the folder exists, or the name and version are taken.
    """
    check_output(folder, folder=True)
    if folder.exists():
        other = folder / choices.name  # of `.` and `/`, which have no name
        if folder.name:
            other = folder.with_name(f"{folder.name}-manifest")
        raise UsageError(
            f"{folder} exists, and nothing is overwritten; choose another folder with --out, such "
            f"as --out {shlex.quote(str(other))}"
        )
    version = f"another version, such as {choices.name}@{_next(choices.version)}"
    if (registered := own_folder(choices.reference)).exists():
        raise UsageError(
            f"{choices.reference} was added already, in {registered}; choose {version}"
        )


def write_manifest(new: NewManifest, folder: Path, command_line: str) -> Written:
    """Write a manifest to a new folder and link to its images.

    Args:
        new: the manifest.
        folder: the folder to create.
        command_line: the command that writes it, for the README.

    Raises:
        UsageError: something is there already, or the folder cannot be written.
        ManifestError: the manifest breaks a rule.
    """
    import pyarrow.parquet as pq

    check_place(new.choices, folder)
    texts = {
        MANIFEST_FILE: _comment(new) + to_toml(new.document),
        "README.md": readme_text(new, command_line),
        **_suites(new),
    }
    try:
        with new_folder(folder) as building:
            for name, text in texts.items():
                (building / name).write_text(text, "utf-8")
            pq.write_table(new.manifest.table, building / IMAGES_FILE, compression="zstd")
            manifest = read_manifest(building)
            images = link_images(manifest, {entry.path: entry.file for entry in new.entries})
    except OSError as error:
        raise UsageError(
            f"cannot write {error.filename or folder}: {error.strerror or error}; choose another "
            "folder with --out, or set HTBENCH_DATA for the links to images"
        ) from None
    suites = tuple(folder / name for name in _suites(new))
    return Written(read_manifest(folder), suites, images)


def link_images(manifest: Manifest, files: Mapping[str, str]) -> Path:
    """Make links to a user's files the local copy of a manifest's images.

    Args:
        manifest: the manifest.
        files: the file of each image, by path.

    Returns:
        The folder of the links; links of an earlier manifest of this name and version are gone.

    Raises:
        UsageError: there are other images of that name and version: copies, or links that lead
            from the same paths to other files, which another manifest may need.
    """
    root = images_folder(manifest)
    present = (path for path in root.rglob("*") if path.is_file())
    others = (path for path in present if not _is_link(path, files, root))
    if (other := next(others, None)) is not None:
        raise UsageError(
            f"{root} has images of another {manifest.reference}, such as {other}; choose another "
            f"version, such as {manifest.name}@{_next(manifest.version)}, or delete that folder"
        )
    with new_folder(root) as building:
        for path, file in files.items():
            link = building / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    return root


def _is_link(path: Path, files: Mapping[str, str], root: Path) -> bool:
    """Whether an image is a link that a new manifest keeps or does without."""
    file = files.get(path.relative_to(root).as_posix(), path)
    return path.is_symlink() and path.samefile(file)


def _next(version: str) -> str:
    """The version with its last number increased."""
    head, dot, last = version.partition("+")[0].rpartition(".")
    return f"{head}{dot}{int(last) + 1}"


def _comment(new: NewManifest) -> str:
    """The rules as a comment; it does not count for the digest."""
    intro = (
        f"The manifest of {new.choices.reference}, written by `htbench manifest new`. README.md "
        "says what to edit before you publish it; docs/manifests.md explains every field."
    )
    lines = wrapped([intro, *rules(new)]).splitlines()
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + "\n"


def _suites(new: NewManifest) -> dict[str, str]:
    """The text of each suite by its file: draw 1, then all draws if there are several."""
    tasks = [task["id"] for task in new.document["tasks"]]
    one = tasks[: len(tasks) // new.choices.draws]
    suites = {f"{new.choices.name}.toml": ("", one)}
    if len(one) < len(tasks):
        title = f", {new.choices.draws} draws of the seen classes"
        suites[f"{new.choices.name}-draws.toml"] = (title, tasks)
    return {
        file: f"# To run it: {command('run', '--suite', file)}\n"
        + to_toml(
            {
                "title": new.document["title"] + title,
                "manifest": ".",  # the folder of the suite's file
                "tasks": tasks,
                "methods": "all",
                "seeds": SEEDS,
            }
        )
        for file, (title, tasks) in suites.items()
    }
