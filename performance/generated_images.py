"""Office-Home with generated images: its real names, classes, splits and counts, but no photo.

The manifest is office-home@1.0 with one task, few steps and a network without pretrained weights,
so that a machine without network can run it. ``performance/gpu_check.py`` uses it.
"""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from PIL import Image

from benchmark.images.place import images_folder
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.read import read_manifest
from benchmark.manifest.toml import to_toml
from benchmark.networks.build import build, weights_of

NAME, TASK = "generated-office-home", "Art-Clipart"
SEEDS = 4
DIFFERENT = 128  # images; the files repeat them, since the speed does not depend on what they show
SIDE = 320  # pixels, so that the store has to resize them, as it does photos
SUITE = """title = "Generated images with the names of Office-Home"
manifest = "."
tasks = ["{task}"]
methods = ["source", "finetune"]
seeds = {seeds}
"""


def write_office_home(
    folder: Path, network: str, *, steps: int, batch: int | None = None, most: int | None = None
) -> Path:
    """Write a manifest, its suite and its images; return the suite's file.

    Args:
        folder: where manifest and suite are written; images go to the data folder.
        network: of torchvision.
        steps: of the recipe.
        batch: images per step; default: the recipe's.
        most: images of each class, domain and split; default: all.
    """
    whole = load_manifest("office-home@1.0")
    (task,) = (table for table in whole.document["tasks"] if table["id"] == TASK)
    domains = {*task["sources"], task["target"]}
    recipe = {**whole.document["recipe"], "steps": steps}
    recipe["batch_size"] = batch or recipe["batch_size"]
    document = {
        **whole.document,
        "name": NAME,
        "model": {"name": network},
        "domains": [table for table in whole.document["domains"] if table["name"] in domains],
        "recipe": recipe,
        "tasks": [task],
    }
    folder.mkdir(parents=True)
    (folder / "manifest.toml").write_text(to_toml(document), "utf-8")
    pq.write_table(_rows(whole, domains, most), folder / "images.parquet")
    suite = folder / f"{NAME}.toml"
    suite.write_text(SUITE.format(task=TASK, seeds=list(range(SEEDS))), "utf-8")
    write_images(read_manifest(folder))
    return suite


def _rows(whole: Manifest, domains: set[str], most: int | None) -> pa.Table:
    columns = (whole.table[name].to_pylist() for name in ("domain", "class", "split"))
    counts: Counter[tuple[str, str, str]] = Counter()
    keep = []
    for row in zip(*columns, strict=True):
        counts[row] += 1
        keep.append(row[0] in domains and (most is None or counts[row] <= most))
    return whole.table.filter(pa.array(keep))


def write_images(manifest: Manifest) -> None:
    """Write a JPEG file for every image of a manifest: smooth noise with grain."""
    random, pool = np.random.default_rng(0), []
    for _ in range(DIFFERENT):
        coarse = Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
        pixels = (smooth + random.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG", quality=90)
        pool.append(data.getvalue())
    root = images_folder(manifest)
    for number, path in enumerate(manifest.table["path"].to_pylist()):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pool[number % DIFFERENT])


def write_source(manifest: Manifest, path: Path) -> None:
    """Write a source model for :func:`write_office_home`: an untrained network."""
    torch.manual_seed(0)
    network = build(manifest.model, len(manifest.classes), manifest.input_size)
    safetensors.torch.save_file(weights_of(network), path)
