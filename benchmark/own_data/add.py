"""Add a user's manifests to the data folder, so that their names and versions find them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmark.errors import DataError, UsageError
from benchmark.files import discard, new_folder, write_file
from benchmark.manifest.catalogue import check_free_name, finished, load_manifest, own_folder
from benchmark.manifest.manifest import IMAGES_FILE, MANIFEST_FILE, Manifest
from benchmark.manifest.read import read_toml
from benchmark.manifest.suite import known_suites, load_suite

FILES = (MANIFEST_FILE, IMAGES_FILE, "README.md", "croissant.json")


def find_folders(place: Path) -> list[Path]:
    """A manifest's own folder, or the manifests' folders in a folder of several, sorted.

    Raises:
        UsageError: there is none.
    """
    if (place / MANIFEST_FILE).is_file():
        return [place]
    files = [*place.glob(f"*/{MANIFEST_FILE}"), *place.glob(f"*/*/{MANIFEST_FILE}")]
    files = list(finished(files))
    if not files:
        raise UsageError(
            f"{place} has no manifest: it should contain manifest.toml and images.parquet, or "
            "folders with these files"
        )
    return sorted(file.parent for file in files)


@dataclass(frozen=True)
class AddedManifest:
    """A manifest in the data folder.

    Attributes:
        manifest: the manifest.
        suites: names of its suites that were copied.
        is_new: whether it was not there before.
    """

    manifest: Manifest
    suites: tuple[str, ...]
    is_new: bool


def add_manifests(folders: Sequence[Path]) -> list[AddedManifest]:
    """Copy checked manifests and their suites into the data folder: all of them, or none.

    Of a manifest that is there already, the suites are copied again: they may be new or changed.

    Args:
        folders: the folders of the manifests; one that is repeated is added once.

    Raises:
        ManifestError: a manifest or suite breaks a rule.
        UsageError: its name is that of a published data set, or another manifest of its name and
            version was added before, or is among these.
        DataError: a file cannot be read or written; nothing was added.
    """
    copies = [_checked(folder) for folder in {each.resolve(): each for each in folders}.values()]
    first_of: dict[str, _Copy] = {}
    for copy in copies:
        other = first_of.setdefault(copy.manifest.reference, copy)
        if other.manifest.digest != copy.manifest.digest:
            raise UsageError(
                f"{other.folder} and {copy.folder} are both {copy.manifest.reference}, and differ; "
                "give one of them another version in its manifest.toml"
            )
    # The old suites stay where they are moved until all is done, and are moved back by `undo`.
    with contextlib.ExitStack() as staging, contextlib.ExitStack() as undo:
        added = [_add(copy, staging, undo) for copy in copies]
        undo.pop_all()
    return added


@dataclass(frozen=True)
class _Copy:
    """A manifest to copy from a folder, with its suites."""

    folder: Path
    manifest: Manifest
    suites: Sequence[Path]


def _checked(folder: Path) -> _Copy:
    manifest = load_manifest(folder)
    check_free_name(manifest.name)
    suites = _suites_of(manifest, folder)
    home = own_folder(manifest.reference)
    if home.exists():
        before = load_manifest(manifest.reference)
        if before.digest != manifest.digest:
            raise UsageError(
                f"another {manifest.reference} was added before, with digest {before.digest[:12]} "
                f"instead of {manifest.digest[:12]}; give the changed manifest another version in "
                f"{folder / 'manifest.toml'}, or delete {home}"
            )
    return _Copy(folder, manifest, suites)


def _add(copy: _Copy, staging: contextlib.ExitStack, undo: contextlib.ExitStack) -> AddedManifest:
    """Copy one manifest; ``undo`` then takes it back, and ``staging`` ends after that.

    Raises:
        DataError: a file cannot be read or written.
    """
    folder, manifest, home = copy.folder, copy.manifest, own_folder(copy.manifest.reference)
    is_new = not home.exists()
    files = [folder / name for name in FILES if (folder / name).is_file()]
    files += [folder / pin.file for pin in manifest.checkpoints if pin.file is not None]
    try:
        if is_new:
            undo.callback(_remove_if_empty, home.parent)
            with new_folder(home) as building:
                for file in (*files, *copy.suites):
                    target = building / file.relative_to(folder)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)
            undo.callback(discard, home)
        else:
            place = Path(staging.enter_context(TemporaryDirectory(prefix=".adding-", dir=home)))
            for suite in copy.suites:
                write_file(place / suite.name, suite.read_bytes())
            for suite in copy.suites:
                _replace(home / suite.name, place / suite.name, place / f"{suite.name}.old", undo)
    except OSError as error:
        raise DataError(
            f"cannot copy {folder} to {home}: {error.strerror or error}; nothing was added"
        ) from None
    manifest = load_manifest(manifest.reference)
    return AddedManifest(manifest, tuple(suite.stem for suite in copy.suites), is_new)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it has other versions, or does not exist
        folder.rmdir()


def _replace(path: Path, new: Path, old: Path, undo: contextlib.ExitStack) -> None:
    """Replace a file, if there is one, and let ``undo`` put it back, which takes no space."""
    if path.exists():
        shutil.copyfile(path, old)
        undo.callback(old.replace, path)
    else:
        undo.callback(path.unlink, missing_ok=True)
    new.replace(path)


def _suites_of(manifest: Manifest, folder: Path) -> list[Path]:
    """The suites in a manifest's folder that are of this manifest.

    Raises:
        ManifestError: a suite cannot be read.
        UsageError: one has the name of a published suite.
    """
    suites = []
    for file in sorted(folder.glob("*.toml"), key=lambda file: file.stem):
        if file.name == MANIFEST_FILE or "manifest" not in read_toml(file):  # no suite
            continue
        suite = load_suite(file)
        if Path(suite.manifest).resolve() == manifest.root:
            if file.stem in known_suites():
                raise UsageError(f"{file} has the name of a published suite; rename it")
            suites.append(file)
    return suites
