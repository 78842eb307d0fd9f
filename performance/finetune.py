"""One run of fine-tuning, beside a bare torch loop on the same tensors.

    python performance/finetune.py
    python performance/finetune.py --steps 50 --turns 11

Both start from the same weights, draw the same batches and augmentations, and take the steps of
icons' recipe, in this process on one thread, which keeps freed memory as a run's does. Their final
weights must be identical. Compared is ``finetune.adapt``; what a run costs besides is in
``performance/fixed_cost.py``.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lolsgd import Adapt, seen_data
from measure import ratios, spread, table, take_turns
from torch import nn

from baselines.finetune import Finetune
from benchmark.images.augment import Transforms
from benchmark.isolation.server import keep_freed_memory
from benchmark.manifest.catalogue import load_manifest
from benchmark.method import TrainingRecipe
from benchmark.networks.build import build
from benchmark.numerics import Streams
from htbench import Run, SourceModel, TargetData

WANTED = 1.05  # times the bare loop, at most


def bare(source: SourceModel, target: TargetData, run: Run) -> nn.Module:
    """The loop as one would write it for this recipe alone."""
    model, recipe = source.copy().train(), run.recipe
    groups: list[dict[str, Any]] = [
        {"params": list(model.backbone.parameters()), "lr": recipe.backbone_lr},
        {"params": list(model.head.parameters()), "lr": recipe.head_lr},
    ]
    optimizer = torch.optim.SGD(
        groups,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    rates = [group["lr"] for group in groups]
    order, augmentation = run.stream("order"), run.stream("augmentation")
    step = 0
    while step < recipe.steps:
        epoch = torch.randperm(len(target), generator=order).split(recipe.batch_size)
        for rows in epoch[: min(recipe.steps - step, len(target) // recipe.batch_size)]:
            factor = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            images = run.transforms.augment(target.images[rows], augmentation)
            loss = F.cross_entropy(model(images), target.labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
    return model.eval()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, help="default: the recipe's")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    manifest = load_manifest("icons@2.0")
    target = seen_data(manifest)
    recipe = TrainingRecipe.from_table(manifest.document["recipe"])
    recipe = replace(recipe, steps=args.steps or recipe.steps)
    transforms = Transforms(manifest.document["transforms"])
    source = SourceModel(build(manifest.document["model"], len(manifest.classes)), "0" * 64)
    with tempfile.TemporaryDirectory() as folder:

        def run(adapt: Adapt) -> nn.Module:
            streams = Streams(0)  # the same draws in every turn
            settings = (torch.device("cpu"), recipe, transforms, streams, Path(folder))
            return adapt(source, target, Run(*settings))

        ways: dict[str, Adapt] = {"finetune": Finetune().adapt, "bare loop": bare}
        first, second = (run(adapt).state_dict() for adapt in ways.values())
        assert all(torch.equal(first[name], second[name]) for name in first)
        times = take_turns({name: partial(run, adapt) for name, adapt in ways.items()}, args.turns)
    over = {kind: ratios(*(getattr(t, kind) for t in times.values())) for kind in ("wall", "cpu")}
    rows = [[name, spread(t.wall), spread(t.cpu)] for name, t in times.items()]
    rows.append(["finetune / bare loop", *(spread(over[kind], 3) for kind in ("wall", "cpu"))])
    print(table(rows, ["way", "wall s", "CPU s"]))
    print(
        f"\n{recipe.steps} steps of {recipe.batch_size} from {len(target)} images, {args.turns}"
        f" turns; identical final weights. Wanted: at most {WANTED} times the bare loop."
    )


if __name__ == "__main__":
    main()
