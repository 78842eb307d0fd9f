"""Match a user's files with a manifest's images, whatever the layout of the copy."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from benchmark.errors import DataError
from benchmark.images.copy.remarks import Kind, Remarks, shown

if TYPE_CHECKING:
    from benchmark.manifest.manifest import Manifest

T = TypeVar("T")

# Folders that some copies have between the others, as in Art/train/Chair: those of a split, and
# those that say nothing.
SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}
PLAIN_FOLDERS = ("image", "images", "img", "imgs", "jpg", "data")
_BETWEEN = {*SPLIT_FOLDERS, *PLAIN_FOLDERS}


class _Images:
    """The images of one of the manifest's folders, by the names of their files."""

    def __init__(self) -> None:
        self.exact: dict[str, str | None] = {}  # None: of several images
        self.loose: dict[str, str | None] = {}

    def add(self, file: str, path: str) -> None:
        for names, name in ((self.exact, file), (self.loose, _loose_file(file))):
            names[name] = None if name in names else path


class Matcher:
    """Finds the images of a manifest among files, by the ends of their paths.

    The data set may lie at any depth, and a domain's folder may have any of the names that the
    manifest lists for it. Case, spaces, dashes, underscores and the Unicode normalisation of
    folder names do not matter, nor does a folder such as ``train`` between the others. In file
    names, the normalisation and the spelling of a JPEG suffix do not matter. A closer match wins.

    Args:
        manifest: a manifest whose images are files.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._reference = manifest.reference
        self._alias = {loose(f): d.name for d in manifest.domains for f in (d.name, *d.folders)}
        self._exact: dict[tuple[str, ...], _Images] = {}
        self._loose: dict[tuple[str, ...], _Images] = {}
        for path in manifest.table["path"].to_pylist():
            *folders, file = path.split("/")
            self._exact.setdefault(tuple(folders), _Images()).add(file, path)
            self._loose.setdefault(self._key(folders), _Images()).add(file, path)
        self._depths = sorted({len(key) for key in self._loose}, reverse=True)
        self._candidates = lru_cache(1024)(self._folders_of)

    def match(self, files: Iterable[tuple[str, T]], remarks: Remarks) -> dict[str, T]:
        """Match files with images.

        Args:
            files: the path of each file, with slashes, and what identifies its content.
            remarks: counts files that match no image.

        Returns:
            The path of each matched image to what identifies its file.

        Raises:
            DataError: two files match the same image equally well.
        """
        matches: dict[str, tuple[T, int, str]] = {}
        spellings: dict[str, set[str]] = {}
        for name, file in files:
            hit = self._find(name)
            if hit is None:
                remarks.add(Kind("file", f"not among the images of {self._reference}"), name)
                continue
            path, rank = hit
            if path in matches and matches[path][0] != file:
                _, other_rank, other = matches[path]
                if rank == other_rank:
                    raise DataError(
                        f"{shown(other)} and {shown(name)} both match the image {path!r} of "
                        f"{self._reference}; give a folder or archive that contains only one copy "
                        "of the data set"
                    )
                remarks.add(
                    Kind("file", "whose image has a closer match"),
                    max((rank, name), (other_rank, other))[1],
                )
                if rank > other_rank:
                    continue
            matches[path] = file, rank, name
            spellings.setdefault(path.rpartition("/")[0], set()).add(name.rpartition("/")[0])
        for folders in spellings.values():
            _note_spellings(folders, remarks)
        return {path: file for path, (file, _, _) in matches.items()}

    def _find(self, name: str) -> tuple[str, int] | None:
        """The path of a file's image and how far the names differ (0: not at all), or None.

        Raises:
            DataError: the file may be one of several images.
        """
        folder, _, file = name.rpartition("/")
        candidates = self._candidates(folder)
        hit = next(((i.exact[file], rank) for rank, i in candidates if file in i.exact), None)
        if hit is None and candidates:
            file = _loose_file(file)
            hit = next(
                ((i.loose[file], 9 + rank) for rank, i in candidates if file in i.loose), None
            )
        if hit is None:
            return None
        path, rank = hit
        if path is None:
            raise DataError(
                f"{shown(name)} may be one of several images of the manifest, whose names differ "
                "only in case or separators; give the folders the manifest's names"
            )
        return path, rank

    def _folders_of(self, folder: str) -> list[tuple[int, _Images]]:
        """The manifest's folders that a folder may be, each with its rank; the closest first."""
        parts = [part for part in folder.split("/") if part not in ("", ".")]
        candidates = self._ends(parts, 0)
        if not candidates:
            longest = self._depths[0] + 1
            for place in range(max(0, len(parts) - longest), len(parts)):
                if loose(parts[place]) in _BETWEEN:
                    candidates += self._ends(parts[:place] + parts[place + 1 :], 2)
        return candidates

    def _ends(self, parts: list[str], rank: int) -> list[tuple[int, _Images]]:
        ends = [parts[len(parts) - depth :] for depth in self._depths if depth <= len(parts)]
        exact = [(rank, self._exact.get(tuple(end))) for end in ends]
        close = [(rank + 1, self._loose.get(self._key(end))) for end in ends]
        return [(rank, images) for rank, images in exact + close if images is not None]

    def _key(self, folders: Sequence[str]) -> tuple[str, ...]:
        key = [loose(folder) for folder in folders]
        if key:
            key[0] = self._alias.get(key[0], key[0])
        return tuple(key)


def _note_spellings(folders: set[str], remarks: Remarks) -> None:
    """Name folders that were taken as one although their names differ in case or separators."""
    by_name: dict[str, set[str]] = {}
    for folder in folders:
        by_name.setdefault(loose(folder), set()).add(folder)
    for same in by_name.values():
        if len(same) > 1:
            for folder in sorted(same):
                about = "taken as one, whose names differ in case or separators"
                remarks.add(Kind("folder", about), folder)


@lru_cache(4096)
def loose(name: str) -> str:
    """A folder's name without what copies of a data set change: case, separators, normalisation."""
    return re.sub(r"[ _-]", "", unicodedata.normalize("NFC", name)).lower()


def _loose_file(name: str) -> str:
    stem, dot, suffix = unicodedata.normalize("NFC", name).rpartition(".")
    suffix = suffix.lower()
    return stem + dot + ("jpg" if suffix == "jpeg" else suffix)
