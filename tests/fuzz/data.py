"""Stores, archives, images, metadata and weights."""

from __future__ import annotations

import csv
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import HTBenchError
from benchmark.files import seal
from benchmark.manifest.catalogue import load_manifest
from tests.fuzz.target import Read, Target, resealed


def _store_index(folder: Path) -> Read:
    """The index of a store, with a checksum that fits."""
    from benchmark.images.store.store import find_store, open_store, store_folder

    os.environ["HTBENCH_DATA"] = str(folder)
    manifest = load_manifest("icons@2.0")
    domain = manifest.domains[0].name
    open_store(manifest, domain)
    path = store_folder(manifest, domain) / "index.json"
    original = path.read_bytes()

    def read(data: bytes) -> object:
        data = original if data == b"original" else data
        path.write_bytes(resealed(data))
        store = find_store(manifest, domain)
        return store and (store.test_ids, store.train_files(list(range(65))))

    return read


def _store_index_seeds() -> list[bytes]:
    manifest = load_manifest("icons@2.0")
    domain = manifest.domains[0].name
    from benchmark.images.store.store import store_folder

    return [
        seal(
            {
                "store": store_folder(manifest, domain).name,
                "train": {"0": ["a"]},
                "test": ["b"],
                "files": {"train-0.u8": "0" * 64},
            }
        )
    ]


def _pack(folder: Path) -> Read:
    from benchmark.images.store.encoded import EncodedImages
    from benchmark.images.store.jpeg import JpegPack

    path = folder / "test.pack"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        with EncodedImages([(path, 3)], 8, "jpeg") as images:
            encoded = [images.read(index) for index in range(3)]
        with path.open("rb") as file:
            pack = JpegPack(file.fileno(), 3, 8)
            return encoded, [pack.decode(index) for index in range(3)]

    return read


def _pack_seeds() -> list[bytes]:
    from benchmark.images.store.jpeg import encode, write_pack

    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
    images = [encode(image) for image in pixels]
    sink = io.BytesIO()
    write_pack(sink, list(map(len, images)), images)
    return [sink.getvalue()]


def _archive(folder: Path) -> Read:
    from benchmark.images.copy.archive import list_members, unpack
    from benchmark.images.copy.placing import placing
    from benchmark.images.copy.remarks import Remarks

    path, root = folder / "archive", folder / "out"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        members = list_members(path, Remarks(), 50)
        places = {member.number: [f"{i}.png"] for i, member in enumerate(members)}
        with placing(root) as writer:
            unpack(path, members, places, writer, 50)
        if any(
            item.name not in ("archive", "out") and not item.name.startswith(".out")
            for item in folder.iterdir()
        ):
            raise AssertionError(f"a file outside: {list(folder.iterdir())}")
        shutil.rmtree(root)
        return members

    return read


def _archive_seeds() -> list[bytes]:
    files = {"a/one.png": b"one" * 50, "b/two.png": b"two", "c.txt": b""}
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", method) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        seeds.append(sink.getvalue())
    for mode, kind in (
        ("w", tarfile.GNU_FORMAT),
        ("w", tarfile.PAX_FORMAT),
        ("w:gz", tarfile.GNU_FORMAT),
        ("w:bz2", tarfile.GNU_FORMAT),
        ("w:xz", tarfile.GNU_FORMAT),
    ):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode=mode, format=kind) as tar:  # type: ignore[call-overload]
            for name, content in files.items():
                info = tarfile.TarInfo(name + "é" * 60)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.LNKTYPE, "c.txt"
            tar.addfile(link)
        seeds.append(sink.getvalue())
    return seeds


def _image(folder: Path) -> Read:
    from benchmark.images.decode import decode

    return lambda data: decode(data, ".png")


def _image_seeds() -> list[bytes]:
    from PIL import Image

    random = np.random.default_rng(0)
    colours = Image.fromarray(random.integers(0, 256, (8, 9, 3), dtype=np.uint8))
    seeds = []

    def add(image: Image.Image, kind: str, **options: Any) -> None:
        sink = io.BytesIO()
        image.save(sink, kind, **options)
        seeds.append(sink.getvalue())

    for mode in ("RGB", "L", "CMYK"):
        add(colours.convert(mode), "JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6
    add(colours, "JPEG", progressive=True, exif=exif)
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        add(colours.convert(mode), "PNG")
    add(colours.convert("P"), "PNG", transparency=3)
    add(Image.fromarray(random.integers(0, 65536, (8, 9), dtype=np.uint16)), "PNG")
    add(colours, "PNG", save_all=True, append_images=[colours.rotate(90)])
    return seeds


def _metadata(folder: Path) -> Read:
    from benchmark.manifest.expand import expand_recipe
    from benchmark.manifest.metadata import read_metadata
    from benchmark.manifest.recipe import load_recipe

    recipe, path = load_recipe("iwildcam@1.1"), folder / "metadata.csv"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        return expand_recipe(recipe, read_metadata(path, recipe, allow_unknown=True))

    return read


def _metadata_seeds() -> list[bytes]:
    from benchmark.manifest.recipe import load_recipe
    from tests.benchmark.manifest.cameras import HEADER, Cameras, one_task

    cameras = Cameras(load_recipe("iwildcam@1.1"))
    one_task(cameras)
    cameras.know(1, 2, 3)
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(cameras.rows)
    return [text.getvalue().encode()]


def _weights(folder: Path) -> Read:
    """A source model from outside, as the sandboxed process reads it."""
    from benchmark.child import weights

    def read(data: bytes) -> object:
        return {name: value.shape for name, value in weights._read(data).items()}

    return read


def _weights_seeds() -> list[bytes]:
    import safetensors.torch
    import torch

    tensors = {"head.weight": torch.ones(3, 4), "head.bias": torch.zeros(3, dtype=torch.float16)}
    sink = io.BytesIO()
    torch.save(tensors, sink)
    return [
        safetensors.torch.save(tensors),
        safetensors.torch.save(tensors, {"a": "b"}),
        sink.getvalue(),
    ]


def _weights_errors() -> tuple[type[BaseException], ...]:
    from benchmark.child.job import ContractError

    return HTBenchError, ContractError


TARGETS: Mapping[str, Target] = {
    "store-index": Target(_store_index, _store_index_seeds),
    "store-pack": Target(_pack, _pack_seeds, (HTBenchError, ValueError)),
    "archive": Target(_archive, _archive_seeds),
    "image": Target(_image, _image_seeds),
    "metadata-csv": Target(_metadata, _metadata_seeds),
    "weights": Target(_weights, _weights_seeds, _weights_errors()),
}
