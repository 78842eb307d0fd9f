"""From stored images of 256 pixels to training batches of 224, beside other ways.

    python performance/loading.py
    python performance/loading.py --turns 7

Two augmentations: a random window resized and a flip, as most code of this field has, and all of
office-home's. The images are generated: smooth noise, as JPEG files of about the size of photos.

    store          the image store of pixels and ``Transforms.augment``
    jpeg store     the same from the packs of JPEG images that a large data set is stored as
    crop           windows of fixed size cut from a memory map of planes and flipped: the least work
    v2             torchvision's v2 transforms, one decoded image (of planes) after another
    ImageFolder    ImageFolder and DataLoader with the given number of loader processes; of images
                   of 256 pixels, or of the originals that a store is built from

A turn is an epoch. All but ImageFolder divide it between processes of one thread, one per core, as
runs side by side use the cores. All processes are forked for each turn, so that none works in
another's turn, and so that their processor time counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Times, ratios, spread, table, take_turns
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmark.images.augment import Transforms
from benchmark.images.store.build import stored
from benchmark.images.store.jpeg import write_pack
from benchmark.images.store.tensors import LazyImages, open_images
from benchmark.isolation.server import keep_freed_memory
from benchmark.manifest.catalogue import load_manifest

BATCH, STORED, SIZE = 64, 256, 224
ORIGINAL = (640, 480)  # about the size of photos in DomainNet
CORES = os.cpu_count() or 1
JITTER = 0.3
Epoch = Iterator[Tensor]
MEAN_STD = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def write_images(folder: Path, count: int) -> None:
    """Write folders of JPEG files, and every kind of image store with the same images."""
    rng = np.random.default_rng(0)
    for name in ("images", "originals"):
        (folder / name / "class").mkdir(parents=True)
    encoded = []
    with (folder / "raw").open("wb") as raw, (folder / "interleaved").open("wb") as interleaved:
        for number in range(count):
            coarse = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize(ORIGINAL, Image.Resampling.BICUBIC)
            grain = rng.integers(-8, 9, (*ORIGINAL[::-1], 3))
            original = Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))
            original.save(folder / "originals" / "class" / f"{number:04}.jpg", quality=90)
            small = original.resize((STORED, STORED))
            small.save(folder / "images" / "class" / f"{number:04}.jpg", quality=90)
            pixels = np.asarray(small).transpose(2, 0, 1)
            interleaved.write(stored(pixels, "interleaved"))
            raw.write(stored(pixels, "raw"))
            encoded.append(stored(pixels, "jpeg"))
    with (folder / "jpeg").open("wb") as file:
        write_pack(file, [len(data) for data in encoded], encoded)


def divided(way: Callable[[Tensor], Epoch], count: int) -> None:
    """Divide an epoch of a way between processes, one per core."""
    first, *others = torch.randperm(count).chunk(CORES)
    pids = []
    for share in others:
        if (pid := os.fork()) == 0:
            deque(way(share), 0)
            os._exit(0)
        pids.append(pid)
    deque(way(first), 0)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0


def ours(images: LazyImages, transforms: Transforms, share: Tensor) -> Epoch:
    """Batches as ``fit`` makes them, with memory as a run's process has it."""
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    for rows in share.split(BATCH):
        yield transforms.augment(images[rows], generator)


def crop(images: Tensor, share: Tensor) -> Epoch:
    """Random windows, flipped and normalised."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in MEAN_STD)
    for rows in share.split(BATCH):
        batch = torch.empty((len(rows), 3, SIZE, SIZE)).to(memory_format=torch.channels_last)
        corners = torch.randint(STORED - SIZE + 1, (len(rows), 2)).tolist()
        for place, (row, (top, left)) in enumerate(zip(rows.tolist(), corners, strict=True)):
            window = images[row, :, top : top + SIZE, left : left + SIZE]
            batch[place] = window.flip(-1) if torch.rand(()) < 0.5 else window
        yield batch.div_(255).sub_(mean).div_(std)


def one_by_one(images: Tensor, transform: Callable[[Tensor], Tensor], share: Tensor) -> Epoch:
    """Each image transformed alone."""
    for rows in share.split(BATCH):
        yield torch.stack([transform(images[row]) for row in rows.tolist()])


def image_folder(folder: Path, transform: Callable[..., Tensor], workers: int) -> None:
    """An epoch of torchvision's data set."""
    data = ImageFolder(str(folder), transform)
    with warnings.catch_warnings():  # of more processes than cores, which may still be the fastest
        warnings.filterwarnings("ignore", "This DataLoader will create")
        deque(DataLoader(data, BATCH, shuffle=True, num_workers=workers), 0)


