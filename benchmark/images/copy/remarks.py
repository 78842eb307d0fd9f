"""Count what an import leaves out or takes in an unexpected way, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmark.text import plural, plural_of

NAMED = 3  # names kept for each reason
MAX_NAME = 80  # characters of a name in a message


@dataclass(frozen=True)
class Kind:
    """What a remark says of files.

    Attributes:
        noun: one of them, such as ``symbolic link``.
        about: the words after the noun, which must fit one file and several.
    """

    noun: str
    about: str = ""

    def counted(self, count: int) -> str:
        """A number of such files: ``1 broken link``."""
        return f"{plural(count, self.noun)} {self.about}".rstrip()

    def __str__(self) -> str:
        return f"{plural_of(self.noun)} {self.about}".rstrip()


@dataclass
class Remarks:
    """How many files each remark is about, and the names of the first few."""

    _count: dict[Kind, int] = field(default_factory=dict)
    _names: dict[Kind, list[str]] = field(default_factory=dict)

    def add(self, kind: Kind, name: str) -> None:
        """Count one more file.

        Args:
            kind: one of a few.
            name: the file.
        """
        self._count[kind] = self._count.get(kind, 0) + 1
        names = self._names.setdefault(kind, [])
        if len(names) < NAMED:
            names.append(shown(name))

    def lines(self) -> Iterator[str]:
        """A line for each kind: ``7 symbolic links, for example 'a', 'b', 'c'``."""
        for kind, count in self._count.items():
            names = self._names[kind]
            example = ", for example " if count > len(names) else ": "
            yield f"{kind.counted(count)}{example}{', '.join(names)}"


def shown(name: str) -> str:
    """A name for a message: quoted, and cut in the middle if it is long."""
    if len(name) > MAX_NAME:
        name = f"{name[: MAX_NAME // 2]}...{name[-MAX_NAME // 2 :]}"
    return repr(name)
