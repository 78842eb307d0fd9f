"""`htbench manifest`: look at a manifest, check it, and name it by its digest."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from htbench.cli.main import plain, print_json, print_table


@click.group("manifest")
def command() -> None:
    """Show, verify, compare, describe or expand a manifest.

    MANIFEST is a reference such as icons@1.0, or a folder with manifest.toml and images.parquet.

    \b
    Examples:
      htbench manifest show icons@1.0
      htbench manifest verify ./my_manifests/shapes/0.1
      htbench manifest expand iwildcam@1.0 --metadata metadata.csv
    """


@command.command()
@click.argument("manifest")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(manifest: str, as_json: bool) -> None:
    """Show what a manifest holds: domains, tasks and counts.

    \b
    Examples:
      htbench manifest show icons@1.0
      htbench manifest show icons@1.0 --json
    """
    import numpy as np

    from benchmark.manifest import load_manifest

    found = load_manifest(manifest)
    domains = [
        {"domain": d.name, **{s: len(found.samples(d.name, s).ids) for s in ("train", "test")}}
        for d in found.domains
    ]
    tasks = []
    for task in found.tasks:
        mask, missing = found.seen_mask(task), found.missing_mask(task)
        counts = {}
        for split in ("train", "test"):
            labels = found.samples(task.target, split).labels
            counts[f"{split}_seen"] = int(mask[labels].sum())
            counts[f"{split}_missing"] = int(missing[labels].sum())
        counts["test_excluded"] = int((~mask & ~missing)[labels].sum())
        tasks.append({"task": task.id, "seen_classes": int(mask.sum()), **counts})
    document = found.document
    if as_json:
        print_json(
            {
                "manifest": found.reference,
                "digest": found.digest,
                "title": document["title"],
                "terms": document["terms"],
                "classes": list(found.classes),
                "domains": domains,
                "tasks": [
                    {
                        **entry,
                        "sources": list(t.sources),
                        "target": t.target,
                        "seen": list(t.seen),
                        "missing": [found.classes[i] for i in found.missing_mask(t).nonzero()[0]],
                    }
                    for entry, t in zip(tasks, found.tasks, strict=True)
                ],
                **{key: document[key] for key in ("model", "transforms", "source", "recipe")},
            }
        )
        return
    click.echo(f"{found.reference}  {document['title']}")
    click.echo(f"digest  {found.digest}")
    click.echo(f"images  {found.table.num_rows} of {len(found.classes)} classes, "
               f"{found.image_size} pixels")  # fmt: skip
    groups = found.table["group"] if "group" in found.table.column_names else None
    if groups is not None:
        click.echo(f"groups  {len(np.unique(groups.to_pylist()))}")
    click.echo(f"terms   {' '.join(document['terms'].split())}\n")
    print_table([list(d.values()) for d in domains], ["domain", "train", "test"])
    click.echo()
    headers = ["task", "seen classes", "train seen", "train missing", "test seen", "test missing"]
    if any(t["test_excluded"] for t in tasks):
        headers.append("test excluded")  # in neither group
    print_table([list(t.values())[: len(headers)] for t in tasks], headers)


@command.command()
@click.argument("manifest")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(manifest: str, as_json: bool) -> None:
    """Check every rule of a manifest, its packaged images, and its pinned digest.

    \b
    Examples:
      htbench manifest verify icons@1.0
      htbench manifest verify ./my_manifests/shapes/0.1 --json
    """
    from benchmark.errors import ManifestError
    from benchmark.folders import packaged_manifests
    from benchmark.images.store import check_images
    from benchmark.manifest import load_manifest, pinned_digests

    found = load_manifest(manifest)
    packaged = found.document["images"] == "embedded"
    images = check_images(found) if packaged else 0
    pin = pinned_digests().get(found.reference)
    shipped = found.root.is_relative_to(packaged_manifests())
    if shipped and pin != found.digest:
        raise ManifestError(
            f"{found.reference} has digest {found.digest}, but data_manifests/digests.toml pins "
            f"{pin or 'none'}: a published version never changes; publish a new one"
        )
    if as_json:
        print_json({"manifest": found.reference, "digest": found.digest, "images": images,
                    "pinned": pin == found.digest})  # fmt: skip
        return
    decoded = f"{images} images decoded" if packaged else "its images are not packaged"
    click.echo(f"{found.reference}: {found.table.num_rows} rows, {len(found.tasks)} tasks, "
               f"{decoded}; every rule holds")  # fmt: skip
    click.echo(f"digest {found.digest} ({'pinned' if pin == found.digest else 'not pinned'})")


@command.command()
@click.argument("manifest")
def digest(manifest: str) -> None:
    """Print the SHA-256 of a manifest's canonical form.

    \b
    Examples:
      htbench manifest digest icons@1.0
      htbench manifest digest ./my_manifests/shapes/0.1
    """
    from benchmark.manifest import load_manifest

    click.echo(load_manifest(manifest).digest)


@command.command()
@click.argument("recipe")
@click.option("--metadata", required=True, metavar="FILE", type=click.Path(path_type=Path),
              help="The metadata.csv of your copy of the data set.")  # fmt: skip
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path),
              help="Write into this folder.  [default: the data folder]")  # fmt: skip
@click.option("--allow-unknown-metadata", is_flag=True,
              help="Accept a file that is not the published one.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def expand(
    recipe: str, metadata: Path, out: Path | None, allow_unknown_metadata: bool, as_json: bool
) -> None:
    """Make a manifest from a recipe and the metadata file of your copy of its data set.

    It also writes a suite with all tasks beside the manifest.

    \b
    Examples:
      htbench manifest expand iwildcam@1.0 --metadata iwildcam_v2.0/metadata.csv
      htbench manifest expand iwildcam@1.0 --metadata my.csv --allow-unknown-metadata --json
    """
    import dataclasses

    from benchmark import expand as module

    found = module.load_recipe(recipe)
    rows = module.read_metadata(metadata, found, allow_unknown=allow_unknown_metadata)
    expansion = module.expand(found, rows)
    manifest = module.write_expansion(expansion, out)
    suite = manifest.root / f"{manifest.name}.toml"
    if as_json:
        print_json(
            {
                "manifest": manifest.reference,
                "digest": manifest.digest,
                "folder": str(manifest.root),
                "suite": str(suite),
                "recipe": found.reference,
                "recipe_digest": found.digest,
                "metadata_is_published": rows.published,
                "images": manifest.table.num_rows,
                "tasks": [task.id for task in manifest.tasks],
                "locations": [dataclasses.asdict(at) for at in expansion.locations],
            }
        )
        return
    table: list[list[object]] = [
        [at.location, at.days, at.adaptation, at.test, at.test_seen, at.test_missing, at.excluded,
         len(at.seen), len(at.missing), ", ".join(at.left_out) or "task"]
        for at in expansion.locations
    ]  # fmt: skip
    headers = ["location", "days", "adaptation", "test", "test seen", "test missing",
               "excluded", "seen classes", "missing classes", ""]  # fmt: skip
    print_table(table, headers)
    click.echo(f"\n{manifest.reference}: {manifest.table.num_rows} images, "
               f"{len(manifest.tasks)} tasks of {len(table)} locations")  # fmt: skip
    click.echo(f"digest  {manifest.digest}")
    click.echo(f"folder  {manifest.root}")
    if not rows.published:
        click.echo(f"note    this is not the published metadata file: the version is "
                   f"{manifest.version}, and its rows stand apart")  # fmt: skip
    click.echo(f"run it  htbench run --suite {shlex.quote(str(suite))}")


@command.command()
@click.argument("manifest")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Write it here instead of printing it.")  # fmt: skip
def croissant(manifest: str, out: Path | None) -> None:
    """Describe a manifest as Croissant metadata (JSON-LD), for search engines and loaders.

    Paths in it are relative to the manifest's folder, where croissant.json belongs.

    \b
    Examples:
      htbench manifest croissant icons@1.0
      htbench manifest croissant ./my_manifests/shapes/0.1 --out croissant.json
    """
    from benchmark.croissant import croissant_text
    from benchmark.errors import DataError
    from benchmark.files import write_file
    from benchmark.manifest import load_manifest

    text = croissant_text(load_manifest(manifest))
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        write_file(out, text.encode())
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}") from None


@command.command("diff")
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(a: str, b: str, as_json: bool) -> None:
    """Say what changed from manifest A to manifest B.

    Exit status: 0 if their digests are equal, 1 if they differ, 2 for an error.

    \b
    Examples:
      htbench manifest diff icons@1.0 ./my_manifests/icons/1.1
      htbench manifest diff icons@1.0 ./my_manifests/icons/1.1 --json
    """
    from benchmark.diff import diff as compare
    from benchmark.manifest import load_manifest

    found = compare(load_manifest(a), load_manifest(b))
    if as_json:
        print_json(found)
    else:
        for line in _diff_lines(found):
            click.echo(plain(line))
    click.get_current_context().exit(0 if found["equal"] else 1)


def _diff_lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{name}  {found[name]['manifest']}  {found[name]['digest'][:12]}" for name in "ab"]
    if found["equal"]:
        return [*lines, "equal"]
    lines += [
        f"{entry['key']}: {_short(entry['a'])} -> {_short(entry['b'])}"
        for entry in found["document"]
    ]
    lines += _name_lines("classes", found["classes"])
    for what, change in found["images"].items():
        if what.startswith("columns_"):
            lines += [f"images: column {name} {what.removeprefix('columns_')}" for name in change]
        elif change["count"]:
            examples = ", ".join(
                entry if isinstance(entry, str)
                else f"{entry['image_id']} ({_short(entry['a'])} -> {_short(entry['b'])})"
                for entry in change["first"]
            )  # fmt: skip
            more = ", ..." if change["count"] > len(change["first"]) else ""
            lines.append(f"images {what.replace('_', ' ')}: {change['count']}: {examples}{more}")
    lines += _name_lines("tasks", found["tasks"])
    for task in found["tasks"]["changed"]:
        for group in ("seen", "missing"):
            if f"{group}_added" in task:
                names = {k: task[f"{group}_{k}"] for k in ("added", "removed", "reordered")}
                lines += _name_lines(f"task {task['task']}, {group} classes", names)
        lines += [
            f"task {task['task']}, {e['key']}: {_short(e['a'])} -> {_short(e['b'])}"
            for e in task["fields"]
        ]
    return lines


def _name_lines(what: str, change: dict[str, Any]) -> list[str]:
    lines = [
        f"{what} {key}: {len(change[key])}: {', '.join(change[key])}"
        for key in ("added", "removed")
        if change[key]
    ]
    return lines + ([f"{what} reordered"] if change["reordered"] else [])


def _short(value: Any) -> str:
    """A value on one line."""
    import json

    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
