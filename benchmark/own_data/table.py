"""List the images of a CSV file: columns path, domain, class and, optionally, split and group."""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmark.errors import UsageError, first
from benchmark.images.copy.match import SPLIT_FOLDERS
from benchmark.manifest.image_rules import is_portable
from benchmark.manifest.reader import CONTROL
from benchmark.own_data.folder import agreed_splits
from benchmark.own_data.listing import Entry, LeftOut, Listing
from benchmark.text import plural

REQUIRED, OPTIONAL = ("path", "domain", "class"), ("split", "group")


def list_table(file: Path) -> Listing:
    """List the images of a CSV file; paths are relative to its folder.

    Raises:
        UsageError: the file cannot be read, or values cannot be used; the message has the first.
    """
    by_line = _rows(file)
    rows = list(by_line.values())
    times = Counter(row["path"] for row in rows)

    def check(column: str, problem: str, is_bad: Callable[[str], bool]) -> None:
        bad = [f"line {n}: {row[column]}" for n, row in by_line.items() if is_bad(row[column])]
        if bad:
            raise UsageError(f"{file}: {len(bad)} values of {column} {problem}: {first(bad)}")

    for column in REQUIRED:
        check(column, "are empty", lambda value: not value)
    check(
        "path",
        "are not relative paths with forward slashes below the folder of the CSV file, without "
        "colons and control characters",
        lambda value: not is_portable(value),
    )
    check("path", "are not files", lambda value: not (file.parent / value).is_file())
    check("path", "occur more than once", lambda value: times[value] > 1)
    for column in rows[0].keys() - {"path", "split"}:
        check(column, "have control characters", lambda value: bool(CONTROL.search(value)))
    splits: dict[str, str | None] = {row["path"]: None for row in rows}
    notes: list[str] = []
    if "split" in rows[0]:
        check("split", "are not train, val or test", lambda v: v.lower() not in SPLIT_FOLDERS)
        splits = {row["path"]: SPLIT_FOLDERS[row["split"].lower()] for row in rows}
        splits, notes = agreed_splits(splits, "the column split says")
    folder = file.parent.absolute()
    entries = [
        Entry(
            row["path"],
            str(folder / row["path"]),
            row["domain"],
            row["class"],
            splits[row["path"]],
            row.get("group") or None,
        )
        for row in sorted(rows, key=lambda row: row["path"])
    ]
    return Listing(str(file.parent), entries, LeftOut(), notes)


def _rows(file: Path) -> dict[int, dict[str, str]]:
    """The rows by the number of their line, which is the last one of a row with line breaks."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text)
            columns = reader.fieldnames or []
            if absent := [name for name in REQUIRED if name not in columns]:
                raise UsageError(
                    f"{file} does not have the columns {', '.join(absent)}; its first line has: "
                    f"{first(columns, 8) or 'nothing'}. Name the columns path, domain and class, "
                    "with commas between them; split and group are optional"
                )
            kept = [name for name in (*REQUIRED, *OPTIONAL) if name in columns]
            if repeated := [name for name in kept if columns.count(name) > 1]:
                raise UsageError(
                    f"{file} has more than one column named {first(repeated)}; rename or remove "
                    "all but one"
                )
            rows, longer = {}, []
            for row in reader:
                extra = row.pop(None, [])
                if any(map(str.strip, extra)):
                    longer.append(f"line {reader.line_num}: {','.join(extra)}")
                rows[reader.line_num] = {name: _value(name, row[name]) for name in kept}
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"cannot read {file} as CSV in UTF-8: {error}") from None
    if longer:
        raise UsageError(
            f"{file} has {plural(len(longer), 'row')} with more values than columns: "
            f"{first(longer)}; put double quotes around a value that has a comma"
        )
    if not rows:
        raise UsageError(f"{file} lists no images; it has only its first line")
    return rows


def _value(column: str, text: str | None) -> str:
    value = (text or "").strip()
    # `find .` lists paths with a dot in front.
    return value.removeprefix("./") if column == "path" else unicodedata.normalize("NFC", value)
