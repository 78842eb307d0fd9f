"""`htbench data`: manage the images of data sets that are not bundled with the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.commands import command as recommended
from benchmark.commands import ways_to_images
from benchmark.errors import UsageError
from benchmark.text import plural
from htbench.cli.options import LocalPath, json_option
from htbench.cli.output import ask, list_problems, print_json, print_table, printable
from htbench.progress import log, step_bars

if TYPE_CHECKING:
    from benchmark.images.copy.verify import Verification
    from benchmark.manifest.manifest import Manifest

MAX_LISTED = 5  # paths of one kind of problem


@click.group("data")
def command() -> None:
    """Download, import, verify, list or remove the images of a data set.

    \b
    Examples:
      htbench data import office-home@1.0 ~/OfficeHomeDataset_10072016.zip
      htbench data verify office-home@1.0
    """


_dataset = click.argument("dataset")


@command.command()
@_dataset
@click.option(
    "--accept-terms",
    is_flag=True,
    help="Confirm that you have read and accept the data set's terms of use.",
)
def download(dataset: str, accept_terms: bool) -> None:
    """Download the images of DATASET from its mirrors.

    Files that you already have are not downloaded again. To resume an interrupted download, run the
    same command again.

    \b
    Examples:
      htbench data download domainnet@1.0
      htbench data download office-home@1.0 --accept-terms
    """
    from benchmark.folders import data_folder
    from benchmark.images.copy.mirrors import fetch
    from benchmark.images.place import absent_rows
    from benchmark.images.status import manifest_of_files

    manifest = manifest_of_files(dataset)
    document = manifest.document
    if not document.get("mirrors"):
        raise UsageError(
            f"{manifest.reference} has no download mirrors; obtain its files yourself, "
            f"then run `{recommended('data', 'import', manifest.argument, 'PATH')}`"
        )
    if not len(absent_rows(manifest)):
        _print_complete(manifest)
        return
    if not accept_terms:
        log(f"{document['title']}\n\nTerms: {document['terms'].strip()}\n")
        log(f"Please cite:\n{document['citation'].strip()}\n")
        ask(
            "Do you accept these terms?",
            f"the images of {manifest.reference} have terms of use that you must accept; "
            "read them above, then add --accept-terms",
        )
    with step_bars() as progress_of:
        fetch(manifest, data_folder() / "downloads", log, progress_of)
    _print_complete(manifest)


@command.command("import")
@_dataset
@click.argument("paths", nargs=-1, required=True, type=LocalPath(exists=True))
@click.option(
    "--copy",
    is_flag=True,
    help="Copy the files from a folder instead of linking to them; replaces links that exist.",
)
@json_option
@click.pass_context
def import_(
    context: click.Context, dataset: str, paths: tuple[Path, ...], copy: bool, as_json: bool
) -> None:
    """Import the images of DATASET from folders or archives (zip, tar).

    Files are matched by the end of their path, so any parent folders are fine, and so is a folder
    of archives. What is left out is counted, with examples. Exits with status 1 if images are still
    missing.

    \b
    Examples:
      htbench data import office-home@1.0 ~/OfficeHomeDataset_10072016
      htbench data import domainnet@1.0 clipart.zip infograph.zip painting.zip real.zip sketch.zip
      htbench data import pacs@1.0 ~/PACS --json
    """
    from benchmark.images.copy.take import import_images
    from benchmark.images.place import absent_rows, paths_of
    from benchmark.images.status import describe_absent, manifest_of_files

    manifest = manifest_of_files(dataset)
    counts: list[dict[str, object]] = []
    for path in paths:
        with step_bars() as progress_of:
            progress = progress_of(f"importing {path.name}")
            count = import_images(manifest, path, copy=copy, progress=progress, log=log)
        counts.append({"path": str(path), "images": count})
        if not as_json:
            click.echo(printable(f"{path}: {plural(count, 'image')} imported"))
    absent = absent_rows(manifest)
    is_complete = not len(absent)
    if as_json:
        print_json(
            {
                "ok": is_complete,
                "reference": manifest.reference,
                "imported": counts,
                "absent": sorted(paths_of(manifest, absent)),
            }
        )
    elif is_complete:
        _print_complete(manifest)
    if not is_complete:
        log(describe_absent(manifest, absent))
        context.exit(1)


def _print_complete(manifest: Manifest) -> None:
    click.echo(
        f"all {manifest.table.num_rows} images of {manifest.reference} are present; "
        f"next, run `{recommended('data', 'verify', manifest.argument)}`"
    )


@command.command()
@_dataset
@json_option
@click.pass_context
def verify(context: click.Context, dataset: str, as_json: bool) -> None:
    """Check that the local copy of DATASET is complete, decodable and unchanged.

    The first successful verification records a digest of each image's pixels, and later ones
    compare against it. Exits with status 1 if anything differs.

    \b
    Examples:
      htbench data verify office-home@1.0
      htbench data verify domainnet@1.0 --json
    """
    from benchmark.images.copy.verify import verify_images
    from benchmark.images.status import find_manifest
    from benchmark.images.store.store import check_images

    manifest = find_manifest(dataset)
    if manifest.document["images"] == "embedded":
        count = check_images(manifest)
        if as_json:
            print_json({"ok": True, "reference": manifest.reference, "images": count})
        else:
            click.echo(
                f"{manifest.reference}: all {count} images (bundled with htbench) decode correctly"
            )
        return
    with step_bars() as progress_of:
        verification = verify_images(manifest, progress_of("decoding"))
    if as_json:
        print_json(verification.as_dict())
    else:
        _print(verification, manifest)
    if not verification.ok:
        context.exit(1)


def _print(verification: Verification, manifest: Manifest) -> None:
    print_table(verification.counts, ["domain", "split", "expected", "good"])
    click.echo()
    damaged = [f"{path}: {why}" for path, why in verification.damaged.items()]
    for noun, problem, paths in (
        ("image", "missing", verification.missing),
        ("image", "that cannot be decoded", damaged),
        ("image", "with another SHA-256 than in the manifest", verification.other_bytes),
        ("image", f"changed since the verification of {verification.since}", verification.changed),
        ("file", "not in the manifest", verification.unexpected),
    ):
        if paths:
            _print_some(f"{plural(len(paths), noun)} {problem}", paths)
    if verification.classes:
        lines = [f"{name}: {good} of {n}" for name, (good, n) in verification.classes.items()]
        _print_some(f"{plural(len(lines), 'incomplete class')}", lines)
    if truncated := verification.truncated:
        _print_some(
            f"{plural(len(truncated), 'truncated file')}, still used; the missing part is filled "
            "identically on every machine",
            truncated,
        )
    for note, paths in verification.notes.items():
        _print_some(f"{plural(len(paths), 'image')}: {note}", paths)
    reference = verification.reference
    if verification.ok:
        since = f", unchanged since {verification.since}" if verification.since else ""
        click.echo(
            f"{reference}: all {verification.images} images are present and can be decoded{since}"
        )
        return
    click.echo(
        printable(
            f"the images of {reference} in {verification.folder} do not match the "
            "manifest. Delete the damaged, changed and unexpected files, then get them again: run "
            f"{ways_to_images(manifest)}"
        )
    )


def _print_some(title: str, lines: list[str]) -> None:
    click.echo(f"{title}:")
    for line in lines[:MAX_LISTED]:
        click.echo(printable(f"  {line}"))
    if len(lines) > MAX_LISTED:
        click.echo(f"  and {len(lines) - MAX_LISTED} more (--json lists all)")


@command.command()
@json_option
def status(as_json: bool) -> None:
    """Show which data sets are on this machine, where, and how complete they are.

    Also shows how many of their image stores are built.

    \b
    Examples:
      htbench data status
      htbench data status --json
    """
    from benchmark.images.status import data_status
    from benchmark.manifest.catalogue import load_published
    from htbench.cli.list import print_unexpanded

    with list_problems() as problems:
        entries = [data_status(manifest) for manifest in load_published(problems.append)]
        if as_json:
            print_json(entries)
            return
        _print_status(entries)
        print_unexpanded()


def _print_status(entries: Sequence[Mapping[str, Any]]) -> None:
    rows: list[list[object]] = []
    for e in entries:
        complete = e["here"] == e["images"]
        built, domains = e["stores"]
        rows.append(
            [
                e["dataset"],
                "complete" if complete else "partial" if e["here"] else "absent",
                f"{e['here']} of {e['images']}",
                e["verified"] or "-",
                f"{e['bytes'] / 1e6:.1f}" if e["bytes"] else "-",
                f"{built} of {domains}",
                e["where"],
            ]
        )
    print_table(rows, ["data set", "state", "images", "verified", "MB", "stores", "where"])


@command.command()
@_dataset
@click.option(
    "--stores", is_flag=True, help="Also remove the image stores built from these images."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def remove(dataset: str, stores: bool, yes: bool) -> None:
    """Remove the local copy of DATASET. If it consists of links, the files they point to are kept.

    Image stores stay without --stores: runs use the pixels in them, also after you import another
    copy.

    \b
    Examples:
      htbench data remove office-home@1.0
      htbench data remove domainnet@1.0 --stores --yes
    """
    from benchmark.images.status import local_folders, manifest_of_files, remove_folders
    from benchmark.images.store.store import store_state

    manifest = manifest_of_files(dataset)
    folders = local_folders(manifest, stores=stores)
    if not yes:
        listing = "".join(printable(f"  {folder}\n") for folder in folders)
        ask(
            f"{listing}Remove these folders?",
            "cannot ask for confirmation, because standard input is not a terminal; add --yes",
        )
    for folder in remove_folders(manifest, folders):
        click.echo(f"removed {folder}")
    if kept := store_state(manifest)[0]:
        command_line = recommended("data", "remove", manifest.argument, "--stores")
        log(
            f"{plural(kept, 'image store')} stayed: runs use their pixels, also after you import "
            f"another copy; to remove them, run `{command_line}`"
        )
