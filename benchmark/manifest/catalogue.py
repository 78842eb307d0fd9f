"""Find manifests by name: those that ship, those that were expanded, and their pinned digests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.commands import command
from benchmark.errors import ManifestError, UsageError
from benchmark.files import BUILDING, is_file
from benchmark.folders import data_folder, packaged_manifests
from benchmark.manifest.manifest import MANIFEST_FILE, RECIPE_FILE, Manifest
from benchmark.manifest.read import read_manifest, read_toml
from benchmark.manifest.reader import NAME, VERSION
from benchmark.text import near


def manifest_folders() -> list[Path]:
    """Folders to search for manifests: those shipped, then those expanded by the user."""
    return [packaged_manifests(), data_folder() / "manifests"]


def own_folder(reference: str) -> Path:
    """The folder of a manifest that the user expanded or added; it may not exist."""
    return data_folder().joinpath("manifests", *reference.split("@"))


def reference_of(file: Path) -> str:
    """``name@version`` of a file in the folder of a version, ``.../name/version/manifest.toml``."""
    return f"{file.parent.parent.name}@{file.parent.name}"


def finished(files: Iterable[Path]) -> Iterator[Path]:
    """The files that are not in a folder which a command builds, or left when it was killed."""
    return (file for file in files if not file.parent.name.startswith(BUILDING))


def published_manifests() -> list[str]:
    """References (``name@version``) of every manifest in those folders, sorted.

    Expansions of a withdrawn recipe are left out.
    """
    references = {
        reference_of(path)
        for folder in manifest_folders()
        for path in finished(folder.glob(f"*/*/{MANIFEST_FILE}"))
    }
    return sorted(reference for reference in references if withdrawn_as(reference) is None)


def load_published(report: Callable[[str], None]) -> list[Manifest]:
    """Read every manifest of :func:`published_manifests` that can be read.

    Args:
        report: called for each that a user added or expanded and that cannot be read, with a
            sentence on why and what to do.

    Raises:
        ManifestError: a manifest that ships breaks a rule.
    """
    manifests = []
    for reference in published_manifests():
        try:
            manifests.append(load_manifest(reference))
        except ManifestError as error:
            if is_file(packaged_manifests().joinpath(*reference.split("@"), MANIFEST_FILE)):
                raise
            report(f"{reference} is left out: {error}")
    return manifests


def published_recipes() -> list[str]:
    """References of the recipes that ship; each expands to a manifest with the user's metadata."""
    return sorted(
        reference_of(path)
        for path in packaged_manifests().glob(f"*/*/{RECIPE_FILE}")
        if VERSION.fullmatch(path.parent.name)  # the folder builders has other files of this name
    )


def check_free_name(name: str) -> None:
    """Refuse the name of a published data set or suite for a user's own.

    Raises:
        UsageError: something published has it, in any spelling of upper and lower case.
    """
    shipped = packaged_manifests()
    taken = {path.parent.parent.name for path in shipped.glob("*/*/*.toml")}
    taken |= {path.stem for path in shipped.glob("suites/*.toml")}
    if name.lower() in taken:
        raise UsageError(
            f"{name} is the name of a published data set or suite, which stays reserved; choose "
            f"another name, such as my-{name}"
        )


@dataclass(frozen=True)
class Withdrawn:
    """A version that is no longer used.

    Attributes:
        digest: of its manifest, or of its recipe.
        reason: why, as the end of a sentence.
        use: the reference of the version that replaces it.
    """

    digest: str
    reason: str
    use: str


def withdrawn_manifests() -> dict[str, Withdrawn]:
    """The withdrawn versions by reference, from ``data_manifests/digests.toml``."""
    entries = _pins().get("withdrawn", {})
    return {reference: Withdrawn(**entry) for reference, entry in entries.items()}


def withdrawn_as(reference: str) -> Withdrawn | None:
    """Why a version was withdrawn, or the recipe that it comes from; None if it was not.

    Args:
        reference: ``name@version``; an expansion may be ``name@version+1a2b3c4d``.
    """
    return withdrawn_manifests().get(reference.partition("+")[0])


def check_not_withdrawn(reference: str) -> None:
    """Refuse a version that was withdrawn.

    Raises:
        ManifestError: it was; the message says why, and what replaces it.
    """
    if withdrawn := withdrawn_as(reference):
        raise _withdrawn(reference, withdrawn)


