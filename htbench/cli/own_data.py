"""`htbench manifest new` and `add`: manifests of a user's own data set."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.commands import command as recommended
from benchmark.text import plural
from htbench.cli.options import LocalPath, json_option
from htbench.cli.output import message_line, print_json, print_table
from htbench.progress import log, step_bars

if TYPE_CHECKING:
    from benchmark.own_data.build import NewManifest
    from benchmark.own_data.write import Written

MAX_TASKS = 12  # in the table that `new` prints; the README has all


def _parsed_share(
    _context: object, _option: object, value: str | None, *, or_count: bool = False
) -> int | Fraction | None:
    """A share between 0 and 1, exactly as it is written; or a whole number, where that is allowed.

    Raises:
        click.BadParameter: the text is neither.
    """
    if value is None:
        return None
    head, _, digits = value.partition(".")
    with contextlib.suppress(ValueError):  # more digits than Python converts
        if or_count and value.isascii() and value.isdecimal() and int(value) > 0:
            return int(value)
        if head in ("", "0") and digits.isascii() and digits.isdecimal() and int(digits) > 0:
            return Fraction(f"0.{digits}")
    count = ", or a number of classes such as 4" if or_count else ""
    raise click.BadParameter(f"{value!r} is not a share such as 0.5{count}")


@click.command("new")
@click.argument("name")
@click.option(
    "--from",
    "origin",
    required=True,
    metavar="FOLDER|CSV",
    type=LocalPath(),
    help="Folder of <domain>/<class>/<image>, or a CSV file with the columns path, domain, class "
    "and optionally split and group.",
)
@click.option(
    "--seen",
    callback=partial(_parsed_share, or_count=True),
    default="0.5",
    show_default=True,
    metavar="SHARE|N",
    help="Seen classes of a task: a share of its classes, or a number.",
)
@click.option(
    "--draws",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    metavar="N",
    help="Draws of the seen classes for each pair of domains.",
)
@click.option(
    "--train",
    callback=_parsed_share,
    metavar="SHARE",
    help="Share of training images in each class and domain.  [default: 0.7, or as the folders "
    "or the CSV file say]",
)
@click.option(
    "--group-by",
    metavar="REGEX",
    help="Keep images together in train or test: what the first parentheses of this regular "
    "expression match in an image's path is the name of its group.",
)
@click.option(
    "--model",
    "network",
    metavar="NETWORK",
    help="The manifest's network: NAME or NAME@WEIGHTS (torchvision), timm/NAME or timm/NAME.TAG, "
    "or convnet, a small one that needs no download.  [default: mobilenet_v2 with ImageNet "
    "weights]",
)
@click.option(
    "--out",
    metavar="DIR",
    type=LocalPath(),
    help="Folder to create.  [default: NAME]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@json_option
def new(
    name: str,
    origin: Path,
    seen: int | Fraction,
    draws: int,
    train: Fraction | None,
    group_by: str | None,
    network: str | None,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write a manifest of your own images, with tasks for every ordered pair of domains.

    NAME may have a version: NAME@1.0; without one it is 0.1. Reads every image once. Writes
    manifest.toml, images.parquet, suites and a README that has the rules and says what to edit
    before you publish. The images stay where they are: the data folder gets links to them.

    \b
    Examples:
      htbench manifest new animals --from photos
      htbench manifest new animals --from photos --seen 4 --model convnet --dry-run
      htbench manifest new cameras --from images.csv --group-by '(seq[0-9]+)'
    """
    from benchmark.own_data.build import Choices, build_manifest, parse_reference
    from benchmark.own_data.network import check_network
    from benchmark.own_data.recipe import DEFAULT_MODEL
    from benchmark.own_data.write import check_place, write_manifest

    base, version = parse_reference(name)
    choices = Choices(base, version, origin, seen, draws, train, group_by, network or DEFAULT_MODEL)
    folder = out or Path(base)
    check_place(choices, folder)
    if network is not None:
        log(message_line(f"trying the network {network}"))
        check_network(network)
    with step_bars() as progress_of:
        manifest = build_manifest(choices, progress_of("reading images"))
    if dry_run:
        written = None
    else:
        line = shlex.join(["htbench", *sys.argv[1:]])
        written = write_manifest(manifest, folder, line)
    if as_json:
        print_json(_as_dict(manifest, written))
        return
    _print_new(manifest)
    if written is None:
        click.echo("\nnothing was written (--dry-run)")
    else:
        _print_next(written, folder)


