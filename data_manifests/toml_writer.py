"""A small TOML writer for files that people read: lists are wrapped, not one item a line.

Comments go between calls of `dumps`, so the file stays a plain concatenation of text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

WIDTH = 100
INDENT = "    "
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def dumps(table: Mapping[str, object], path: tuple[str, ...] = ()) -> str:
    """Write a table: its values first, then its nested tables under their own headings.

    Args:
        table: strings, booleans, numbers, lists of these (or of tables), and nested tables.
        path: the names that lead to this table; empty for the top level.

    Raises:
        TypeError: a value of another type.
    """
    values = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [_heading(path)] if path and (values or not table) else []
    lines += [
        f"{_key(key)} = {_value(value, taken=len(_key(key)) + 3)}" for key, value in values.items()
    ]
    blocks = ["\n".join(lines) + "\n"] if lines else []
    blocks += [dumps(v, (*path, key)) for key, v in table.items() if isinstance(v, Mapping)]
    return "\n".join(blocks)


def dumps_list(name: str, tables: Sequence[Mapping[str, object]]) -> str:
    """Write an array of flat tables, each under its own ``[[name]]``."""
    return "\n".join(f"[[{_key(name)}]]\n{dumps(table)}" for table in tables)


def _heading(path: tuple[str, ...]) -> str:
    return f"[{'.'.join(map(_key, path))}]"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _value(value: object, taken: int) -> str:
    """Write a value that starts ``taken`` characters into its line, on several lines if needed."""
    if isinstance(value, str) and "\n" in value:
        return '"""\n' + "\n".join(_string(line)[1:-1] for line in value.split("\n")) + '"""'
    inline = _inline(value)
    if not isinstance(value, list) or taken + len(inline) <= WIDTH:
        return inline
    items = [_inline(item) + "," for item in value]
    one_a_line = any(isinstance(item, Mapping | list) for item in value)
    return "[\n" + "\n".join(_lines_of(items, one_a_line=one_a_line)) + "\n]"


def _lines_of(items: Sequence[str], *, one_a_line: bool) -> list[str]:
    """Distribute items over indented lines of at most WIDTH characters."""
    lines: list[str] = []
    for item in items:
        if lines and not one_a_line and len(lines[-1]) + 1 + len(item) <= WIDTH:
            lines[-1] += f" {item}"
        else:
            lines.append(INDENT + item)
    return lines


def _inline(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    raise TypeError(f"TOML written here holds no {type(value).__name__}: {value!r}")


def _string(text: str) -> str:
    """Quote a string; JSON's escapes are TOML's, apart from DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