def load_manifest(reference: str | Path | Manifest) -> Manifest:
    """Read a manifest by reference (``icons@2.0``) or from the folder that contains it.

    Args:
        reference: ``name@version``, or the path of a folder with ``manifest.toml``. A loaded
            manifest is returned as it is.

    Returns:
        The manifest. ``classes`` are names in the order of the logits; ``tasks``, and ``task(id)``,
        have ``sources``, ``target`` and ``seen``; ``table`` has one row for each image; ``digest``
        is a SHA-256 in hex.

    Raises:
        ManifestError: it does not exist, breaks a rule, was withdrawn, or is a recipe that was not
            expanded.

    Example:
        >>> from htbench import load_manifest
        >>> manifest = load_manifest("icons@2.0")
        >>> len(manifest.classes), len(manifest.task("outline-solid").seen)
        (65, 32)
    """
    if isinstance(reference, Manifest):
        return reference
    reference = str(reference)
    check_not_withdrawn(reference)
    name, at, version = reference.partition("@")
    if at and NAME.fullmatch(name) and VERSION.fullmatch(version):
        for folder in manifest_folders():
            if is_file(folder / name / version / MANIFEST_FILE):
                return _load_named(folder / name / version, reference)
    elif is_file(Path(reference) / MANIFEST_FILE):
        return _load_folder(Path(reference))
    raise _unknown(reference)


def _load_named(folder: Path, reference: str) -> Manifest:
    """Read the manifest of a name and version; commands then name it so, not by its folder.

    Raises:
        ManifestError: it breaks a rule, or has another name or version.
    """
    manifest = _read(folder)
    if manifest.reference != reference:
        raise ManifestError(
            f"the folder {manifest.root} contains {manifest.reference}, not {reference}; rename it "
            "to match the manifest's name and version"
        )
    return replace(manifest, given=None)


def _load_folder(folder: Path) -> Manifest:
    """Read the manifest in any folder.

    Raises:
        ManifestError: it breaks a rule, or is a copy of a version that was withdrawn.
    """
    manifest = _read(folder)
    withdrawn = withdrawn_as(manifest.reference)
    recipe_digest = manifest.document.get("expansion", {}).get("recipe_digest")
    if withdrawn and withdrawn.digest in (manifest.digest, recipe_digest):
        raise _withdrawn(f"{manifest.reference} in {manifest.root}", withdrawn)
    return manifest


def _unknown(reference: str) -> ManifestError:
    """What to say where there is no manifest: it may be a recipe, or a typing error."""
    names, recipes = published_manifests(), published_recipes()
    for recipe in recipes:
        folder = packaged_manifests().joinpath(*recipe.split("@"))
        is_folder = is_file(Path(reference) / RECIPE_FILE) and Path(reference).samefile(folder)
        if is_folder or reference in (recipe, recipe.partition("@")[0]):
            expansions = [name for name in names if name.partition("+")[0] == recipe]
            remedy = (
                f"Use what it was expanded to: {', '.join(expansions)}"
                if expansions
                else "Expand it first, using the metadata file from your copy of the data set: "
                + command("manifest", "expand", recipe, "--metadata", "metadata.csv")
            )
            return ManifestError(f"{recipe} is a recipe, not a manifest. {remedy}")
    known = ", ".join(names) or "none"
    known += f"; recipes to expand: {', '.join(recipes)}" if recipes else ""
    return ManifestError(
        f"unknown manifest {reference!r}; {near(reference, [*names, *recipes])}known: {known}. "
        "Give name@version, or a folder that contains manifest.toml and images.parquet"
    )


def _read(folder: Path) -> Manifest:
    """Read a manifest; the message says what to do about one in the data folder.

    Raises:
        ManifestError: it breaks a rule.
    """
    try:
        return read_manifest(folder)
    except ManifestError as error:
        if not folder.is_relative_to(data_folder() / "manifests"):
            raise
        raise ManifestError(f"{error}; correct it, or delete {folder} to do without it") from None


def _withdrawn(name: str, withdrawn: Withdrawn) -> ManifestError:
    return ManifestError(f"{name} was withdrawn, because {withdrawn.reason}; use {withdrawn.use}")


def shown_reference(reference: str, digest: str) -> str:
    """A manifest's name and version as people see it: ``icons@2.0``.

    If that name is published and its pinned digest is another one, ``icons@2.0 (changed:
    1a2b3c4d)``, with the beginning of the digest; if it was withdrawn, ``icons@1.0 (withdrawn)``.

    Args:
        reference: ``name@version``.
        digest: the manifest's digest.
    """
    withdrawn = withdrawn_manifests().get(reference)
    published = withdrawn.digest if withdrawn else pinned_digests().get(reference, digest)
    if published != digest:
        return f"{reference} (changed: {digest[:8]})"
    return f"{reference} (withdrawn)" if withdrawn else reference


def pinned_digests() -> dict[str, str]:
    """The digest of every published manifest, from ``data_manifests/digests.toml``."""
    return {name: digest for name, digest in _pins().items() if isinstance(digest, str)}


def _pins() -> Mapping[str, Any]:
    return read_toml(packaged_manifests() / "digests.toml")
