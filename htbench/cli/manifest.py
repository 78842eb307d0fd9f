"""`htbench manifest`: show, check, compare and describe manifests."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.commands import command as recommended
from benchmark.text import plural
from htbench.cli.options import LocalPath, json_option, out_file_option
from htbench.cli.output import print_json, print_or_write, print_table, printable
from htbench.cli.own_data import add, new, print_counts

if TYPE_CHECKING:
    from benchmark.manifest.expand import Location

MAX_VALUE = 60  # characters of a value in a comparison


@click.group("manifest")
def command() -> None:
    """Show, verify, compare, export or expand a manifest, or write one of your own images.

    MANIFEST is a reference such as icons@2.0, or a folder with manifest.toml and images.parquet.

    \b
    Examples:
      htbench manifest show icons@2.0
      htbench manifest verify ./my_manifests/shapes/0.1
      htbench manifest new animals --from photos
    """


command.add_command(new)
command.add_command(add)


@command.command()
@click.argument("manifest")
@json_option
def show(manifest: str, as_json: bool) -> None:
    """Show a manifest's domains, tasks, image counts and pinned source models.

    \b
    Examples:
      htbench manifest show icons@2.0
      htbench manifest show icons@2.0 --json
    """
    from benchmark.manifest.catalogue import load_manifest
    from benchmark.summaries import group_count, manifest_summary

    loaded = load_manifest(manifest)
    summary = manifest_summary(loaded)
    if as_json:
        print_json(summary)
        return
    click.echo(f"{summary['manifest']}  {summary['title']}")
    click.echo(f"digest  {loaded.digest}")
    click.echo(
        f"images  {loaded.table.num_rows} in {plural(len(loaded.classes), 'class')}, "
        f"{loaded.image_size} x {loaded.image_size} pixels"
    )
    if (groups := group_count(loaded)) is not None:
        click.echo(f"groups  {groups}")
    click.echo(f"terms   {' '.join(summary['terms'].split())}\n")
    print_counts(summary)
    if pins := summary["source_models"]:
        click.echo()
        rows = [
            [
                "+".join(pin["sources"]),
                pin["seed"],
                f"{pin['test_accuracy']:.1f}",
                pin["sha256"][:12],
                pin["file"] or pin["urls"][0],
            ]
            for pin in pins
        ]
        print_table(rows, ["pinned source model", "seed", "accuracy %", "sha256", "from"])


@command.command()
@click.argument("manifest")
@json_option
def verify(manifest: str, as_json: bool) -> None:
    """Check that a manifest is valid, and say whether its digest is the pinned one.

    Also checks that its packaged images decode. Exits with status 2 if a check fails.

    \b
    Examples:
      htbench manifest verify icons@2.0
      htbench manifest verify ./my_manifests/shapes/0.1 --json
    """
    from benchmark.manifest.catalogue import load_manifest
    from benchmark.summaries import verify_manifest

    loaded = load_manifest(manifest)
    report = verify_manifest(loaded)
    if as_json:
        print_json(report)
        return
    images = (
        f"{plural(report['images'], 'image')} decoded" if report["images"] else "no packaged images"
    )
    click.echo(
        f"{report['manifest']}: {plural(loaded.table.num_rows, 'row')}, "
        f"{plural(len(loaded.tasks), 'task')}, {images}; all checks passed"
    )
    pinned = "pinned"
    if not report["pinned"]:
        changed = report["manifest"] != loaded.reference
        pinned = (
            "not the pinned one" if changed else "unpublished: no pinned digest to compare with"
        )
    click.echo(f"digest {loaded.digest} ({pinned})")


@command.command()
@click.argument("manifest")
def digest(manifest: str) -> None:
    """Print the SHA-256 of a manifest's canonical form.

    \b
    Examples:
      htbench manifest digest icons@2.0
      htbench manifest digest ./my_manifests/shapes/0.1
    """
    from benchmark.manifest.catalogue import load_manifest

    click.echo(load_manifest(manifest).digest)


@command.command()
@click.argument("recipe")
@click.option(
    "--metadata",
    required=True,
    metavar="FILE",
    type=LocalPath(),
    help="The metadata.csv of your copy of the data set.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=LocalPath(),
    help="Folder to write the manifest to.  [default: a folder inside the data folder]",
)
@click.option(
    "--allow-unknown-metadata",
    is_flag=True,
    help="Accept a metadata.csv that differs from the published one; the result becomes a separate "
    "version.",
)
@json_option
def expand(
    recipe: str, metadata: Path, out: Path | None, allow_unknown_metadata: bool, as_json: bool
) -> None:
    """Build a manifest from a recipe and the metadata file of your copy of the data set.

    Also writes a suite with all of the manifest's tasks, in the same folder.

    \b
    Examples:
      htbench manifest expand iwildcam@1.1 --metadata iwildcam_v2.0/metadata.csv
      htbench manifest expand iwildcam@1.1 --metadata my.csv --allow-unknown-metadata --json
    """
    from benchmark.manifest.expand import expand_recipe, write_expansion
    from benchmark.manifest.metadata import read_metadata
    from benchmark.manifest.recipe import load_recipe

    loaded = load_recipe(recipe)
    rows = read_metadata(metadata, loaded, allow_unknown=allow_unknown_metadata)
    expansion = expand_recipe(loaded, rows)
    manifest = write_expansion(expansion, out)
    suite = manifest.root / f"{manifest.name}.toml"
    if as_json:
        print_json(
            {
                "manifest": manifest.reference,
                "digest": manifest.digest,
                "folder": str(manifest.root),
                "suite": str(suite),
                "recipe": loaded.reference,
                "recipe_digest": loaded.digest,
                "metadata_is_published": rows.published,
                "images": manifest.table.num_rows,
                "tasks": [task.id for task in manifest.tasks],
                "locations": [dataclasses.asdict(at) for at in expansion.locations],
            }
        )
        return
    _print_locations(expansion.locations)
    click.echo(
        f"\n{manifest.reference}: {plural(manifest.table.num_rows, 'image')}, "
        f"{plural(len(manifest.tasks), 'task')} from {plural(len(expansion.locations), 'location')}"
    )
    click.echo(f"digest  {manifest.digest}")
    click.echo(f"folder  {manifest.root}")
    if not rows.published:
        click.echo(
            "note    this metadata file is not the published one, so the manifest has "
            f"its own version, {manifest.version}, and its results appear in a "
            "separate table"
        )
    click.echo(f"next    {recommended('run', '--suite', suite)}")


def _print_locations(locations: Sequence[Location]) -> None:
    numbers = ("days", "adaptation", "test", "test_seen", "test_missing", "excluded")
    rows = [
        [
            at.location,
            *(getattr(at, name) for name in numbers),
            len(at.seen),
            len(at.missing),
            ", ".join(at.left_out) or "task",
        ]
        for at in locations
    ]
    headers = [name.replace("_", " ") for name in ("location", *numbers)]
    print_table(rows, [*headers, "seen classes", "missing classes", ""])


@command.command()
@click.argument("manifest")
@out_file_option("Write to a file instead of printing.")
def croissant(manifest: str, out: Path | None) -> None:
    """Print Croissant metadata (JSON-LD) for a manifest, for data set search engines and loaders.

    Paths in it are relative to the manifest's folder, so save croissant.json there.

    \b
    Examples:
      htbench manifest croissant icons@2.0
      htbench manifest croissant ./my_manifests/shapes/0.1 --out croissant.json
    """
    from benchmark.manifest.catalogue import load_manifest
    from benchmark.manifest.croissant import croissant_text

    print_or_write(croissant_text(load_manifest(manifest)), out)


@command.command("diff")
@click.argument("a")
@click.argument("b")
@json_option
def diff(a: str, b: str, as_json: bool) -> None:
    """Show the differences between manifests A and B.

    Exits with status 0 if the digests are equal, 1 if they differ, and 2 on an error.

    \b
    Examples:
      htbench manifest diff icons@2.0 ./my_manifests/icons/2.1
      htbench manifest diff icons@2.0 ./my_manifests/icons/2.1 --json
    """
    from benchmark.manifest.catalogue import load_manifest
    from benchmark.manifest.diff import compare

    difference = compare(load_manifest(a), load_manifest(b))
    if as_json:
        print_json(difference)
    else:
        for line in _diff_lines(difference):
            click.echo(printable(line))
    click.get_current_context().exit(0 if difference["equal"] else 1)


def _diff_lines(difference: dict[str, Any]) -> list[str]:
    lines = [
        f"{side}  {difference[side]['manifest']}  {difference[side]['digest'][:12]}"
        for side in "ab"
    ]
    if difference["equal"]:
        return [*lines, "equal"]
    lines += [
        f"{entry['key']}: {_short(entry['a'])} -> {_short(entry['b'])}"
        for entry in difference["document"]
    ]
    lines += _name_lines("classes", difference["classes"])
    lines += _image_lines(difference["images"])
    lines += _name_lines("tasks", difference["tasks"])
    for task in difference["tasks"]["changed"]:
        lines += _task_lines(task)
    return lines


def _image_lines(images: dict[str, Any]) -> list[str]:
    lines = []
    for kind, change in images.items():
        if kind.startswith("columns_"):
            lines += [f"images: column {name} {kind.removeprefix('columns_')}" for name in change]
        elif change["count"]:
            examples = ", ".join(map(_image_example, change["first"]))
            more = ", ..." if change["count"] > len(change["first"]) else ""
            lines.append(f"images {kind.replace('_', ' ')}: {change['count']}: {examples}{more}")
    return lines


def _image_example(entry: str | Mapping[str, Any]) -> str:
    if isinstance(entry, str):
        return entry
    return f"{entry['image_id']} ({_short(entry['a'])} -> {_short(entry['b'])})"


def _task_lines(task: dict[str, Any]) -> list[str]:
    lines = []
    for group in ("seen", "missing"):
        if f"{group}_added" in task:
            names = {k: task[f"{group}_{k}"] for k in ("added", "removed", "reordered")}
            lines += _name_lines(f"task {task['task']}, {group} classes", names)
    return lines + [
        f"task {task['task']}, {e['key']}: {_short(e['a'])} -> {_short(e['b'])}"
        for e in task["fields"]
    ]


def _name_lines(title: str, change: dict[str, Any]) -> list[str]:
    lines = [
        f"{title} {key}: {len(change[key])}: {', '.join(change[key])}"
        for key in ("added", "removed")
        if change[key]
    ]
    return lines + ([f"{title} reordered"] if change["reordered"] else [])


def _short(value: object) -> str:
    """A value on one line."""
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"
