"""The speed of training on a device, beside a bare torch loop and ImageFolder with DataLoader.

    python performance/gpu_speed.py FOLDER --device cuda

FOLDER has a manifest whose images and source model are here; ``performance/gpu_check.py`` writes
one and runs this as a separate process. The ways take turns, and each takes the steps once to
warm up. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from finetune import bare
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from baselines.finetune import Finetune
from benchmark.images.place import images_folder
from benchmark.in_process import open_arguments
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.read import read_manifest
from benchmark.numerics import Streams
from benchmark.progress import Silent
from htbench import Run, SourceModel, TargetData

Way = Callable[[], Any]


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def peer_transform(manifest: Manifest) -> T.Compose:
    """The manifest's training augmentation, in torchvision's transforms of the same names."""
    crop, flip, jitter, grey = manifest.document["transforms"]["train"]
    settings = manifest.document["transforms"]
    colours = {name: value for name, value in jitter.items() if name != "op"}
    return T.Compose(
        [
            T.RandomResizedCrop(manifest.input_size, crop["scale"], crop["ratio"]),
            T.RandomHorizontalFlip(flip["p"]),
            T.ColorJitter(**colours),
            T.RandomGrayscale(grey["p"]),
            T.ToTensor(),
            T.Normalize(settings["mean"], settings["std"]),
        ]
    )


class Peer:
    """Fine-tuning as most code does it: ImageFolder, DataLoader, and a loop."""

    def __init__(self, manifest: Manifest, source: SourceModel, run: Run, workers: int) -> None:
        folder = images_folder(manifest) / manifest.tasks[0].target
        data = ImageFolder(str(folder), peer_transform(manifest))
        is_cuda = run.device.type == "cuda"
        self._loader: Any = DataLoader(
            data,
            min(run.recipe.batch_size, len(data)),
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            pin_memory=is_cuda,
            persistent_workers=workers > 0,
        )
        self._batches = self._endless()
        self._source, self._run = source, run

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self._loader

    def train(self) -> None:
        """Take the recipe's steps."""
        recipe, device = self._run.recipe, self._run.device
        model: nn.Module = self._source.copy().train()
        optimizer = torch.optim.SGD(
            model.parameters(), recipe.backbone_lr, momentum=recipe.momentum, nesterov=True
        )
        for _ in range(recipe.steps):
            images, labels = (part.to(device, non_blocking=True) for part in next(self._batches))
            images = images.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()


def with_tf32(way: Way) -> Way:
    """The way with the tensor cores' shortened floats, which runs do not use."""

    def run() -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        try:
            way()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    return run


def with_bfloat16(way: Way, device: torch.device) -> Way:
    """The way under autocast, which runs do not use."""

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            way()

    return run


def measure(ways: dict[str, Way], device: torch.device, turns: int) -> dict[str, list[float]]:
    """Seconds of each way in each turn, after one turn to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            synchronize(device)
            start = perf_counter()
            way()
            synchronize(device)
            if turn:
                seconds[name].append(perf_counter() - start)
    return seconds


def peak_memory(way: Way, device: torch.device) -> int | None:
    """Bytes of tensors that a way holds at most on a GPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    way()
    return torch.cuda.max_memory_allocated()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    device = torch.device(args.device)
    start = perf_counter()
    torch.zeros(1, device=device)
    context = perf_counter() - start
    manifest = read_manifest(args.folder)
    with tempfile.TemporaryDirectory() as scratch:
        source, target, run = open_arguments(
            manifest,
            manifest.tasks[0],
            seed=0,
            device=args.device,
            monitor=Silent(),
            scratch=Path(scratch),
        )
        result = compare(manifest, source, target, run, args)
    print(json.dumps({**result, "context_seconds": context}))


def compare(
    manifest: Manifest, source: SourceModel, target: TargetData, run: Run, args: argparse.Namespace
) -> dict[str, Any]:
    """The figures, by name."""
    device = run.device
    recipe = replace(run.recipe, steps=args.steps)

    def new_run() -> Run:
        return replace(run, recipe=recipe, stream=Streams(0), history=[], total_steps=0)

    def by(adapt: Callable[[SourceModel, TargetData, Run], nn.Module]) -> nn.Module:
        return adapt(source, target, new_run())

    def augment() -> None:
        rows = torch.arange(min(recipe.batch_size, len(target)), device=device)
        generator = Streams(0)("augmentation")
        for _ in range(recipe.steps):
            run.transforms.augment(target.images[rows], generator)

    first, second = (by(adapt).state_dict() for adapt in (Finetune().adapt, bare))
    loop = partial(by, bare)
    ways: dict[str, Way] = {
        "finetune of htbench": partial(by, Finetune().adapt),
        "a bare loop on the same tensors": loop,
        f"ImageFolder + DataLoader, {args.workers} workers": Peer(
            manifest, source, new_run(), args.workers
        ).train,
        "the augmentation alone": augment,
    }
    if device.type == "cuda":
        ways["the bare loop, TF32"] = with_tf32(loop)
        ways["the bare loop, bfloat16"] = with_bfloat16(loop, device)
    seconds = measure(ways, device, args.turns)
    batch = min(recipe.batch_size, len(target))
    images = {name: recipe.steps * batch / median(values) for name, values in seconds.items()}
    steps = {name: recipe.steps / median(values) for name, values in seconds.items()}
    return {
        "steps": recipe.steps,
        "batch": batch,
        "training_images": len(target),
        "same_weights_as_bare_loop": all(torch.equal(first[n], second[n]) for n in first),
        "images_per_second": images,
        "steps_per_second": steps,
        "peak_memory": peak_memory(partial(by, Finetune().adapt), device),
        "images_on_device": str(target.images.device),
    }


if __name__ == "__main__":
    main()
