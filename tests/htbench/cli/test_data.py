"""`htbench data download` asks for the terms of a data set before it downloads anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from benchmark.images.place import images_folder
from htbench.cli.data import command


@pytest.fixture
def manifest(draft, own_data):
    """A manifest whose images are files, with a mirror that no server answers for."""
    draft.document |= {"images": "folder", "mirrors": [{"address": "http://127.0.0.1:9/all.zip"}]}
    return draft.read()


def test_the_terms_must_be_accepted(manifest):
    result = CliRunner().invoke(command, ["download", str(manifest.root)])
    assert result.exception is not None
    assert "--accept-terms" in str(result.exception)


def test_a_complete_copy_needs_neither_terms_nor_server(manifest):
    for path in manifest.table["path"].to_pylist():
        file = images_folder(manifest) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"an image")
    result = CliRunner().invoke(command, ["download", str(manifest.root)])
    assert result.exit_code == 0, result.output
    assert "all 90 images of mini@0.1 are present" in result.output
