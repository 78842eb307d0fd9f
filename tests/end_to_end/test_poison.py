"""No method sees missing-class or test data: what is poisoned there moves no prediction."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.toml import to_toml
from benchmark.methods.find import entry_point_sources
from benchmark.records import PREDICTIONS_FILE, read_predictions

TASK, TARGET = "outline-solid", "solid"
STEPS = {"recipe": 8, "source": 20}  # fewer than the slice's: what is tested does not need more
Row = dict[str, Any]


def _noise(row: Row) -> Row:
    """The row with an image of noise, drawn from its id."""
    seed = int.from_bytes(hashlib.sha256(row["image_id"].encode()).digest()[:8])
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    sums = hashlib.sha256(data).hexdigest()
    return {**row, "image": {**row["image"], "bytes": data}, "sha256": sums}


def _poisoned(mini, folder: Path, change: Callable[[list[Row]], list[Row]]) -> Path:
    """A suite like the slice, over a manifest whose rows are changed."""
    shutil.copytree(mini.manifest, folder)
    path = folder / "manifest.toml"
    document = tomllib.loads(path.read_text())
    for name, steps in STEPS.items():
        document[name]["steps"] = steps
    path.write_text(to_toml(document))
    table = pq.read_table(folder / "images.parquet")
    rows = change(table.to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / "images.parquet")
    suite = folder.with_suffix(".toml")
    suite.write_text(mini.suite.read_text().replace(str(mini.manifest), str(folder)))
    return suite


def _out_of_reach(mini) -> Callable[[list[Row]], list[Row]]:
    """Poison what every standard run must be blind to.

    Training images of missing classes turn to noise, and test labels are shuffled.
    """
    manifest = load_manifest(mini.manifest)
    seen = set(manifest.task(TASK).seen)

    def change(rows: list[Row]) -> list[Row]:
        tests = [row for row in rows if (row["domain"], row["split"]) == (TARGET, "test")]
        labels = [row["class"] for row in tests]
        np.random.default_rng(0).shuffle(labels)
        dealt = {row["image_id"]: label for row, label in zip(tests, labels, strict=True)}
        new_rows = []
        for row in rows:
            if row["image_id"] in dealt:
                row = {**row, "class": dealt[row["image_id"]]}
            elif row["domain"] == TARGET and row["class"] not in seen:
                row = _noise(row)
            new_rows.append(row)
        return new_rows

    return change


def _half_of_the_tests(rows: list[Row]) -> list[Row]:
    """Every other test image of the target turns to noise."""
    tests = sorted(r["image_id"] for r in rows if (r["domain"], r["split"]) == (TARGET, "test"))
    half = set(tests[::2])
    return [_noise(row) if row["image_id"] in half else row for row in rows]


@pytest.fixture(scope="module")
def predictions(mini, command, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Predictions file of every method by kind of poison: none, out of reach, half of the tests."""
    root = tmp_path_factory.mktemp("poison")
    place = replace(mini, data=root / "data")  # others count the source models of the slice
    suites = {
        "none": _poisoned(mini, root / "none", lambda rows: rows),
        "reach": _poisoned(mini, root / "reach", _out_of_reach(mini)),
        "tests": _poisoned(mini, root / "tests", _half_of_the_tests),
    }
    methods = [word for name in sorted(entry_point_sources()) for word in ("--method", name)]
    files: dict[str, dict[str, Any]] = {}
    for kind, suite in suites.items():
        workspace = root / f"ws-{kind}"
        # So short a recipe takes fewer local models, and lora diverges on it at its default alpha.
        result = command(
            place,
            "run",
            "--suite",
            suite,
            "--task",
            TASK,
            "--seed",
            "0",
            *methods,
            "--set",
            "local_models=2",
            "--set",
            "local_steps=4",
            "--set",
            "alpha=0.5",
            "--workspace",
            workspace,
        )
        assert result.returncode == 0, result.stderr + result.stdout
        for record in map(json.loads, (p.read_text() for p in workspace.glob("runs/*/run.json"))):
            path = workspace / "runs" / record["key"] / PREDICTIONS_FILE
            files.setdefault(record["method"], {})[kind] = path
            files[record["method"]]["track"] = record["track"]
    return files


METHODS = sorted(entry_point_sources())


@pytest.mark.parametrize("method", METHODS)
def test_what_is_out_of_reach_moves_no_prediction(predictions, method):
    files = predictions[method]
    same = files["none"].read_bytes() == files["reach"].read_bytes()
    if files["track"] == "standard":
        assert same
    else:
        assert not same  # the poison works: a method that gets the missing classes changes


@pytest.mark.parametrize("method", METHODS)
def test_test_images_move_no_prediction_of_other_images(predictions, method, mini):
    files = predictions[method]
    ids, clean = read_predictions(files["none"])
    others, poisoned = read_predictions(files["tests"])
    assert ids == others
    tests = sorted(load_manifest(mini.manifest).samples(TARGET, "test").ids)
    clean_ids = np.isin(ids, tests[1::2])
    difference = np.abs(clean - poisoned).max(axis=1)
    # The images come in another order, and the last bits of a sum depend on the place in a batch.
    assert difference[clean_ids].max() < 1e-4
    assert np.median(difference[~clean_ids]) > 1e-2  # the poison works