def _as_dict(new: NewManifest, written: Written | None) -> dict[str, Any]:
    from benchmark.summaries import manifest_summary

    summary = manifest_summary(new.manifest)
    del summary["source_models"]
    return {
        **summary,
        "folder": str(written.manifest.root) if written else None,
        "suites": [str(path) for path in written.suites] if written else [],
        "images_folder": str(written.images) if written else None,
        "images": len(new.entries),
        "left_out": {str(kind): names for kind, names in new.left_out.names.items()},
        "notes": list(new.notes),
    }


def _print_new(new: NewManifest) -> None:
    from benchmark.summaries import manifest_summary

    summary = manifest_summary(new.manifest)
    click.echo(message_line(f"{summary['manifest']}  {summary['title']}"))
    classes = ", ".join(summary["classes"])
    click.echo(message_line(f"classes  {len(summary['classes'])}: {classes}\n").rstrip(" "))
    print_counts(summary, MAX_TASKS)
    for note in new.notes:
        log(message_line(f"note: {note}"))
    for line in new.left_out.lines():
        log(message_line(f"left out: {line}"))


def print_counts(summary: Mapping[str, Any], most: int | None = None) -> None:
    """Print how many images the domains and tasks of a manifest have.

    Args:
        summary: what ``manifest_summary`` returned.
        most: the number of tasks to print; None for all.
    """
    from benchmark.summaries import task_counts

    print_table([list(d.values()) for d in summary["domains"]], ["domain", "train", "test"])
    click.echo()
    tasks = task_counts(summary)
    headers = [column.replace("_", " ") for column in tasks[0]]
    print_table([list(task.values()) for task in tasks[:most]], headers)
    if most is not None and len(tasks) > most:
        click.echo(f"and {plural(len(tasks) - most, 'more task')}")


def _print_next(written: Written, folder: Path) -> None:
    manifest, suite = written.manifest, written.suites[0]
    small = ("--task", manifest.tasks[0].id, "--method", "source", "--method", "finetune")
    click.echo(f"\ndigest  {manifest.digest}")
    click.echo(message_line(f"wrote   {folder}; next:"))
    for words in (
        ("manifest", "verify", folder),
        ("run", "--suite", suite, "--dry-run"),
        ("run", "--suite", suite, *small, "--seed", 0),
        ("manifest", "add", folder),
    ):
        click.echo(message_line(f"  {recommended(*words)}"))


@click.command("add")
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=LocalPath())
@json_option
def add(folders: tuple[Path, ...], as_json: bool) -> None:
    """Add manifests to the data folder, so that every command finds them by name@version.

    FOLDER is a manifest's folder, or a folder of several. The files are copied, with the suites
    that lie beside them, which are then known by name; run the command again after you change or
    add a suite. If one cannot be added, none is. Names of published data sets are reserved.

    \b
    Examples:
      htbench manifest add animals
      htbench manifest add ./my_manifests --json
    """
    from benchmark.own_data.add import add_manifests, find_folders

    added = add_manifests([folder for place in folders for folder in find_folders(place)])
    entries: list[dict[str, Any]] = [
        {
            "manifest": one.manifest.reference,
            "digest": one.manifest.digest,
            "folder": str(one.manifest.root),
            "suites": list(one.suites),
            "new": one.is_new,
        }
        for one in added
    ]
    if as_json:
        print_json(entries)
        return
    for entry in entries:
        what = "added" if entry["new"] else "was already there:"
        click.echo(message_line(f"{what} {entry['manifest']} in {entry['folder']}; next:"))
        click.echo(message_line(f"  {recommended('manifest', 'show', entry['manifest'])}"))
        for name in entry["suites"]:
            click.echo(message_line(f"  {recommended('run', '--suite', name, '--dry-run')}"))
