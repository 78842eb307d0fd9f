"""`htbench data`: the images of data sets that do not ship with the suite."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htbench.cli.main import plain, print_json, print_table

if TYPE_CHECKING:
    from benchmark.images.verify import Verification
    from benchmark.manifest import Manifest

SHOWN = 5  # offenders of a kind


@click.group("data")
def command() -> None:
    """Get the images of a data set, check them, and see what is here.

    \b
    Examples:
      htbench data import office-home@1.0 ~/OfficeHomeDataset_10072016.zip
      htbench data verify office-home@1.0
    """


_dataset = click.argument("dataset")


@command.command()
@_dataset
@click.option("--accept-terms", is_flag=True, help="You have read the terms and accept them.")
def download(dataset: str, accept_terms: bool) -> None:
    """Download the images of DATASET from its mirrors, one after the other.

    What is here already is not fetched again; the same command goes on where it was stopped.

    \b
    Examples:
      htbench data download domainnet@1.0
      htbench data download office-home@1.0 --accept-terms
    """
    from benchmark.errors import UsageError
    from benchmark.folders import data_folder
    from benchmark.images.mirrors import fetch
    from htbench.cli.session import tell

    manifest = _of_files(dataset)
    if not manifest.document.get("mirrors"):
        raise UsageError(f"{manifest.reference} names no mirror; htbench data import takes files")
    if not accept_terms:
        tell(f"{manifest.document['title']}\n\nTerms: {manifest.document['terms'].strip()}\n")
        tell(f"Please cite:\n{manifest.document['citation'].strip()}\n")
        if not sys.stdin.isatty():
            raise UsageError("these terms come with the images; accept them with --accept-terms")
        click.confirm("Do you accept these terms?", abort=True, err=True)
    with _Bar() as bar:
        fetch(manifest, data_folder() / "downloads", tell, bar.of)
    _say_complete(manifest)


@command.command("import")
@_dataset
@click.argument("paths", nargs=-1, required=True,
                type=click.Path(exists=True, path_type=Path))  # fmt: skip
@click.option("--copy", is_flag=True, help="Copy files of a folder; default is to link to them.")
@click.pass_context
def import_(context: click.Context, dataset: str, paths: tuple[Path, ...], copy: bool) -> None:
    """Take the images of DATASET from folders or archives (zip, tar) that you have.

    They may be laid out as any known copy is, at any depth. Only images of the manifest are taken.
    Exit status 1 if some are still lacking.

    \b
    Examples:
      htbench data import office-home@1.0 ~/OfficeHomeDataset_10072016
      htbench data import domainnet@1.0 clipart.zip infograph.zip painting.zip real.zip sketch.zip
    """
    from benchmark.images.copies import import_images, lacking

    manifest = _of_files(dataset)
    for path in paths:
        with _Bar() as bar:
            taken = import_images(manifest, path, copy=copy, progress=bar.of(f"taking {path.name}"))
        click.echo(plain(f"{path}: {taken} images taken"))
    if left := lacking(manifest):
        click.echo(plain(_lacking(manifest, left)), err=True)
        context.exit(1)
    _say_complete(manifest)


def _say_complete(manifest: Manifest) -> None:
    click.echo(
        f"all {manifest.table.num_rows} images of {manifest.reference} are here; next: "
        f"htbench data verify {manifest.reference}"
    )


def _lacking(manifest: Manifest, left: set[str]) -> str:
    from collections import Counter

    columns = (manifest.table[name].to_pylist() for name in ("domain", "path"))
    rows = list(zip(*columns, strict=True))
    total = Counter(domain for domain, _ in rows)
    lost = Counter(domain for domain, path in rows if path in left)
    each = ", ".join(f"{domain} {count} of {total[domain]}" for domain, count in lost.items())
    return (
        f"{len(left)} of {len(rows)} images of {manifest.reference} are lacking ({each}); the "
        f"first is {min(left)}"
    )


@command.command()
@_dataset
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify(context: click.Context, dataset: str, as_json: bool) -> None:
    """Prove that the local copy of DATASET is the manifest's: all there, decodable, unchanged.

    The first whole verification records a digest of every image's pixels; later ones compare.
    Exit status 1 if there is a difference.

    \b
    Examples:
      htbench data verify office-home@1.0
      htbench data verify domainnet@1.0 --json
    """
    from benchmark.images.verify import verify as check

    manifest = _manifest(dataset)
    if manifest.document["images"] == "embedded":
        from benchmark.images.store import check_images

        count = check_images(manifest)
        if as_json:
            print_json({"ok": True, "reference": manifest.reference, "images": count})
        else:
            click.echo(f"{manifest.reference}: all {count} images ship with it and are whole")
        return
    with _Bar() as bar:
        found = check(manifest, bar.of("decoding"))
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found)
    if not found.ok:
        context.exit(1)


def _print(found: Verification) -> None:
    rows: list[list[object]] = [list(row) for row in found.counts]
    print_table(rows, ["domain", "split", "expected", "good"])
    click.echo()
    kinds: dict[str, list[str]] = {
        "missing": found.missing,
        "cannot be decoded": [f"{path}: {why}" for path, why in found.damaged.items()],
        "not the bytes of the manifest": found.other_bytes,
        f"other pixels than on {found.since}": found.changed,
        "not of the manifest": found.unexpected,
    }
    for kind, paths in kinds.items():
        if paths:
            _print_some(f"{len(paths)} {kind}", paths)
    if found.classes:
        lines = [f"{name}: {good} of {all_}" for name, (good, all_) in found.classes.items()]
        _print_some(f"{len(lines)} classes are not whole", lines)
    if found.truncated:
        _print_some(
            f"{len(found.truncated)} files end too early; the rest of such an image is filled in "
            "the same way for everybody",
            found.truncated,
        )
    if found.ok:
        since = f", unchanged since {found.since}" if found.since else ""
        click.echo(f"{found.reference}: all {found.images} images are here and decodable{since}")
        return
    click.echo(plain(
        f"{found.reference} in {found.folder} is not the manifest's. htbench data download or "
        "import brings what is missing; delete what is damaged, changed or unexpected first"
    ))  # fmt: skip


def _print_some(title: str, lines: list[str]) -> None:
    click.echo(f"{title}:")
    for line in lines[:SHOWN]:
        click.echo(plain(f"  {line}"))
    if len(lines) > SHOWN:
        click.echo(f"  and {len(lines) - SHOWN} more (--json lists all)")


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show which data sets are here: where, how much of them, and whether their store is built.

    \b
    Examples:
      htbench data status
      htbench data status --json
    """
    from benchmark.manifest import load_manifest, published_manifests, published_recipes

    references = published_manifests()
    entries = [_entry(load_manifest(reference)) for reference in references]
    if as_json:
        print_json(entries)
        return
    rows: list[list[object]] = []
    for e in entries:
        here = f"{e['here']} of {e['images']}"
        state = "complete" if e["here"] == e["images"] else "partial" if e["here"] else "absent"
        built, domains = e["stores"]
        size = f"{e['bytes'] / 1e6:.1f}" if e["bytes"] else "-"
        rows.append([e["dataset"], state, here, e["verified"] or "-", size,
                     f"{built} of {domains}", e["where"]])  # fmt: skip
    print_table(rows, ["data set", "state", "images", "verified", "MB", "stores", "where"])
    for recipe in published_recipes():
        if recipe not in references:
            click.echo(f"\n{recipe} is a recipe: htbench manifest expand {recipe} --metadata FILE")


