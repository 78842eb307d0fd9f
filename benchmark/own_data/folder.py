"""List the images of a folder laid out as ``<domain>/<class>/<image>``."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmark.errors import UsageError, first
from benchmark.images.copy.archive import SUFFIXES as ARCHIVES
from benchmark.images.copy.folder import top_of, walk
from benchmark.images.copy.match import PLAIN_FOLDERS, SPLIT_FOLDERS, loose
from benchmark.images.copy.remarks import Kind
from benchmark.images.decode import SUFFIXES
from benchmark.manifest.image_rules import is_portable
from benchmark.own_data.listing import Entry, LeftOut, Listing, some
from benchmark.text import plural

# Files with these suffixes are meant as images; those of the second kind cannot be decoded.
READABLE = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
OTHER_FORMATS = (".gif", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".avif", ".svg")
NOT_DATA = ("__macosx", "@eadir", "thumbs.db", "desktop.ini")  # what systems leave in folders
CSV_WAY = "or give a CSV file with the columns path, domain and class"


class _Place(NamedTuple):
    """Where an image lies: the folders above it, without those between, and its split if any."""

    folders: tuple[str, ...]
    split: str | None


def list_folder(root: Path) -> Listing:
    """List the images of a folder.

    A folder of a split (``train``, ``test``, ``val``) may be above, between or below domain and
    class; a folder such as ``images`` may, too, and says nothing. Hidden files are ignored.

    Args:
        root: the folder.

    Raises:
        UsageError: the layout is another one; the message says what there is and what to do.
    """
    left_out = LeftOut(top_of(root))
    files = _image_files(root, left_out)
    places = {path: _place(path) for path in files}
    _check_layout(root, places, left_out)
    for path, place in places.items():
        if len(place.folders) < 2:
            left_out.add(Kind("image", "outside of a folder <domain>/<class>"), path)
    placed = {path: place for path, place in places.items() if len(place.folders) == 2}
    splits, notes = _splits({path: place.split for path, place in placed.items()})
    entries = [
        Entry(path, files[path], domain, class_name, splits[path])
        for path, ((domain, class_name), _) in placed.items()
    ]
    return Listing(str(root), entries, left_out, notes)


def _image_files(root: Path, left_out: LeftOut) -> dict[str, str]:
    """The files that are meant as images: relative path to absolute path, sorted."""
    files: dict[str, str] = {}
    for folder in walk(root, left_out):
        if any(map(_is_hidden, folder.below.split("/"))):
            continue
        for name, file in folder.files.items():
            path = f"{folder.below}/{name}".lstrip("/")
            if _is_hidden(name):
                continue
            if not name.lower().endswith((*READABLE, *OTHER_FORMATS)):
                left_out.add(Kind("file", "in no image format"), path)
            elif not is_portable(path):
                about = (
                    "to be renamed, because of a colon, a backslash, a control character or bytes "
                    "that are not UTF-8"
                )
                left_out.add(Kind("image", about), path)
            else:
                files[path] = file
    return dict(sorted(files.items()))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in NOT_DATA


def _place(path: str) -> _Place:
    """The folders above an image, without at most one of a split and those that say nothing."""
    folders = [unicodedata.normalize("NFC", name) for name in path.split("/")[:-1]]
    split = None
    while len(folders) > 2:
        # Between domain and class first, then above, then below.
        order = [*range(1, len(folders) - 1), 0, len(folders) - 1]
        between = PLAIN_FOLDERS if split else (*PLAIN_FOLDERS, *SPLIT_FOLDERS)
        place = next((i for i in order if loose(folders[i]) in between), None)
        if place is None:
            break
        split = SPLIT_FOLDERS.get(loose(folders.pop(place)), split)
    return _Place(tuple(folders), split)


def _check_layout(root: Path, places: Mapping[str, _Place], left_out: LeftOut) -> None:
    """Refuse every layout in which domain and class of an image cannot be told.

    Raises:
        UsageError: see there.
    """
    if not places:
        raise UsageError(_no_images(root, left_out))
    by_depth: defaultdict[int, list[str]] = defaultdict(list)
    for path, place in places.items():
        by_depth[len(place.folders)].append(path)
    deep = [path for depth, paths in sorted(by_depth.items()) if depth > 2 for path in paths]
    if not by_depth[2] and not deep:
        if not by_depth[1]:
            raise UsageError(
                f"{root} has {plural(len(places), 'image')} and no folders with images; sort them "
                f"into folders <domain>/<class>, {CSV_WAY}"
            )
        raise UsageError(
            f"{root} has {plural(len(places), 'image')}, but none in a folder <domain>/<class>; "
            f"its folders with images are {_names(path.split('/')[0] for path in by_depth[1])}. "
            "If these are classes, move them into a folder for each domain; if they are domains, "
            f"sort their images into a folder for each class; {CSV_WAY}"
        )
    if deep:
        top, *others = {path.split("/")[0] for path in places}
        inner = "" if others else f", or give --from {root / top}"
        raise UsageError(
            f"{root} has {plural(len(deep), 'image')} deeper than <domain>/<class>/<image>, such "
            f"as {first(deep, 1)}; move them up{inner}, {CSV_WAY}"
        )
    domains = {places[path].folders[0] for path in by_depth[2]}
    if all(loose(domain) in SPLIT_FOLDERS for domain in domains):
        raise UsageError(
            f"the folders of {root} are {_names(domains)}: splits, not domains. The layout is "
            f"<domain>/<class>/<image> or <domain>/train/<class>/<image>; {CSV_WAY}"
        )
    classes = {places[path].folders[1] for path in by_depth[2]}
    if all(loose(name) in SPLIT_FOLDERS for name in classes):
        raise UsageError(
            f"the folders below {_names(domains)} in {root} are {_names(classes)}: splits, not "
            f"classes. The layout is <domain>/<class>/<image> or <domain>/train/<class>/<image>; "
            f"{CSV_WAY}"
        )


def _no_images(root: Path, left_out: LeftOut) -> str:
    content = "; ".join(left_out.lines())
    archives = [n for names in left_out.names.values() for n in names if n.endswith(ARCHIVES)]
    remedy = (
        f"unpack {first(archives, 1)} first"
        if archives
        else "it should have JPEG or PNG files as <domain>/<class>/<image>"
    )
    return f"{root} contains no images ({content[:1000] or 'it is empty'}); {remedy}"


def _splits(splits: Mapping[str, str | None]) -> tuple[dict[str, str | None], list[str]]:
    """The split of each image by the folders of splits, and what to tell the user about them.

    Raises:
        UsageError: only some images are in a folder of a split.
    """
    count = Counter(splits.values())
    if None in count and len(count) > 1:
        outside = [path for path, split in splits.items() if split is None]
        inside = [path for path, split in splits.items() if split is not None]
        raise UsageError(
            f"{plural(len(inside), 'image')} in folders of a split ({some(inside)}), and "
            f"{len(outside)} elsewhere ({some(outside)}); move all images into such folders, or "
            "none"
        )
    return agreed_splits(splits, "the folders say")


def agreed_splits(
    splits: Mapping[str, str | None], who: str
) -> tuple[dict[str, str | None], list[str]]:
    """Reduce splits to ``train`` and ``test``.

    Validation images become training images or, where there are no test images, those. If all
    images are in one split, the manifest's rule decides instead.

    Args:
        splits: ``train``, ``val`` or ``test`` by path, or None for every path.
        who: what names the splits, for the note.

    Returns:
        ``train`` or ``test`` by path, or None for every path; and notes for the user.
    """
    count = Counter(splits.values())
    if len(count) == 1:
        (only,) = count
        notes = [] if only is None else [f"{who} {only} for all images, so the rule splits them"]
        return dict.fromkeys(splits, None), notes
    note = f"{who} which images are in train and in test"
    if count["val"]:
        taken = "train" if count["test"] else "test"
        note += f"; taken as {taken} images: {plural(count['val'], 'validation image')}"
        splits = {path: taken if split == "val" else split for path, split in splits.items()}
    return dict(splits), [note]


def _names(names: Iterable[str]) -> str:
    return first(sorted(set(names)), 5)
