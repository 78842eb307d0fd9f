"""Build the version 1.0 of icons-pretrained: a template, and the images and tasks of icons@1.0."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.errors import HTBenchError
from benchmark.manifest import load_manifest
from data_manifests.building import IMAGES, MANIFEST, UserMistake, report, write_files
from data_manifests.toml_writer import dumps, dumps_list

HERE = Path(__file__).parent
VERSION = "1.0"
ATTRIBUTION = "ATTRIBUTION.csv"


def build() -> dict[str, bytes]:
    """The files of the version by name."""
    icons = load_manifest("icons@1.0")
    head, _, tail = (HERE / "template.toml").read_text("utf-8").partition("classes = []\n")
    text = "\n".join(
        [
            head + dumps({"classes": list(icons.classes)}) + tail,
            dumps_list("domains", icons.document["domains"]),
            dumps_list("tasks", icons.document["tasks"]),
        ]
    )
    copied = {name: (icons.root / name).read_bytes() for name in (IMAGES, ATTRIBUTION)}
    return {MANIFEST: text.encode(), **copied}


@click.command()
@click.option("--out", default=HERE / VERSION, show_default="beside this file",
              type=click.Path(file_okay=False, path_type=Path), help="Where to write.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite, before publication.")
def main(out: Path, force: bool) -> None:
    """Write manifest.toml, images.parquet and ATTRIBUTION.csv.

    \b
    Examples:
      python data_manifests/icons-pretrained/build.py
      python data_manifests/icons-pretrained/build.py --out again
    """
    try:
        files = build()
        write_files(out, files, force=force)
    except HTBenchError as error:
        raise UserMistake(str(error)) from error
    click.echo("\n".join(report(out, files)))


if __name__ == "__main__":
    main()
