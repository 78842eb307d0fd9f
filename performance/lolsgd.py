"""What leave-out local SGD costs beside fine-tuning, at the same number of gradient steps.

    python performance/lolsgd.py
    python performance/lolsgd.py --repeats 9 --steps 200

All methods adapt in this process, on one thread, in turns: a machine that slows down slows down
every one of them. The images are those of the first task of `icons`; the network is its network
with random weights, for the time of a step does not depend on their values. Beside the suite's
`lolsgd` stands what a user would write instead: a fresh copy of the model for each local model, all
M kept, and their mean taken over a stack.
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
from benchmark.images.raw import join, open_images
from benchmark.images.store import Need, open_store, store_kind
from benchmark.manifest import Manifest, load_manifest
from benchmark.method import Recipe
from benchmark.models import build
from benchmark.numerics import Streams
from htbench import Method, Run, SourceModel, TargetData, cosine, fit

LIMIT = 1.2  # times fine-tuning, at the same number of gradient steps

Adapt = Callable[[SourceModel, TargetData, Run], nn.Module]


class Naive(LOLSGD):
    """The same method as it would be written without a thought for its cost."""

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """theta <- mean over m of SGD(theta; D without the classes left out by m), per round."""
        rounds = self._rounds(run.recipe.steps)
        model = source.copy()
        for number in range(rounds):
            locals_ = []
            for _ in range(self.local_models):
                local = copy.deepcopy(model)
                kept = target.only(self._kept_classes(target, run))
                factor = cosine(number, rounds)
                fit(local, kept, run, steps=self.local_steps, rate=lambda _, f=factor: f)
                locals_.append({k: v.clone() for k, v in local.state_dict().items()})
            model.load_state_dict(
                {
                    name: torch.stack([state[name] for state in locals_]).double().mean(0)
                    for name in locals_[0]
                }
            )
        return model


def seen_data(manifest: Manifest) -> TargetData:
    """The training images of the first task's seen classes."""
    task = manifest.tasks[0]
    seen = torch.from_numpy(manifest.seen_mask(task))
    classes = seen.nonzero().squeeze(1).tolist()
    store = open_store(
        manifest, task.target, lambda done, total: None, Need(frozenset(classes)), print
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
    """Seconds that a method takes to adapt."""
    begun = perf_counter()
    method.adapt(source, target, run)
    return perf_counter() - begun


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
    manifest = load_manifest("icons@1.0")
    target = seen_data(manifest)
    recipe = replace(Recipe.of(manifest.document["recipe"]), steps=args.steps)
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
    plain = times.pop("finetune")[1:]  # the first turn finds cold caches
    rows = [["finetune", median(plain), 1.0, 1.0, 1.0]]
    for name, taken in times.items():
        ratios = [a / b for a, b in zip(taken[1:], plain, strict=True)]
        rows.append([name, median(taken[1:]), median(ratios), min(ratios), max(ratios)])
    print(f"{args.steps} gradient steps on {len(target)} images, {args.repeats} turns")
    columns = ["method", "median s", "times finetune", "least", "most"]
    print(tabulate(rows, columns, floatfmt=".2f"))
    over = rows[1][2] > LIMIT
    verdict = "OVER" if over else "within"
    print(f"\nlolsgd at its defaults costs {rows[1][2]:.2f} times finetune: {verdict} {LIMIT}")
    sys.exit(over)


if __name__ == "__main__":
    main()
