"""Which images a site may show."""

from __future__ import annotations

import dataclasses

from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from htbench.site import shown_images


def test_images_that_ship_with_the_suite_are_shown(icons: Manifest) -> None:
    images = shown_images(icons)
    ids = {sample for domain in icons.domains for sample in icons.samples(domain.name, "test").ids}
    assert ids < set(images)
    assert all(data.startswith(b"\x89PNG\r\n") for data in images.values())


def test_images_of_other_data_sets_are_not_shown() -> None:
    assert shown_images(load_manifest("office-home@1.0")) == {}


def test_images_of_a_changed_manifest_are_not_shown(icons: Manifest) -> None:
    document = {**icons.document, "classes": [*reversed(icons.classes)]}
    assert shown_images(dataclasses.replace(icons, document=document)) == {}
