"""The images that a folder or a CSV file lists, and the files that are left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmark.images.copy.remarks import Kind, Remarks, shown

NAMED = 3  # files of one kind that a sentence names


@dataclass(frozen=True)
class Entry:
    """One image.

    Attributes:
        path: relative to the data set's root, with forward slashes.
        file: the absolute path of its file.
        domain, class_name: names.
        split: ``train`` or ``test``; None if the manifest's rule decides.
        group: images of one group are never in different splits; None: the image alone.
        sha256: of the file (hex); empty until it has been read.
    """

    path: str
    file: str
    domain: str
    class_name: str
    split: str | None = None
    group: str | None = None
    sha256: str = ""


class LeftOut(Remarks):
    """The files that are left out: every name, by the kind that says why.

    Args:
        root: the folder to which the names are relative.
    """

    def __init__(self, root: str = "") -> None:
        super().__init__()
        self._root = f"{root}/"
        self.names: defaultdict[Kind, list[str]] = defaultdict(list)

    def add(self, kind: Kind, name: str) -> None:
        """Add a file."""
        self.names[kind].append(name.removeprefix(self._root))

    def lines(self) -> Iterator[str]:
        """A line for each kind: ``7 images that cannot be decoded: 'a', 'b', 'c' and 4 more``."""
        for kind, names in self.names.items():
            yield f"{kind.counted(len(names))}: {some(names)}"


@dataclass
class Listing:
    """What a folder or a CSV file lists.

    Attributes:
        root: the folder that paths are relative to.
        entries: the images.
        left_out: the files that are not among them.
        notes: sentences about how the folder or file was read.
    """

    root: str
    entries: list[Entry]
    left_out: LeftOut
    notes: list[str] = field(default_factory=list)


def some(names: list[str]) -> str:
    """The first names for a sentence: ``'a', 'b', 'c' and 4 more``."""
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(shown, names[:NAMED])) + rest
