"""icons-pretrained has the images, splits, classes and tasks of icons, with another network."""

from __future__ import annotations

import pytest

from benchmark.folders import packaged_manifests
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.suite import load_suite
from data_manifests.builders import icons_pretrained

FOLDER = packaged_manifests() / "icons-pretrained"


@pytest.fixture(scope="module")
def pretrained():
    return load_manifest("icons-pretrained@2.0")


def test_images_classes_and_tasks_are_those_of_icons(pretrained, icons):
    assert pretrained.table.equals(icons.table)
    assert pretrained.classes == icons.classes
    assert pretrained.domains == icons.domains
    assert pretrained.tasks == icons.tasks


def test_a_rebuild_gives_the_published_files():
    files = icons_pretrained.build()
    published = {path.name: path.read_bytes() for path in (FOLDER / "2.0").iterdir()}
    published.pop("croissant.json")  # written by `htbench manifest croissant`
    assert files == published


def test_the_suite_has_the_tasks_and_seeds_of_the_icons(pretrained):
    suite, other = load_suite("icons-pretrained"), load_suite("icons")
    assert suite.manifest == pretrained.reference
    assert (suite.tasks, suite.seeds) == (other.tasks, other.seeds)
