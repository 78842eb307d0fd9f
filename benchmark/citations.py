"""What to cite for a data set, a method or the board: BibTeX and short references."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from benchmark.manifest.catalogue import (
    load_manifest,
    load_published,
    published_manifests,
    published_recipes,
)
from benchmark.manifest.manifest import MANIFEST_FILE
from benchmark.manifest.recipe import load_recipe

BOARD = "board"
OURS = "htbench"  # key of the benchmark's own entry; tables name it so, too


@dataclass(frozen=True)
class Citation:
    """One BibTeX entry and its key, such as ``tu2023holistic``."""

    key: str
    bibtex: str


@cache
def read_citations() -> dict[str, Any]:
    """``citations.toml``: papers of the methods and of the board, and BibTeX entries by key."""
    return tomllib.loads(Path(__file__).with_name("citations.toml").read_text("utf-8"))


def all_citations(report: Callable[[str], None]) -> dict[str, list[Citation]]:
    """What to cite for every name that :func:`citations_of` knows.

    Data sets, then methods, then the board.

    Args:
        report: called with a sentence for each manifest of the user that cannot be read.
    """
    documents = {name: load_recipe(name).document for name in published_recipes()}
    documents |= {manifest.reference: manifest.document for manifest in load_published(report)}
    data = {name: [_citation(name, document)] for name, document in sorted(documents.items())}
    return data | {name: citations_of(name) for name in (*read_citations()["methods"], BOARD)}


def citations_of(name: str) -> list[Citation]:
    """What to cite for a data set (reference or folder), a method or ``board``.

    Raises:
        UsageError: the name is unknown; the message lists the known ones.
        ManifestError: it looks like a manifest, but there is none.
    """
    table = read_citations()
    if name == BOARD or name in table["methods"]:
        keys = table["board"]["keys"] if name == BOARD else table["methods"][name]
        return [Citation(key, table["entries"][key].strip()) for key in keys]
    if "@" in name or (Path(name) / MANIFEST_FILE).is_file():
        is_recipe = name in published_recipes() and name not in published_manifests()
        return [_citation(name, (load_recipe if is_recipe else load_manifest)(name).document)]
    raise UsageError(
        f"no citation for {name!r}; data sets: {', '.join(_citable_data())}; methods: "
        f"{', '.join(table['methods'])}; and {BOARD}"
    )


def short_reference(key: str) -> tuple[str, str | None]:
    """A paper in a few words, such as ``Li et al., ICML 2018``, and its link or None.

    Args:
        key: key of an entry of ``citations.toml``.
    """
    if key == OURS:
        return OURS, None
    table = read_citations()
    fields = _fields(table["entries"][key])
    names = [name.partition(",")[0] for name in fields["author"].split(" and ")]
    authors = f"{names[0]} et al." if len(names) > 2 or "others" in names else " and ".join(names)
    published_in = fields.get("booktitle") or fields.get("journal")
    venue = table["venues"].get(published_in, published_in) or fields.get("archiveprefix")
    link = f"https://doi.org/{fields['doi']}" if "doi" in fields else None
    if "eprint" in fields:
        link = f"https://arxiv.org/abs/{fields['eprint']}"
    return f"{authors}, {f'{venue} ' if venue else ''}{fields['year']}", link


def _citable_data() -> list[str]:
    """Manifests, and recipes, which can be cited before they are expanded."""
    return sorted({*published_manifests(), *published_recipes()})


def _citation(name: str, document: Mapping[str, Any]) -> Citation:
    """What the document of a manifest or of a recipe says to cite."""
    bibtex = document["citation"].strip()
    return Citation(_key(bibtex) or name, bibtex)


def _fields(bibtex: str) -> Mapping[str, str]:
    """The fields of an entry, which may span lines, without braces and line breaks."""
    pairs = re.findall(r"^\s*(\w+)\s*=\s*\{(.*?)\},$", bibtex, re.MULTILINE | re.DOTALL)
    return {name: " ".join(re.sub("[{}]", "", value).split()) for name, value in pairs}


def _key(bibtex: str) -> str | None:
    """``tu2023holistic`` of ``@inproceedings{tu2023holistic, ...}``."""
    match = re.match(r"@\w+\{\s*([^,\s]+)\s*,", bibtex)
    return match[1] if match else None
