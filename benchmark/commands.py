"""The commands that messages recommend, printed so that a user can paste them into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.text import ranges

if TYPE_CHECKING:
    from benchmark.manifest.manifest import Manifest


def command(*words: object) -> str:
    """A command line of ``htbench``, each word quoted for a shell where necessary.

    Name manifests, suites and workspaces as the user did: ``manifest.argument``,
    ``suite.argument``, ``workspace.option``. Words in capitals, such as PATH, are for the user to
    replace. A ``Path`` that begins with a dash is written so that it is not read as an option.

    Example:
        >>> command("data", "import", "my sets/0.1", "PATH")
        "htbench data import 'my sets/0.1' PATH"
    """
    return shlex.join(["htbench", *map(_word, words)])


def seed_words(seeds: Iterable[int]) -> list[str]:
    """The words of an option that names some seeds.

    Example:
        >>> seed_words([0, 1, 2, 5])
        ['--seed', '0-2,5']
    """
    return ["--seed", ranges(seeds).replace(" ", "")]


def _word(word: object) -> str:
    text = str(word)
    return f"./{text}" if isinstance(word, Path) and text.startswith("-") else text


def restore_it(path: Path) -> str:
    """What to do about a damaged file of the repository, at the end of a message that names it.

    Example:
        >>> restore_it(Path("results/icons.parquet"))
        'restore it from the repository: `git -C results checkout -- icons.parquet`'
    """
    words = ("git", "-C", str(path.parent), "checkout", "--", path.name)
    return f"restore it from the repository: `{shlex.join(words)}`"


def ways_to_images(manifest: Manifest) -> str:
    """The commands that get a manifest's images, for a message after ``run``."""
    take = f"`{command('data', 'import', manifest.argument, 'PATH')}`"
    if not manifest.document.get("mirrors"):
        return take
    download = command("data", "download", manifest.argument)
    return f"`{download}` or, if you have a copy, {take}"