def _entry(manifest: Manifest) -> dict[str, Any]:
    from benchmark.images.local import images_folder
    from benchmark.images.store import store_state
    from benchmark.images.verify import verified_on

    embedded = manifest.document["images"] == "embedded"
    root = images_folder(manifest)
    sizes: list[int] = []
    if not embedded and root.is_dir():
        for path in manifest.table["path"].to_pylist():
            file = root / path
            if file.is_file():
                sizes.append(file.stat().st_size)  # of a link: what it leads to
    packed = manifest.root / "images.parquet"
    return {
        "dataset": manifest.reference,
        "images": manifest.table.num_rows,
        "here": manifest.table.num_rows if embedded else len(sizes),
        "verified": "ships with it" if embedded else verified_on(manifest),
        "bytes": packed.stat().st_size if embedded else sum(sizes),
        "stores": store_state(manifest),
        "where": str(packed if embedded else root),
    }


@command.command()
@_dataset
@click.option("--stores", is_flag=True, help="Remove the image stores that were built, as well.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(dataset: str, stores: bool, yes: bool) -> None:
    """Remove the local copy of DATASET: links or copies, never the files that links lead to.

    \b
    Examples:
      htbench data remove office-home@1.0
      htbench data remove domainnet@1.0 --stores --yes
    """
    import shutil

    from benchmark.errors import UsageError
    from benchmark.images.local import images_folder
    from benchmark.images.store import store_folder
    from benchmark.images.verify import lock_file

    manifest = _of_files(dataset)
    folders = [images_folder(manifest)]
    if stores:
        folders += [store_folder(manifest, domain.name) for domain in manifest.domains]
    there = [folder for folder in folders if folder.is_dir()]
    if not there:
        raise UsageError(f"nothing of {manifest.reference} is here; htbench data status shows what")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("--yes is needed where nobody can be asked")
        for folder in there:
            click.echo(f"  {folder}", err=True)
        click.confirm("Remove these folders?", abort=True, err=True)
    lock_file(manifest).unlink(missing_ok=True)
    for folder in there:
        gone = folder.with_name(f".removed-{folder.name}")
        shutil.rmtree(gone, ignore_errors=True)  # what an interrupted call has left
        folder.rename(gone)  # under its name a copy is there or not
        shutil.rmtree(gone)
        click.echo(f"removed {folder}")


def _manifest(dataset: str) -> Manifest:
    """A manifest by reference or folder, or by a name of which there is one version."""
    from benchmark.manifest import load_manifest, published_manifests

    of_name = [r for r in published_manifests() if r.partition("@")[0] == dataset]
    return load_manifest(of_name[0] if len(of_name) == 1 else dataset)


def _of_files(dataset: str) -> Manifest:
    """The same, of a data set whose images are files.

    Raises:
        UsageError: its images ship with the suite.
    """
    from benchmark.errors import UsageError

    manifest = _manifest(dataset)
    if manifest.document["images"] == "embedded":
        raise UsageError(f"the images of {manifest.reference} ship with it; there is nothing to do")
    return manifest


class _Bar:
    """Progress with speed and time left: a bar on a terminal, lines elsewhere."""

    def __enter__(self) -> _Bar:
        self._bars: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[amount]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def of(self, name: str) -> Callable[[int, int], None]:
        """The progress of one step by its name; of a download it is counted in bytes."""
        in_bytes = name.startswith("downloading")
        if self._bars is None:
            return _Lines(name, in_bytes)
        task = self._bars.add_task(name, total=None, amount="")
        bars = self._bars

        def step(done: int, total: int) -> None:
            speed = bars.tasks[bars.task_ids.index(task)].speed or 0
            amount = (
                f"{done / 1e6:.0f} of {total / 1e6:.0f} MB, {speed / 1e6:.1f} MB/s"
                if in_bytes
                else f"{done} of {total}, {speed:.0f}/s"
            )
            bars.update(task, completed=done, total=total or None, amount=amount)

        return step


class _Lines:
    """Progress for logs: a line a second, then rarer."""

    def __init__(self, name: str, in_bytes: bool) -> None:
        from htbench.cli.session import Ticker

        self._in_bytes, self._ticker = in_bytes, Ticker(name, "MB" if in_bytes else "")

    def __call__(self, done: int, total: int) -> None:
        scale = 10**6 if self._in_bytes else 1
        self._ticker(done // scale, total // scale)
