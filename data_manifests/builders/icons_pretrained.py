"""Builder of icons-pretrained@1.0: its template, with the images and tasks of icons@1.0."""

from __future__ import annotations

from benchmark.manifest import load_manifest
from data_manifests.builders.parts import IMAGES, MANIFEST, TEMPLATES, fill_classes
from data_manifests.toml_writer import dumps_list

NAME = "icons-pretrained"
ATTRIBUTION = "ATTRIBUTION.csv"


def build() -> dict[str, bytes]:
    """Build all files of the version.

    Returns:
        Content by file name.
    """
    icons = load_manifest("icons@1.0")
    template = (TEMPLATES / f"{NAME}.toml").read_text("utf-8")
    text = "\n".join(
        [
            fill_classes(template, icons.classes),
            dumps_list("domains", icons.document["domains"]),
            dumps_list("tasks", icons.document["tasks"]),
        ]
    )
    copies = {name: (icons.root / name).read_bytes() for name in (IMAGES, ATTRIBUTION)}
    return {MANIFEST: text.encode(), **copies}
