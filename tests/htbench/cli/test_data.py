"""`htbench data download` asks for the terms of a data set before it downloads anything."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from benchmark.images.place import images_folder
from benchmark.images.store.store import store_folder
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


def test_an_import_as_json(manifest, tmp_path):
    first, *others = manifest.table["path"].to_pylist()
    source = tmp_path / "copy"
    for path in others:
        file = source / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"an image")
    words = ["import", str(manifest.root), str(source), "--json"]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "ok": False,
        "reference": "mini@0.1",
        "imported": [{"path": str(source), "images": 89}],
        "absent": [first],
    }
    (source / first).parent.mkdir(parents=True, exist_ok=True)
    (source / first).write_bytes(b"an image")
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "ok": True,
        "reference": "mini@0.1",
        "imported": [{"path": str(source), "images": 1}],
        "absent": [],
    }


def test_a_complete_copy_needs_neither_terms_nor_server(manifest):
    for path in manifest.table["path"].to_pylist():
        file = images_folder(manifest) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"an image")
    result = CliRunner().invoke(command, ["download", str(manifest.root)])
    assert result.exit_code == 0, result.output
    assert "all 90 images of mini@0.1 are present" in result.output


def test_removing_images_says_that_runs_use_the_pixels_in_their_stores(manifest):
    """With another copy, which no manifest without a SHA-256 of each image can tell from it."""
    images_folder(manifest).mkdir(parents=True)
    part = store_folder(manifest, "outline") / "test.json"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"{}")
    remove = ["remove", str(manifest.root), "--yes"]
    result = CliRunner().invoke(command, remove)
    assert result.exit_code == 0
    assert "1 image store stayed: runs use their pixels" in result.stderr
    (words,) = re.findall("run `htbench data (.*)`", result.stderr)
    assert "add --stores to remove its image stores" in str(
        CliRunner().invoke(command, remove).exception
    )
    result = CliRunner().invoke(command, [*words.split(), "--yes"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert not part.exists()
