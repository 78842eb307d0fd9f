"""`htbench cite`: what to cite when a data set, a method or the board is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htbench.cli.main import plain, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

BOARD = "board"
OURS = "htbench"  # the entry of this suite itself


@click.command("cite")
@click.argument("what", nargs=-1, metavar="[DATA|METHOD|board]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(what: tuple[str, ...], as_json: bool) -> None:
    """Print BibTeX for data sets, methods and the board; without a name, for all of them.

    DATA is a manifest such as icons@1.0, or the folder of one. Terms of the data are printed by
    `htbench manifest show`.

    \b
    Examples:
      htbench cite icons@1.0 wise-ft board
      htbench cite > references.bib
    """
    table = read_citations()
    names = what or (*_known_data(), *table["methods"], BOARD)
    found = {name: _entries(name, table) for name in names}
    if as_json:
        print_json(
            [{"for": n, "key": k, "bibtex": b} for n, entries in found.items() for k, b in entries]
        )
        return
    used: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for name, entries in found.items():
        for key, bibtex in entries:
            used.setdefault(key, []).append(name)
            texts.setdefault(key, bibtex)
    blocks = [f"% {', '.join(used[key])}\n{texts[key]}" for key in texts]
    click.echo(plain("\n\n".join(blocks)))


def _known_data() -> list[str]:
    """Manifests, and recipes of manifests: these are cited before they are expanded."""
    from benchmark.manifest import published_manifests, published_recipes

    return sorted({*published_manifests(), *published_recipes()})


def read_citations() -> dict[str, Any]:
    """``citations.toml``: methods and their papers, the board's, and the entries by key."""
    import tomllib

    text = (Path(__file__).parent.parent / "citations.toml").read_text("utf-8")
    return tomllib.loads(text)


def short_reference(key: str, table: Mapping[str, Any]) -> tuple[str, str | None]:
    """A paper in a few words, such as ``Li et al., ICML 2018``, and where it can be read.

    Args:
        key: of an entry; ``table``: what :func:`read_citations` gives.
    """
    if key == OURS:
        return "this suite", None
    fields = _fields(table["entries"][key])
    names = [name.partition(",")[0] for name in fields["author"].split(" and ")]
    authors = f"{names[0]} et al." if len(names) > 2 or "others" in names else " and ".join(names)
    where = fields.get("booktitle") or fields.get("journal")
    venue = table["venues"].get(where, where) or fields.get("archiveprefix")
    link = f"https://doi.org/{fields['doi']}" if "doi" in fields else None
    if "eprint" in fields:
        link = f"https://arxiv.org/abs/{fields['eprint']}"
    return f"{authors}, {f'{venue} ' if venue else ''}{fields['year']}", link


def _fields(bibtex: str) -> dict[str, str]:
    """The fields of an entry, each a line or several, without braces and line breaks."""
    import re

    found = re.findall(r"^\s*(\w+)\s*=\s*\{(.*?)\},$", bibtex, re.MULTILINE | re.DOTALL)
    return {name: " ".join(re.sub("[{}]", "", value).split()) for name, value in found}


def _entries(name: str, table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys and BibTeX of a name.

    Raises:
        UsageError: nothing has that name; the message says what there is.
        ManifestError: it looks like a manifest, and there is none.
    """
    from benchmark.errors import UsageError
    from benchmark.expand import load_recipe
    from benchmark.manifest import load_manifest, published_manifests, published_recipes

    if name == BOARD or name in table["methods"]:
        keys = table["board"]["keys"] if name == BOARD else table["methods"][name]
        return [(key, table["entries"][key].strip()) for key in keys]
    if "@" in name or (Path(name) / "manifest.toml").is_file():
        recipe = name in published_recipes() and name not in published_manifests()
        document = load_recipe(name).document if recipe else load_manifest(name).document
        bibtex = document["citation"].strip()
        return [(_key(bibtex) or name, bibtex)]
    data = ", ".join(_known_data())
    raise UsageError(
        f"no citation for {name!r}; data: {data}; methods: {', '.join(table['methods'])}; "
        f"and {BOARD}"
    )


def _key(bibtex: str) -> str | None:
    """``tu2023holistic`` of ``@inproceedings{tu2023holistic, ...}``."""
    import re

    found = re.match(r"@\w+\{\s*([^,\s]+)\s*,", bibtex)
    return found[1] if found else None
