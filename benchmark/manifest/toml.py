"""The only writer of TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

WIDTH = 100
INDENT = "    "
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(document: Mapping[str, object]) -> str:
    """Write a document as TOML text that ``tomllib.loads`` reads back as an equal document.

    Tables get a heading, and so do top-level lists of tables (``[[name]]``). Lists of tables inside
    a table, and tables inside a list, are written inline.

    Args:
        document: keys with values of type str, bool, int, float, list or Mapping.

    Raises:
        TypeError: a value has another type, such as None.
    """
    lists = {
        key: value
        for key, value in document.items()
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value)
    }
    blocks = _table({key: value for key, value in document.items() if key not in lists}, ())
    blocks += [
        f"[[{_key(key)}]]\n{_assignments(table)}"
        for key, tables in lists.items()
        for table in tables
    ]
    return "\n".join(blocks)


def _table(table: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    """Return the table's own block, then the blocks of the tables inside it."""
    values = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    heading = f"[{'.'.join(map(_key, path))}]\n" if path and (values or not table) else ""
    blocks = [heading + _assignments(values)] if heading or values else []
    for key, value in table.items():
        if isinstance(value, Mapping):
            blocks += _table(value, (*path, key))
    return blocks


def _assignments(values: Mapping[str, object]) -> str:
    return "".join(
        f"{_key(key)} = {_value(value, taken=len(_key(key)) + 3)}\n"
        for key, value in values.items()
    )


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _value(value: object, taken: int) -> str:
    """Write a value that starts at column ``taken``, on several lines if it is long."""
    if isinstance(value, str) and "\n" in value:
        return '"""\n' + "\n".join(_string(line)[1:-1] for line in value.split("\n")) + '"""'
    inline = _inline(value)
    if not isinstance(value, list) or taken + len(inline) <= WIDTH:
        return inline
    items = [_inline(item) + "," for item in value]
    one_per_line = any(isinstance(item, Mapping | list) for item in value)
    return "[\n" + "\n".join(_wrap(items, one_per_line=one_per_line)) + "\n]"


def _wrap(items: Sequence[str], *, one_per_line: bool) -> list[str]:
    """Distribute items over indented lines of at most WIDTH characters."""
    lines: list[str] = []
    for item in items:
        if lines and not one_per_line and len(lines[-1]) + 1 + len(item) <= WIDTH:
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
    raise TypeError(f"cannot write a value of type {type(value).__name__} as TOML: {value!r}")


def _string(text: str) -> str:
    """Quote a string. JSON's escapes are valid in TOML, but JSON does not escape DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
