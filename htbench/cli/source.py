"""`htbench source`: train, import, export and list source models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htbench.cli.options import (
    LocalPath,
    combine,
    device_option,
    jobs_option,
    json_option,
    manifest_option,
    model_option,
    seeds_option,
    suite_option,
)
from htbench.cli.output import list_problems, print_json, print_table, printable
from htbench.progress import Terminal

if TYPE_CHECKING:
    from benchmark.sources.spec import SourceCheckpoint

_origin_options = combine(
    suite_option("Use the manifest and tasks of this suite."),
    manifest_option("Use this manifest: name@version, or a folder."),
    model_option,
)


@click.group("source")
def command() -> None:
    """Train, import, export or list source models.

    \b
    Examples:
      htbench source train --suite icons
      htbench source list
    """


@command.command()
@_origin_options
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="DOMAINS",
    help="Train only the source model of these domains, such as outline+solid; "
    "repeatable.  [default: all source models]",
)
@click.option(
    "--weights",
    metavar="FILE",
    type=LocalPath(dir_okay=False),
    help="Read the manifest's pretrained weights from this file instead of downloading them.",
)
@seeds_option(
    "Train only the source model of this number (or range, such as 0-2), where a manifest has "
    "several for the same domains; repeatable.  [default: all]"
)
@click.option(
    "--again",
    is_flag=True,
    help="Also train source models that the manifest fixes, and show both accuracies. Runs do not "
    "use the result.",
)
@device_option
@jobs_option
def train(
    suite: str | None,
    manifest: str | None,
    network: str | None,
    sources: tuple[str, ...],
    weights: Path | None,
    seeds: tuple[int, ...],
    again: bool,
    device: str,
    jobs: int | None,
) -> None:
    """Train the source models that do not exist yet.

    `htbench run` also does this, so you rarely need this command. Source models that the manifest
    fixes are used as they are.

    \b
    Examples:
      htbench source train --suite icons --again
      htbench source train --manifest icons-pretrained@2.0 --source outline+solid \\
          --weights mobilenet_v2-b0353104.pth
    """
    from htbench.sources import Origin, train_sources

    origin = Origin(suite, manifest, network, device)
    _print(
        train_sources(
            origin,
            names=sources,
            seeds=seeds,
            weights=weights,
            jobs=jobs,
            again=again,
            monitor=Terminal(),
        )
    )


_source_option = combine(
    click.option(
        "--source",
        "source",
        metavar="DOMAINS",
        help="Domains of the source model, such as outline+solid. Required if the "
        "manifest or suite has several source models.",
    ),
    click.option(
        "--seed",
        type=int,
        help="Number of the source model. Required if the manifest has several for the same "
        "domains.",
    ),
)


@command.command("import")
@click.argument("file", type=LocalPath(exists=True, dir_okay=False))
@_origin_options
@_source_option
@click.option(
    "--note", default="", metavar="TEXT", help="Note on the model's origin, stored with the model."
)
@device_option
def import_(
    file: Path,
    suite: str | None,
    manifest: str | None,
    network: str | None,
    source: str | None,
    seed: int | None,
    note: str,
    device: str,
) -> None:
    """Import a source model trained elsewhere, from a safetensors file or a torch state dict.

    Tensor names must be those that `htbench source export` writes, or those of the network in
    torchvision or timm. The model is evaluated on the source domains' test images. Later runs start
    from it.

    \b
    Examples:
      htbench source import model.safetensors --manifest icons-pretrained@2.0 --source outline
      htbench source import resnet50.pth --manifest office-home@1.0 --source Art \\
          --note "trained by a colleague"
    """
    from htbench.sources import Origin, import_source

    origin = Origin(suite, manifest, network, device)
    source_model = import_source(
        origin, file, name=source, seed=seed, note=printable(note), monitor=Terminal()
    )
    _print([source_model])


@command.command()
@_origin_options
@_source_option
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=LocalPath(),
    help="Folder to create; it must not exist yet.",
)
@device_option
def export(
    suite: str | None,
    manifest: str | None,
    network: str | None,
    source: str | None,
    seed: int | None,
    out: Path,
    device: str,
) -> None:
    """Copy a source model and a model card to a new folder.

    \b
    Examples:
      htbench source export --manifest icons@2.0 --source outline --seed 0 --out outline
      htbench source export --suite icons --source outline+solid --seed 2 --out both
    """
    from benchmark.sources.spec import MODEL_FILE
    from htbench.sources import Origin, export_source

    export_source(Origin(suite, manifest, network, device), out, name=source, seed=seed)
    click.echo(f"wrote {MODEL_FILE} and README.md to {out}")


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the source models in the data folder, and those that come with published manifests.

    \b
    Examples:
      htbench source list
      htbench source list --json
    """
    from benchmark.sources.export import pinned_sources, summary
    from benchmark.sources.spec import damaged_sources, known_sources

    with list_problems() as problems:
        sources = [*known_sources(), *pinned_sources(problems.append)]
        problems += damaged_sources()
        if as_json:
            print_json([summary(source) for source in sources])
        else:
            _print(sources)


def _print(sources: Sequence[SourceCheckpoint]) -> None:
    from benchmark.sources.export import summary

    rows = [_row(summary(source)) for source in sources]
    print_table(
        rows, ["manifest", "domains", "seed", "network", "digest", "accuracy %", "origin", "MB"]
    )


def _row(entry: dict[str, Any]) -> list[object]:
    return [
        entry["manifest"] or entry["manifest_digest"][:12],
        "+".join(entry["domains"]),
        entry["seed"],
        entry["network"],
        entry["digest"][:12],
        f"{entry['test_accuracy']:.1f}",
        " ".join(word for word in (entry["provenance"], entry["device"]) if word),
        f"{entry['bytes'] / 1e6:.1f}",
    ]
