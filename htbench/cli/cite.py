"""`htbench cite`: BibTeX for data sets, methods and the leaderboard."""

from __future__ import annotations

import click

from htbench.cli.options import json_option
from htbench.cli.output import list_problems, print_json, printable


@click.command("cite")
@click.argument("names", nargs=-1, metavar="[DATA|METHOD|board]...")
@json_option
def command(names: tuple[str, ...], as_json: bool) -> None:
    """Print BibTeX for data sets, methods and the leaderboard (all of them if no name is given).

    DATA is a manifest, given as a reference such as icons@2.0 or as a folder. For the terms of a
    data set, see `htbench manifest show`.

    \b
    Examples:
      htbench cite icons@2.0 wise-ft board
      htbench cite > references.bib
    """
    from benchmark.citations import all_citations, citations_of

    with list_problems() as problems:
        if names:
            citations = {name: citations_of(name) for name in names}
        else:
            citations = all_citations(problems.append)
        pairs = [(name, citation) for name, entries in citations.items() for citation in entries]
        if as_json:
            print_json([{"for": name, "key": c.key, "bibtex": c.bibtex} for name, c in pairs])
            return
        used_by: dict[str, list[str]] = {}
        texts: dict[str, str] = {}
        for name, citation in pairs:
            used_by.setdefault(citation.key, []).append(name)
            texts.setdefault(citation.key, citation.bibtex)
        blocks = [f"% {', '.join(used_by[key])}\n{text}" for key, text in texts.items()]
        click.echo(printable("\n\n".join(blocks)))
