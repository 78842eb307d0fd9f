"""One command for all builders: ``python -m data_manifests.builders DATASET``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from benchmark.errors import HTBenchError, UsageError
from benchmark.folders import packaged_manifests
from data_manifests.builders import IWILDCAM_VERSION, VERSION
from data_manifests.builders.icons import VERSION as ICONS_VERSION
from data_manifests.builders.icons.package import NAME as ICONS_PACKAGE


class InvalidInput(click.ClickException):
    """An error that the user can fix: shown as one sentence, without a traceback."""

    exit_code = 2


class Builders(click.Group):
    """A command group that reports every error of the benchmark in one sentence."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a subcommand.

        Raises:
            InvalidInput: the subcommand raised an ``HTBenchError``.
        """
        try:
            return super().invoke(ctx)
        except HTBenchError as error:
            raise InvalidInput(str(error)) from error


Command = Callable[..., None]


def facts_option(contents: str) -> Callable[[Command], Command]:
    """The option ``--facts``: a folder that contains ``contents``."""
    return click.option(
        "--facts",
        required=True,
        type=click.Path(file_okay=False, path_type=Path),
        help=f"Folder with {contents}.",
    )


def out_option(data_set: str, version: str = VERSION) -> Callable[[Command], Command]:
    """The option ``--out``, by default the published version of the data set."""
    return click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        default=packaged_manifests() / data_set / version,
        help="Output folder. If it already contains the published files, they are verified.  "
        f"[default: data_manifests/{data_set}/{version}]",
    )


jobs_option = click.option(
    "--jobs", default=os.cpu_count(), show_default=True, help="Number of training runs in parallel."
)
force_option = click.option("--force", is_flag=True, help="Overwrite existing files that differ.")


@click.group(cls=Builders)
def main() -> None:
    """Rebuild a published manifest from the data set's published lists, or verify it.

    Published files never change, so files that would differ are not overwritten unless you add
    --force.

    \b
    Verify the published files of office-home:
      python -m data_manifests.builders office-home --facts facts/office-home
    Rebuild domainnet in another folder:
      python -m data_manifests.builders domainnet --facts facts/domainnet --out rebuilt
    """


@main.command("office-home")
@facts_option("the released lists (gzipped) and officehome_classes.json")
@out_option("office-home")
@force_option
def build_office_home(facts: Path, out: Path, force: bool) -> None:
    """Build office-home in a few seconds.

    Writes manifest.toml, images.parquet and lists/.

    \b
    Verify the published files:
      python -m data_manifests.builders office-home --facts facts/office-home
    Rebuild them elsewhere, replacing existing files:
      python -m data_manifests.builders office-home --facts facts/office-home --out rebuilt --force
    """
    from data_manifests.builders import office_home

    write(out, office_home.build(facts), force=force)


@main.command("domainnet")
@facts_option("the official lists (gzipped) and domainnet_classes.json")
@out_option("domainnet")
@force_option
def build_domainnet(facts: Path, out: Path, force: bool) -> None:
    """Build domainnet in about 15 seconds.

    Writes manifest.toml, images.parquet and lists/.

    \b
    Verify the published files:
      python -m data_manifests.builders domainnet --facts facts/domainnet
    Rebuild them elsewhere, replacing existing files:
      python -m data_manifests.builders domainnet --facts facts/domainnet --out rebuilt --force
    """
    from data_manifests.builders import domainnet

    write(out, domainnet.build(facts), force=force)


@main.command("pacs")
@facts_option("pacs_files.csv.gz, the list of the data set's files")
@out_option("pacs")
@force_option
def build_pacs(facts: Path, out: Path, force: bool) -> None:
    """Build pacs in a few seconds.

    Writes manifest.toml and images.parquet.

    \b
    Verify the published files:
      python -m data_manifests.builders pacs --facts facts/pacs
    Rebuild them elsewhere:
      python -m data_manifests.builders pacs --facts facts/pacs --out rebuilt
    """
    from data_manifests.builders.pacs import build

    write(out, build.build(facts), force=force)


@main.command("pacs-search")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(__file__).parent / "pacs" / "search.csv",
    help="CSV file of runs; finished ones are not repeated.  "
    "[default: data_manifests/builders/pacs/search.csv]",
)
@jobs_option
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Device to train on.",
)
def search_pacs(out: Path, jobs: int, device: str) -> None:
    """Search for the adaptation recipe of pacs.

    Needs its images (`htbench data import`) and pretrained weights in the data folder. Writes every
    run to a CSV file, prints the comparison of all recipes and marks the chosen one with a star. A
    finished search writes recipe.toml beside it, which the builder reads. This takes about an hour
    of one core. To continue an interrupted search, run the same command again.

    \b
    Continue the recorded search, or print what it chose:
      python -m data_manifests.builders pacs-search
    Repeat it in another file on a GPU:
      python -m data_manifests.builders pacs-search --out again/search.csv --device cuda
    """
    from benchmark.files import write_file
    from benchmark.manifest.catalogue import load_manifest
    from data_manifests.builders.one_standard_error import check_grid
    from data_manifests.builders.pacs import search

    runs = search.search(out, jobs, device)
    manifest = load_manifest(search.REFERENCE)
    rows = search.comparisons(manifest, runs)
    click.echo(search.table(rows))
    check_grid(rows)
    write_file(out.with_name("recipe.toml"), search.recipe_toml(manifest, runs).encode())


@main.command("iwildcam")
@facts_option("facts.json, labels.csv and location_splits.csv")
@out_option("iwildcam", IWILDCAM_VERSION)
@force_option
def build_iwildcam(facts: Path, out: Path, force: bool) -> None:
    """Build the tables of iwildcam.

    Writes classes.csv and locations.csv, and checks recipe.toml against the facts.

    \b
    Verify the published files:
      python -m data_manifests.builders iwildcam --facts facts/iwildcam
    Rebuild them elsewhere:
      python -m data_manifests.builders iwildcam --facts facts/iwildcam --out rebuilt
    """
    from data_manifests.builders import iwildcam

    write(out, iwildcam.build(facts), force=force)


@main.command("icons")
@click.option(
    "--package",
    type=click.Path(path_type=Path),
    help=f"Tarball downloaded with `npm pack {ICONS_PACKAGE}`.",
)
@click.option(
    "--manifest-only", is_flag=True, help="Only rewrite manifest.toml, from training.toml."
)
@out_option("icons", ICONS_VERSION)
@force_option
def build_icons(package: Path | None, manifest_only: bool, out: Path, force: bool) -> None:
    """Build icons in about a minute.

    Writes images.parquet, ATTRIBUTION.csv and manifest.toml. Prints how many test icons have a near
    copy in train.

    \b
    Rebuild the published files elsewhere:
      python -m data_manifests.builders icons --package iconify-json-2.2.535.tgz --out rebuilt
    Update the manifest from training.toml, before publication:
      python -m data_manifests.builders icons --manifest-only --force
    """
    from data_manifests.builders.icons import build

    if (package is None) != manifest_only:
        raise UsageError("give either --package TARBALL or --manifest-only")
    files = build.build_manifest(out) if package is None else build.build_all(package)
    write(out, files, force=force)


@main.command("icons-sources")
@click.option("--manifest", default="icons@2.0", show_default=True, help="Manifest to train for.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=packaged_manifests() / "icons" / ICONS_VERSION / "checkpoints",
    help=f"Output folder.  [default: data_manifests/icons/{ICONS_VERSION}/checkpoints]",
)
@jobs_option
def train_icons_sources(manifest: str, out: Path, jobs: int) -> None:
    """Train the source models of icons that the manifest pins.

    Writes the checkpoints, and their table to training.toml. This takes about three minutes on 2
    cores. Another type of CPU gives other bytes.

    \b
    Train them before publication:
      python -m data_manifests.builders icons-sources --manifest data_manifests/icons/2.0
    Train them in another folder, with four processes:
      python -m data_manifests.builders icons-sources --out again --jobs 4
    """
    from data_manifests.builders.icons import build, search

    published = packaged_manifests() / "icons" / ICONS_VERSION / "checkpoints"
    training = build.TRAINING if out == published else out / "training.toml"
    if training != build.TRAINING:
        out.mkdir(parents=True, exist_ok=True)
        training.write_bytes(build.TRAINING.read_bytes())
    search.train_sources(manifest, out, training, jobs)


@main.command("icons-search")
@click.option(
    "--manifest", default="icons@2.0", show_default=True, help="Manifest whose recipe to search."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(__file__).parent / "icons",
    help="Output folder, with training.toml.  [default: data_manifests/builders/icons]",
)
@jobs_option
def search_icons(manifest: str, out: Path, jobs: int) -> None:
    """Search for the adaptation recipe of icons, from its source models.

    Writes the chosen recipe to training.toml and all candidates to search.csv. Candidates that
    search.csv already has are not run again. This takes about 15 minutes on 2 cores.

    \b
    Check the search that the published manifest records, or complete it:
      python -m data_manifests.builders icons-search
    Repeat it in another folder with four processes:
      mkdir again && cp data_manifests/builders/icons/training.toml again
      python -m data_manifests.builders icons-search --out again --jobs 4
    """
    from data_manifests.builders.icons import search

    click.echo(search.search(manifest, out, jobs))


@main.command("icons-twins")
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    help="PNG file to write: test icons beside their near copies in train.",
)
@click.option(
    "--split",
    type=click.Choice(["1.0", "families"]),
    default="families",
    show_default=True,
    help="Split whose near copies the sheet shows; 2.0 has none.",
)
def count_icons_twins(sheet: Path | None, split: str) -> None:
    """Print how many test icons have a near copy in train, in this version and before.

    \b
    Measure the published files:
      python -m data_manifests.builders icons-twins
    Look at the near copies that splitting by family alone leaves:
      python -m data_manifests.builders icons-twins --sheet twins.png
    """
    from benchmark.manifest.manifest import IMAGES_FILE
    from data_manifests.builders.icons import build, twin_sheet
    from data_manifests.builders.icons.split import compared_splits, report, split_icons
    from data_manifests.builders.icons.twins import find_twins

    icons = build.read_icons(packaged_manifests() / "icons" / ICONS_VERSION / IMAGES_FILE)
    twins = find_twins(icons)
    result = split_icons(icons, twins)
    for line in report(icons, twins, result):
        click.echo(line)
    if sheet is not None:
        splits = compared_splits(icons, result)[split]
        twin_sheet.draw_twins(icons, twins, splits).save(sheet, optimize=True)


@main.command("icons-sheet")
@click.option("--all-classes", is_flag=True, help="Show all classes instead of a selection.")
@click.option("--per-domain", default=5, show_default=True, help="Images per class and domain.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=packaged_manifests() / "icons" / "contact-sheet.png",
    help="PNG file to write.  [default: data_manifests/icons/contact-sheet.png]",
)
def draw_icons_sheet(all_classes: bool, per_domain: int, out: Path) -> None:
    """Draw a contact sheet of the icons.

    \b
    Draw the contact sheet shown in the README:
      python -m data_manifests.builders icons-sheet
    Inspect all classes:
      python -m data_manifests.builders icons-sheet --all-classes --per-domain 12 --out all.png
    """
    from data_manifests.builders.icons import sheet

    sheet.write_sheet(out, per_domain, all_classes=all_classes)


@main.command("icons-pretrained")
@out_option("icons-pretrained", ICONS_VERSION)
@force_option
def build_icons_pretrained(out: Path, force: bool) -> None:
    """Build icons-pretrained.

    Writes manifest.toml, and copies images.parquet and ATTRIBUTION.csv from icons.

    \b
    Verify the published files:
      python -m data_manifests.builders icons-pretrained
    Rebuild them elsewhere:
      python -m data_manifests.builders icons-pretrained --out rebuilt
    """
    from data_manifests.builders import icons_pretrained

    write(out, icons_pretrained.build(), force=force)


def write(folder: Path, files: Mapping[str, bytes], *, force: bool) -> None:
    """Write the files of a version and print the path, size and SHA-256 of each."""
    from data_manifests.builders import parts

    parts.write_files(folder, files, force=force)
    for line in parts.checksum_lines(folder, files):
        click.echo(line)


if __name__ == "__main__":
    main()
