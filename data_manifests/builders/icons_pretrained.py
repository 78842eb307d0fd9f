"""Builder of icons-pretrained@2.0: its template, with the images and tasks of icons@2.0."""

from __future__ import annotations

from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import IMAGES_FILE, MANIFEST_FILE
from benchmark.manifest.toml import to_toml
from data_manifests.builders.icons import VERSION
from data_manifests.builders.parts import ATTRIBUTION, fill_classes, template

NAME = "icons-pretrained"


def build() -> dict[str, bytes]:
    """Build all files of the version.

    Returns:
        Content by file name.
    """
    icons = load_manifest(f"icons@{VERSION}")
    lists = {name: icons.document[name] for name in ("domains", "tasks")}
    text = f"{fill_classes(template(NAME), icons.classes)}\n{to_toml(lists)}"
    copies = {name: (icons.root / name).read_bytes() for name in (IMAGES_FILE, ATTRIBUTION)}
    return {MANIFEST_FILE: text.encode(), **copies}
