"""A step of training on a GPU, by the switches of torch and by the layout of images and weights.

    python performance/gpu_steps.py
    python performance/gpu_steps.py --device cpu --networks resnet18 --batch 4 --steps 2

Times a step on random images that are on the device (forward, backward, SGD with momentum) and, in
brackets, a prediction of the same batch. ``TF32`` is what recipes with ``tf32 = true`` have; runs
use deterministic kernels.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch
import torch.nn.functional as F
from measure import table
from torch import Tensor, nn

from benchmark.errors import UsageError
from benchmark.networks.build import build
from benchmark.runs.plan import resolve_device

CLASSES = 65
CASES = (("resnet50", 64, 224), ("resnet18", 64, 224), ("mobilenet_v2", 32, 112))
SWITCHES = {  # TF32, deterministic kernels
    "float32, as runs": (False, True),
    "TF32, as runs": (True, True),
    "float32, not deterministic": (False, False),
}
LAYOUTS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
WARM = 3  # steps before those that count


@contextmanager
def switched(tf32: bool, deterministic: bool) -> Iterator[None]:
    """Set the switches, and back."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def milliseconds(work: Callable[[], object], device: torch.device, steps: int) -> float:
    """The mean time of some work."""
    for _ in range(WARM):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = perf_counter()
    for _ in range(steps):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (perf_counter() - start) / steps


def step_of(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """A step of SGD with momentum."""
    optimizer = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9, nesterov=True)

    def step() -> None:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def cell(name: str, images: Tensor, labels: Tensor, layout: torch.memory_format, steps: int) -> str:
    """Milliseconds of a step, and of a prediction in brackets."""
    size = images.shape[-1]
    model = build({"name": name}, CLASSES, size).to(images.device).to(memory_format=layout)
    images = images.contiguous(memory_format=layout)
    training = milliseconds(step_of(model.train(), images, labels), images.device, steps)
    model.eval()
    with torch.inference_mode():
        predicting = milliseconds(lambda: model(images), images.device, steps)
    return f"{training:.1f} ({predicting:.1f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [name for name, *_ in CASES]
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", choices=names, default=names)
    parser.add_argument("--batch", type=int, help="default: that of the network")
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    try:
        resolve_device(args.device)
    except UsageError as error:
        parser.error(str(error))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic products
    device = torch.device(args.device)
    torch.manual_seed(0)
    rows = []
    for name, batch, size in CASES:
        if name not in args.networks:
            continue
        images = torch.randn(args.batch or batch, 3, size, size, device=device)
        labels = torch.randint(CLASSES, (len(images),), device=device)
        for title, layout in LAYOUTS.items():
            rows.append([f"{name}, {len(images)} x {size} px", title])
            for switches in SWITCHES.values():
                with switched(*switches):
                    rows[-1].append(cell(name, images, labels, layout, args.steps))
    print(table(rows, ["network", "layout", *SWITCHES]))
    print(f"\nMilliseconds on {args.device}, means of {args.steps} steps after {WARM}.")


if __name__ == "__main__":
    main()
