"""`htbench publish`: write results as a data set that others load, check and cite."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from htbench.cli.options import (
    ANY_SUITE,
    LocalPath,
    refuse_workspace_of,
    suite_option,
    workspace_option,
)
from htbench.cli.output import run_problems
from htbench.progress import log

# SPDX names. Their lower-case forms are the names that the Hugging Face Hub and Zenodo use.
LICENSES = ("Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "MIT")
DEVELOPERS = "The Holistic Transfer Bench developers"


@click.command("publish")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=LocalPath(file_okay=False),
    help="Folder to write: new, or one that this command wrote, which it replaces.",
)
@suite_option(ANY_SUITE)
@click.option(
    "--published",
    is_flag=True,
    help="Write the results that are published with this project instead of a workspace's.",
)
@click.option("--predictions", is_flag=True, help="Also write the predictions of every run.")
@click.option("--title", metavar="TEXT", help="Title of the data set.  [default: the suite's]")
@click.option(
    "--author",
    "authors",
    multiple=True,
    metavar="NAME",
    help="An author of the results; repeatable. Required without --published.",
)
@click.option(
    "--license",
    "--licence",
    "license_name",
    type=click.Choice(LICENSES),
    default=LICENSES[0],
    show_default=True,
    help="Licence of the results.",
)
@click.option(
    "--push",
    "repository",
    metavar="OWNER/NAME",
    help="Then upload the folder to this data set on the Hugging Face Hub.",
)
@workspace_option
def command(
    out: Path,
    suite: str | None,
    published: bool,
    predictions: bool,
    title: str | None,
    authors: tuple[str, ...],
    license_name: str,
    repository: str | None,
    workspace: Path,
) -> None:
    """Write the results of a suite as a data set that others load, check and cite.

    The folder has a dataset card for datasets.load_dataset, the runs and the board as Parquet, the
    manifest with Croissant metadata, CITATION.cff, .zenodo.json, SHA256SUMS, a log of changes and
    the board as pages. The same results give the same bytes. Nothing is uploaded without --push.
    A manifest that holds its images is copied with them. The runs' error messages, which may
    name folders of your machine, are in the folder too.

    \b
    Examples:
      htbench publish --suite icons --author "Ada Lovelace" --out release
      htbench publish --suite icons --published --predictions --out release
    """
    from benchmark.commands import command as command_line
    from benchmark.errors import UsageError
    from benchmark.runs.workspace import Workspace
    from htbench.dataset_card import About
    from htbench.own_suite import chosen_suite
    from htbench.publish import check_folder, push, workspace_predictions, write_publication
    from htbench.published_boards import chosen_boards
    from leaderboard.published_predictions import predictions_of

    if not published and not authors:
        raise UsageError('name the authors of the results, such as --author "Ada Lovelace"')
    if not all(author.strip() for author in authors):  # CITATION.cff would not be valid
        raise UsageError('--author is empty; give a name, such as --author "Ada Lovelace"')
    if title is not None and not title.strip():
        raise UsageError("--title is empty; give a title, or leave it out for the suite's")
    check_folder(out)
    refuse_workspace_of(published)
    place = Workspace(workspace)
    shown = None if published else place
    loaded = chosen_suite(suite, shown)
    with run_problems() as problems:
        boards = chosen_boards(loaded, shown, problems.append)
        if problems:
            raise UsageError(
                f"nothing was written to {out}, because runs of the workspace cannot be used; "
                f"run `{command_line('workspace', 'repair', *place.option)}` first"
            )
        about = About(
            title or f"Holistic Transfer Bench: {loaded.title}",
            authors or (DEVELOPERS,),
            license_name,
        )
        source = (
            partial(predictions_of, loaded.name)
            if published
            else partial(workspace_predictions, workspace=place)
        )
        change = write_publication(out, boards, about, source if predictions else None)
        log(f"wrote {out}: " + (f"version {change.version}" if change else "no result changed"))
        if repository is not None:
            log(f"uploaded {push(out, repository)}")
