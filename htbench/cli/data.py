"""`htbench data`: the images of data sets that do not ship with the suite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.errors import UsageError
from htbench.cli.options import json_option
from htbench.cli.output import print_json, print_table, printable
from htbench.progress import log, step_bars

if TYPE_CHECKING:
    from benchmark.images.copy.verify import Verification
    from benchmark.manifest.manifest import Manifest

MAX_LISTED = 5  # paths of one kind of problem


@click.group("data")
def command() -> None:
    """Get the images of a data set, check them, and see which are here.

    \b
    Examples:
      htbench data import office-home@1.0 ~/OfficeHomeDataset_10072016.zip
      htbench data verify office-home@1.0
    """


_dataset = click.argument("dataset")


@command.command()
@_dataset
@click.option("--accept-terms", is_flag=True, help="Accept the terms, which you have read.")
def download(dataset: str, accept_terms: bool) -> None:
    """Download the images of DATASET from its mirrors.

    Files that are here are not downloaded again; run the same command again to resume.

    \b
    Examples:
      htbench data download domainnet@1.0
      htbench data download office-home@1.0 --accept-terms
    """
    from benchmark.folders import data_folder
    from benchmark.images.copy.mirrors import fetch
    from benchmark.images.status import manifest_of_files

    manifest = manifest_of_files(dataset)
    document = manifest.document
    if not document.get("mirrors"):
        raise UsageError(
            f"{manifest.reference} has no mirrors; get its files and run "
            f"htbench data import {manifest.reference} PATH"
        )
    if not accept_terms:
        log(f"{document['title']}\n\nTerms: {document['terms'].strip()}\n")
        log(f"Please cite:\n{document['citation'].strip()}\n")
        if not sys.stdin.isatty():
            raise UsageError("the images have terms of use; accept them with --accept-terms")
        click.confirm("Do you accept these terms?", abort=True, err=True)
    with step_bars() as progress_of:
        fetch(manifest, data_folder() / "downloads", log, progress_of)
    _print_complete(manifest)


@command.command("import")
@_dataset
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--copy", is_flag=True, help="Copy the files of a folder instead of linking to them.")
@click.pass_context
def import_(context: click.Context, dataset: str, paths: tuple[Path, ...], copy: bool) -> None:
    """Import the images of DATASET from folders or archives (zip, tar).

    Any known layout is accepted, at any depth; files that are not in the manifest are ignored. The
    exit status is 1 if images are still missing.

    \b
    Examples:
      htbench data import office-home@1.0 ~/OfficeHomeDataset_10072016
      htbench data import domainnet@1.0 clipart.zip infograph.zip painting.zip real.zip sketch.zip
    """
    from benchmark.images.copy.take import absent_paths, import_images
    from benchmark.images.status import describe_absent, manifest_of_files

    manifest = manifest_of_files(dataset)
    for path in paths:
        with step_bars() as progress_of:
            count = import_images(
                manifest, path, copy=copy, progress=progress_of(f"importing {path.name}")
            )
        click.echo(printable(f"{path}: {count} images imported"))
    if absent := absent_paths(manifest):
        log(describe_absent(manifest, absent))
        context.exit(1)
    _print_complete(manifest)


def _print_complete(manifest: Manifest) -> None:
    click.echo(
        f"all {manifest.table.num_rows} images of {manifest.reference} are here; next: "
        f"htbench data verify {manifest.reference}"
    )


@command.command()
@_dataset
@json_option
@click.pass_context
def verify(context: click.Context, dataset: str, as_json: bool) -> None:
    """Check that the local copy of DATASET is complete, decodable and unchanged.

    The first complete verification records a digest of every image's pixels; later ones compare
    with it. The exit status is 1 if anything differs.

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
            click.echo(f"{manifest.reference}: all {count} images ship with the suite and decode")
        return
    with step_bars() as progress_of:
        verification = verify_images(manifest, progress_of("decoding"))
    if as_json:
        print_json(verification.as_dict())
    else:
        _print(verification)
    if not verification.ok:
        context.exit(1)


def _print(verification: Verification) -> None:
    print_table(verification.counts, ["domain", "split", "expected", "good"])
    click.echo()
    problems: dict[str, list[str]] = {
        "missing": verification.missing,
        "cannot be decoded": [f"{path}: {why}" for path, why in verification.damaged.items()],
        "differ from the manifest's bytes": verification.other_bytes,
        f"changed pixels since {verification.since}": verification.changed,
        "not in the manifest": verification.unexpected,
    }
    for problem, paths in problems.items():
        if paths:
            _print_some(f"{len(paths)} {problem}", paths)
    if verification.classes:
        lines = [f"{name}: {good} of {n}" for name, (good, n) in verification.classes.items()]
        _print_some(f"{len(lines)} classes are incomplete", lines)
    if truncated := verification.truncated:
        _print_some(
            f"{len(truncated)} files are truncated; the rest of each image is filled in the same "
            "way on every machine",
            truncated,
        )
    reference = verification.reference
    if verification.ok:
        since = f", unchanged since {verification.since}" if verification.since else ""
        click.echo(f"{reference}: all {verification.images} images are here and decodable{since}")
        return
    click.echo(
        printable(
            f"{reference} in {verification.folder} does not match the manifest. Delete files that "
            "are damaged, changed or unexpected, then run htbench data download or import to get "
            "what is missing"
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
    """Show which data sets are here: where, how complete, and how many stores are built.

    \b
    Examples:
      htbench data status
      htbench data status --json
    """
    from benchmark.images.status import data_status
    from benchmark.manifest.catalogue import load_manifest, published_manifests
    from htbench.cli.list import print_unexpanded

    references = published_manifests()
    entries = [data_status(load_manifest(reference)) for reference in references]
    if as_json:
        print_json(entries)
        return
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
    print_unexpanded(references)


@command.command()
@_dataset
@click.option("--stores", is_flag=True, help="Also remove the image stores built from them.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def remove(dataset: str, stores: bool, yes: bool) -> None:
    """Remove the local copy of DATASET: links or copies, but never the files behind links.

    \b
    Examples:
      htbench data remove office-home@1.0
      htbench data remove domainnet@1.0 --stores --yes
    """
    from benchmark.images.status import local_folders, manifest_of_files, remove_folders

    manifest = manifest_of_files(dataset)
    folders = local_folders(manifest, stores=stores)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("confirm with --yes: standard input is not a terminal")
        for folder in folders:
            log(f"  {folder}")
        click.confirm("Remove these folders?", abort=True, err=True)
    for folder in remove_folders(manifest, folders):
        click.echo(f"removed {folder}")
