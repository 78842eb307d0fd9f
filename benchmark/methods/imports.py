"""What a Python file imports and which data files it declares, read from its text: nothing is run.

Loads no torch.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

MAX_SOURCE_BYTES = 1 << 20  # parsing takes up to 500 times as much memory


@dataclass(frozen=True)
class Import:
    """An import statement: the absolute name of a module, and the names imported from it.

    A name may be that of a submodule; ``*`` means all of them.
    """

    module: str
    names: tuple[str, ...] = ()


@lru_cache(maxsize=512)
def imports_of(source: bytes, package: str) -> tuple[Import, ...]:
    """The import statements of a file, also those inside functions.

    Args:
        source: content of the file; one that Python cannot parse imports nothing.
        package: the package that relative imports start from; empty if there is none.
    """
    return tuple(_imports(_parse(source), package.split(".") if package else []))


def _imports(tree: ast.Module, package: list[str]) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            if node.level and not above:
                continue  # beyond the package: the import fails with Python's own message
            parts = [*above, *filter(None, [node.module])]
            yield Import(".".join(parts), tuple(alias.name for alias in node.names))


def has_relative_imports(source: bytes) -> bool:
    """Whether a file can only be imported as part of a package."""
    return any(isinstance(n, ast.ImportFrom) and n.level for n in ast.walk(_parse(source)))


def declared_files(source: bytes) -> tuple[str, ...]:
    """The names in ``files = ("prompts.json",)`` of the classes of a file that have a base."""
    names: list[str] = []
    for node in ast.walk(_parse(source)):
        if isinstance(node, ast.ClassDef) and node.bases:
            for statement in node.body:
                names += _strings(statement, "files")
    return tuple(dict.fromkeys(names))


def _strings(statement: ast.stmt, name: str) -> list[str]:
    """The strings of a literal tuple or list that a statement assigns to a name."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return []
    value = statement.value
    if not any(isinstance(target, ast.Name) and target.id == name for target in targets):
        return []
    items = value.elts if isinstance(value, ast.Tuple | ast.List) else []
    constants = [item.value for item in items if isinstance(item, ast.Constant)]
    return [constant for constant in constants if isinstance(constant, str)]


@lru_cache(maxsize=2)
def _parse(source: bytes) -> ast.Module:
    empty = ast.Module([], [])
    if len(source) > MAX_SOURCE_BYTES:
        return empty
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python shows them when a run imports the file
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return empty
