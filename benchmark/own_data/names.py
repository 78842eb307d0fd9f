"""Names of domains and classes: safe ones, none of which differ only in case or separators."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from benchmark.errors import UsageError, first
from benchmark.images.copy.match import loose
from benchmark.own_data.listing import Entry


def check_names(entries: Sequence[Entry]) -> None:
    """Check that no two classes, and no two domains, differ only in case or separators.

    Raises:
        UsageError: some do: they are one class or domain with two spellings, or would be one
            folder on some systems.
    """
    for what, names in (
        ("domains", {entry.domain for entry in entries}),
        ("classes", {entry.class_name for entry in entries}),
    ):
        spellings: defaultdict[str, list[str]] = defaultdict(list)
        for name in sorted(names):
            spellings[loose(name.strip())].append(name)
        for same in spellings.values():
            if len(same) > 1:
                places = {
                    name: next(e.path for e in entries if name in (e.domain, e.class_name))
                    for name in same
                }
                where = ", ".join(f"{name!r} ({path})" for name, path in places.items())
                raise UsageError(
                    f"the {what} {where} differ only in case, blanks, dashes or underscores; give "
                    f"them one spelling if they are the same, or different names"
                )


def domain_names(folders: Iterable[str]) -> dict[str, str]:
    """The manifest's name of each domain, which has ASCII letters, digits, ``_``, ``-`` and ``.``.

    Other letters lose their accents, everything else becomes ``_``, and a name of which nothing is
    left becomes ``domain1``, with its number in the order of the names.

    Raises:
        UsageError: two domains get the same name, or names that differ only in case or separators.
    """
    names: dict[str, str] = {}
    for number, folder in enumerate(sorted(set(folders)), start=1):
        ascii_ = unicodedata.normalize("NFKD", folder).encode("ascii", "ignore").decode()
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", ascii_.strip()).strip("_.-")
        names[folder] = name or f"domain{number}"
    for name in names.values():
        same = {folder: other for folder, other in names.items() if loose(other) == loose(name)}
        if len(same) > 1:
            raise UsageError(
                f"the domains {first(same)} would be named {first(sorted(set(same.values())))}, "
                "because names of domains have ASCII letters and digits only, and differ in more "
                "than case and separators; rename one of them"
            )
    return names
