"""One run as most code of this field does it: a new process, ImageFolder and DataLoader.

``performance/suite.py`` starts it, on a folder that ``htbench splits export`` has written. It
trains with the settings of icons' recipe and predicts the test images.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from benchmark.manifest.catalogue import load_manifest
from benchmark.networks.build import build

RATE = 0.027
NORMALIZE = T.Normalize([0.5] * 3, [0.25] * 3)
TRAIN = T.Compose(
    [
        T.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), interpolation=T.InterpolationMode.BILINEAR),
        T.RandomHorizontalFlip(),
        T.ToTensor(),
        NORMALIZE,
    ]
)
TEST = T.Compose([T.ToTensor(), NORMALIZE])


def endless(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches, epoch after epoch."""
    while True:
        yield from loader


def train(model: nn.Module, folder: Path, steps: int, workers: int) -> None:
    """Take steps of SGD with a cosine schedule."""
    data = ImageFolder(str(folder), TRAIN, allow_empty=True)
    loader = DataLoader(
        data,
        64,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    batches = endless(loader)
    optimizer = torch.optim.SGD(
        model.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        images, labels = next(batches)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def main() -> None:
    """Train and predict."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="the source model")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    model = build(load_manifest("icons@2.0").model, 65).to(memory_format=torch.channels_last)
    model.load_state_dict(load_file(args.weights))
    if args.steps:
        train(model, args.folder / "train", args.steps, args.workers)
    model.eval()
    data = ImageFolder(str(args.folder / "test"), TEST)
    test = DataLoader(data, 256, num_workers=args.workers)
    with torch.inference_mode():
        predicted = torch.cat([model(images).argmax(dim=1) for images, _ in test])
    print(f"accuracy {float((predicted == torch.tensor(data.targets)).float().mean()):.4f}")


if __name__ == "__main__":
    main()
