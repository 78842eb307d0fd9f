"""Match a user's files with a manifest's images, whatever the layout of the copy."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np

from benchmark.errors import DataError
from benchmark.images.copy.remarks import Kind, Remarks, shown
from benchmark.images.copy.rows import PathRows, Rows
from benchmark.manifest.manifest import slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmark.manifest.manifest import Manifest

T = TypeVar("T", covariant=True)

# Folders that some copies have between the others, as in Art/train/Chair: those of a split, and
# those that say nothing.
SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}
PLAIN_FOLDERS = ("image", "images", "img", "imgs", "jpg", "data")
_BETWEEN = {*SPLIT_FOLDERS, *PLAIN_FOLDERS}
MAX_SPELLINGS = 1000  # images whose names differ only in what copies of a data set change


class Files(Protocol[T]):
    """Files in some order, each with its path and what identifies its content.

    A file that was iterated over is found again by its position.
    """

    def __iter__(self) -> Iterator[tuple[str, T]]: ...

    def __getitem__(self, position: int, /) -> tuple[str, T]: ...


class _Folder(NamedTuple):
    """One or several of the manifest's folders, which a file's folder may be.

    Attributes:
        rank: how far the names differ; 0: not at all.
        number: that of all folders whose names differ only in what copies change.
        name: the folder with exactly this name; None: all of them.
    """

    rank: int
    number: int
    name: str | None


class _Image(NamedTuple):
    """The row of an image, and the folder and file of its path."""

    row: int
    folder: str
    file: str


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
        self._paths = manifest.table["path"]
        self._rows = PathRows(self._paths)
        self._numbers: dict[tuple[str, ...], int] = {}  # of folders, by their loose names
        self._number_of: dict[str, int] = {}
        for folder in dict.fromkeys(folder for folder, _ in self._names()):
            key = self._key(folder.split("/") if folder else [])
            self._number_of[folder] = self._numbers.setdefault(key, len(self._numbers))
        self._depths = sorted({len(key) for key in self._numbers}, reverse=True)
        self._candidates = lru_cache(1024)(self._folders_of)

    def match(self, files: Files[T], remarks: Remarks) -> NDArray[np.int64]:
        """Match files with images.

        Args:
            files: the path of each file, with slashes, and what identifies its content.
            remarks: counts files that match no image.

        Returns:
            The position of each image's file among the files, by the image's row; -1: none.

        Raises:
            DataError: two files match the same image equally well.
        """
        positions, ranks = array("q", [-1]) * len(self._paths), bytearray(len(self._paths))
        spellings: dict[str, set[str]] = {}
        for position, (name, file) in enumerate(files):
            hit = self._find(name)
            if hit is None:
                remarks.add(Kind("file", f"not among the images of {self._reference}"), name)
                continue
            image, rank = hit
            if positions[image.row] >= 0 and (other := files[positions[image.row]])[1] != file:
                other_rank = ranks[image.row]
                if rank == other_rank:
                    path = self._paths[image.row].as_py()
                    raise DataError(
                        f"{shown(other[0])} and {shown(name)} both match the image {path!r} of "
                        f"{self._reference}; give a folder or archive that contains only one copy "
                        "of the data set"
                    )
                remarks.add(
                    Kind("file", "whose image has a closer match"),
                    max((rank, name), (other_rank, other[0]))[1],
                )
                if rank > other_rank:
                    continue
            positions[image.row], ranks[image.row] = position, rank
            spellings.setdefault(image.folder, set()).add(name.rpartition("/")[0])
        for folders in spellings.values():
            _note_spellings(folders, remarks)
        return np.frombuffer(positions, np.int64)

    def _names(self) -> Iterator[tuple[str, str]]:
        """The folder and the file of each row's path."""
        for paths in slices(self._paths):
            for path in paths:
                folder, _, file = path.rpartition("/")
                yield folder, file

    def _find(self, name: str) -> tuple[_Image, int] | None:
        """A file's image and how far the names differ (0: not at all), or None.

        Raises:
            DataError: the file may be one of several images.
        """
        folder, _, file = name.rpartition("/")
        candidates = self._candidates(folder)
        if candidates and (own := candidates[0].name) is not None:  # nothing can be closer
            row = self._rows.find(f"{own}/{file}" if own else file)
            if row is not None:
                return _Image(row, own, file), candidates[0].rank
        near = {number: self._near(number, file) for number in {c.number for c in candidates}}
        if not any(near.values()):
            return None
        for has_same_name in (True, False):
            for candidate in candidates:
                images = [
                    image
                    for image in near[candidate.number]
                    if candidate.name in (None, image.folder)
                    and (image.file == file or not has_same_name)
                ]
                if len(images) > 1:
                    raise self._several(name)
                if images:
                    return images[0], candidate.rank + (0 if has_same_name else 9)
        return None

    def _near(self, number: int, file: str) -> list[_Image]:
        """The images in folders of a number whose file has the same loose name.

        Raises:
            DataError: there are too many to look at each.
        """
        name, images = _loose_file(file), []
        rows = self._loose_rows.of((number, name))
        if len(rows) > MAX_SPELLINGS:
            raise self._several(file)
        for row in rows:
            folder, _, own = self._paths[row].as_py().rpartition("/")
            if self._number_of[folder] == number and _loose_file(own) == name:
                images.append(_Image(row, folder, own))
        return images

    @cached_property
    def _loose_rows(self) -> Rows:
        """Rows by the number of the folder and the loose name of the file; rarely needed."""
        keys = ((self._number_of[folder], _loose_file(file)) for folder, file in self._names())
        return Rows(keys, len(self._paths))

    def _several(self, name: str) -> DataError:
        return DataError(
            f"{shown(name)} may be one of several images of the manifest, whose names differ "
            "only in case or separators; give the folders the manifest's names"
        )

    def _folders_of(self, folder: str) -> list[_Folder]:
        """The manifest's folders that a folder may be; the closest first."""
        parts = [part for part in folder.split("/") if part not in ("", ".")]
        candidates = self._ends(parts, 0)
        if not candidates:
            longest = self._depths[0] + 1
            for place in range(max(0, len(parts) - longest), len(parts)):
                if loose(parts[place]) in _BETWEEN:
                    candidates += self._ends(parts[:place] + parts[place + 1 :], 2)
        return candidates

    def _ends(self, parts: list[str], rank: int) -> list[_Folder]:
        exact, close = [], []
        for end in (parts[len(parts) - depth :] for depth in self._depths if depth <= len(parts)):
            number = self._numbers.get(self._key(end))
            if number is None:
                continue
            if (name := "/".join(end)) in self._number_of:
                exact.append(_Folder(rank, number, name))
            close.append(_Folder(rank + 1, number, None))
        return exact + close

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