def of_torchvision(module: Any, *, full: bool) -> list[Callable[..., object]]:
    """The augmentation as a list of torchvision's transforms, of T or v2."""
    steps = [module.RandomResizedCrop(SIZE, (0.7, 1.0)), module.RandomHorizontalFlip()]
    if full:
        steps += [module.ColorJitter(*[JITTER] * 4), module.RandomGrayscale(0.1)]
    return steps


def measure(
    folder: Path, count: int, turns: int, workers: list[int], *, full: bool
) -> dict[str, Times]:
    """Times of an epoch in every way."""
    settings = dict(load_manifest("office-home@1.0").document["transforms"])
    if not full:
        settings["train"] = settings["train"][:2]
    transforms = Transforms(settings)
    stores = {}
    for kind in ("raw", "interleaved", "jpeg"):
        with (folder / kind).open("rb") as file:
            stores[kind] = open_images(file.fileno(), count, STORED, kind)
    raw = stores["raw"]
    assert isinstance(raw, Tensor)
    normalise = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(*MEAN_STD)]
    tensor = v2.Compose([*of_torchvision(v2, full=full), *normalise])
    pil = T.Compose([*of_torchvision(T, full=full), T.ToTensor(), T.Normalize(*MEAN_STD)])
    by_share: dict[str, Callable[[Tensor], Epoch]] = {
        "store": partial(ours, LazyImages([stores["interleaved"]], STORED), transforms),
        "jpeg store": partial(ours, LazyImages([stores["jpeg"]], STORED), transforms),
        "v2": partial(one_by_one, raw, tensor),
    }
    if not full:
        by_share["crop"] = partial(crop, raw)
    ways: dict[str, Callable[[], None]] = {
        name: partial(divided, way, count) for name, way in by_share.items()
    }
    for name, files in (("ImageFolder", "images"), ("ImageFolder of originals", "originals")):
        for number in workers:
            way = partial(image_folder, folder / files, pil, number)
            ways[f"{name}, {number} processes"] = way
    return take_turns(ways, turns)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--images", type=int, default=1536)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, CORES, 2 * CORES])
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, args.images)
        sizes = {
            name: sum(f.stat().st_size for f in folder.glob(f"{name}/*/*")) / args.images / 1024
            for name in ("images", "originals")
        }
        for title, full in (("window and flip", False), ("all of office-home's", True)):
            print(f"{title}:\n")
            times = measure(folder, args.images, args.turns, args.workers, full=full)
            rows = [
                [
                    way,
                    spread([args.images / s for s in t.wall], 0),
                    spread([args.images / s for s in t.cpu], 0),
                    spread(ratios(t.wall, times["store"].wall), 1),
                    spread(ratios(t.cpu, times["store"].cpu), 1),
                    spread(ratios(t.cpu, times["jpeg store"].cpu), 1),
                ]
                for way, t in times.items()
            ]
            headers = ["way", "images/s", "images per CPU s"]
            headers += ["wall / store's", "CPU / store's", "CPU / jpeg store's"]
            print(f"{table(rows, headers)}\n", flush=True)
    print(
        f"Epochs of {args.images} images in batches of {BATCH}, {args.turns} turns; files of"
        f" {sizes['images']:.0f} KiB, originals of {ORIGINAL[0]} x {ORIGINAL[1]} pixels and"
        f" {sizes['originals']:.0f} KiB. Wanted: the best of ImageFolder takes at least 5 times as"
        " long as the store, v2 1.5 times, and the store is within 20 % of crop; with all of"
        " office-home's, the best of ImageFolder at least 3 times as long; and 3 times as long as"
        " the jpeg store."
    )


if __name__ == "__main__":
    main()
