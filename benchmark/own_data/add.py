"""Add a user's manifest to the data folder, so that its name and version find it."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmark.errors import DataError, ManifestError, UsageError
from benchmark.files import new_folder, write_file
from benchmark.manifest.catalogue import check_free_name, load_manifest, own_folder
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import known_suites, load_suite

FILES = ("manifest.toml", "images.parquet", "README.md", "croissant.json")


def find_folders(place: Path) -> list[Path]:
    """A manifest's own folder, or the manifests' folders in a folder of several, sorted.

    Raises:
        UsageError: there is none.
    """
    if (place / "manifest.toml").is_file():
        return [place]
    files = [*place.glob("*/manifest.toml"), *place.glob("*/*/manifest.toml")]
    if not files:
        raise UsageError(
            f"{place} has no manifest: it should contain manifest.toml and images.parquet, or "
            "folders with these files"
        )
    return sorted(file.parent for file in files)


def add_manifest(folder: Path) -> tuple[Manifest, tuple[str, ...], bool]:
    """Copy a checked manifest and its suites into the data folder.

    Of a manifest that is there already, the suites are copied again: they may be new or changed.

    Args:
        folder: the manifest's folder.

    Returns:
        The manifest in the data folder; the names of its suites; whether it is new there.

    Raises:
        ManifestError: the manifest breaks a rule.
        UsageError: its name is that of a published data set, or another manifest of its name and
            version was added before.
    """
    manifest = load_manifest(folder)
    check_free_name(manifest.name)
    suites = _suites_of(manifest, folder)
    home = own_folder(manifest.reference)
    is_new = not home.exists()
    if not is_new:
        before = load_manifest(manifest.reference)
        if before.digest != manifest.digest:
            raise UsageError(
                f"another {manifest.reference} was added before, with digest {before.digest[:12]} "
                f"instead of {manifest.digest[:12]}; give the changed manifest another version in "
                f"{folder / 'manifest.toml'}, or delete {home}"
            )
    files = [folder / name for name in FILES if (folder / name).is_file()]
    files += [folder / pin.file for pin in manifest.checkpoints if pin.file is not None]
    try:
        if is_new:
            with new_folder(home) as building:
                for file in (*files, *suites):
                    copy = building / file.relative_to(folder)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, copy)
        else:
            for suite in suites:
                write_file(home / suite.name, suite.read_bytes())
    except OSError as error:
        raise DataError(
            f"cannot copy {folder} to {home}: {error.strerror or error}; nothing was added"
        ) from None
    return load_manifest(manifest.reference), tuple(suite.stem for suite in suites), is_new


def _suites_of(manifest: Manifest, folder: Path) -> list[Path]:
    """The suites in a manifest's folder that are of this manifest."""
    suites = []
    for file in sorted(folder.glob("*.toml"), key=lambda file: file.stem):
        if file.name == "manifest.toml":
            continue
        try:
            suite = load_suite(file)
        except ManifestError:
            continue  # another kind of file
        if Path(suite.manifest).resolve() == manifest.root:
            if file.stem in known_suites():
                raise UsageError(f"{file} has the name of a published suite; rename it")
            suites.append(file)
    return suites
