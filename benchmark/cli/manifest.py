"""`htbench manifest`: look at a manifest, check it, and name it by its digest."""

from __future__ import annotations

import click

from benchmark.cli.main import print_json, print_table


@click.group("manifest")
def command() -> None:
    """Show, verify or digest a manifest.

    MANIFEST is a reference such as icons@1.0, or a folder with manifest.toml and images.parquet.

    \b
    Examples:
      htbench manifest show icons@1.0
      htbench manifest verify ./my_manifests/shapes/0.1
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
        mask = found.seen_mask(task)
        counts = {}
        for split in ("train", "test"):
            labels = found.samples(task.target, split).labels
            counts[f"{split}_seen"] = int(mask[labels].sum())
            counts[f"{split}_missing"] = int((~mask)[labels].sum())
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
                    {**entry, "sources": list(t.sources), "target": t.target, "seen": list(t.seen)}
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
    print_table([list(t.values()) for t in tasks], headers)


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
    images = check_images(found)
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
    click.echo(f"{found.reference}: {images} images, {len(found.tasks)} tasks, every rule holds")
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
