"""The cost of leave-out local SGD relative to fine-tuning, at the same number of gradient steps.

    python performance/lolsgd.py
    python performance/lolsgd.py --repeats 9 --steps 200

All methods adapt in this process, on one thread and in turns, so that a slowdown of the machine
affects all of them. The images are those of the first task of `icons`. The network is that of
`icons` with random weights, since the time of a step does not depend on them. For comparison with
`lolsgd`, there is a simple implementation: a new copy of the model for each local model, all M kept
in memory, and their mean computed over a stack.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from tabulate import tabulate
from torch import nn

from baselines.finetune import Finetune
from baselines.lolsgd import LOLSGD
from benchmark.images.augment import Transforms
from benchmark.images.store.store import ImageNeed, open_store, store_kind
from benchmark.images.store.tensors import join, open_images
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from benchmark.method import TrainingRecipe
from benchmark.networks.build import build
from benchmark.numerics import Streams
from htbench import Method, Run, SourceModel, TargetData, cosine

LIMIT = 1.2  # the maximum cost, as a multiple of fine-tuning

Adapt = Callable[[SourceModel, TargetData, Run], nn.Module]


class Naive(LOLSGD):
    """A simple implementation of the same method."""

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Repeat theta <- mean over m of SGD(theta; D without the classes that m leaves out)."""
        rounds = self.default_rounds(run.recipe.steps)
        model = source.copy()
        for round_index in range(rounds):
            states = []
            for _ in range(self.local_models):
                local = copy.deepcopy(model)
                local_target = target.only(self._kept_classes(target, run))
                rate = cosine(round_index, rounds)
                self.train_locally(local, source, local_target, run, rate)
                states.append({k: v.clone() for k, v in local.state_dict().items()})
            model.load_state_dict(
                {
                    name: torch.stack([state[name] for state in states]).double().mean(0)
                    for name in states[0]
                }
            )
        return model


def seen_data(manifest: Manifest) -> TargetData:
    """Return the training images of the first task's seen classes."""
    task = manifest.tasks[0]
    seen = torch.from_numpy(manifest.seen_mask(task))
    classes = seen.nonzero().squeeze(1).tolist()
    store = open_store(
        manifest, task.target, lambda done, total: None, ImageNeed(frozenset(classes)), print
    )
    parts, labels = [], []
    for path, label, count in store.train_files(classes):
        with path.open("rb") as file:
            parts.append(
                open_images(file.fileno(), count, manifest.image_size, store_kind(manifest))
            )
        labels.append(torch.full((count,), label, dtype=torch.int64))
    return TargetData(join(parts, manifest.image_size), torch.cat(labels), manifest.classes, seen)


def one(method: Method, source: SourceModel, target: TargetData, run: Run) -> float:
    """Return the time of ``adapt``, in seconds."""
    start = perf_counter()
    method.adapt(source, target, run)
    return perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="turns; the median is shown")
    parser.add_argument("--steps", type=int, default=200, help="gradient steps of every method")
    args = parser.parse_args()
    if args.steps % 50:
        parser.error("--steps must be a multiple of 50: ten local models of five steps")

    torch.set_num_threads(1)
    manifest = load_manifest("icons@2.0")
    target = seen_data(manifest)
    recipe = replace(TrainingRecipe.from_table(manifest.document["recipe"]), steps=args.steps)
    transforms = Transforms(manifest.document["transforms"])
    source = SourceModel(build(manifest.document["model"], len(manifest.classes)), "0" * 64)
    methods: dict[str, Method] = {"finetune": Finetune()}
    for models, steps in ((10, 5), (20, 5), (40, 5), (10, 10), (10, 2), (10, 1)):
        if args.steps % (models * steps) == 0:
            methods[f"lolsgd, M = {models}, {steps} local steps"] = LOLSGD(models, steps)
    methods["naive lolsgd, M = 10, 5 local steps"] = Naive(10, 5)
    times: dict[str, list[float]] = {name: [] for name in methods}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(args.repeats + 1):
            for name, method in methods.items():
                run = Run(torch.device("cpu"), recipe, transforms, Streams(repeat), Path(folder))
                times[name].append(one(method, source, target, run))
    plain = times.pop("finetune")[1:]  # the caches are cold in the first turn
    rows = [("finetune", median(plain), 1.0, 1.0, 1.0)]
    for name, durations in times.items():
        ratios = [a / b for a, b in zip(durations[1:], plain, strict=True)]
        rows.append((name, median(durations[1:]), median(ratios), min(ratios), max(ratios)))
    print(f"{args.steps} gradient steps on {len(target)} images, {args.repeats} turns")
    columns = ["method", "median s", "times finetune", "least", "most"]
    print(tabulate(rows, columns, floatfmt=".2f"))
    is_over = rows[1][2] > LIMIT
    verdict = "OVER" if is_over else "within"
    print(
        f"\nlolsgd with default settings costs {rows[1][2]:.2f} times finetune: {verdict} {LIMIT}"
    )
    sys.exit(is_over)


if __name__ == "__main__":
    main()
