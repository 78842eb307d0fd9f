"""How far the predictions of a suite differ between two CPU settings.

    python performance/cpu_settings.py
    python performance/cpu_settings.py --task outline-solid --seed 0 --isa AVX2

Source models are pinned, so results of two machines may share a table although their CPUs round
differently. This carries out the same runs of an embedded data set three times, each with a
temporary workspace and data folder (which keeps features of source models): as they are, with the
instruction set of oneDNN (which computes convolutions) limited by its environment variable
`ONEDNN_MAX_CPU_ISA`, and with those of PyTorch's own kernels and of MKL limited as well, as on an
older CPU. For the runs of each method it prints the largest difference of two logits, the share of
test images whose predicted class differs, and how much the accuracies differ.

A run receives only some variables of the environment, and these three are not among them, so this
process adds them. The runs' records say which instruction set PyTorch's kernels used; that oneDNN's
was limited shows in the bytes of the predictions only.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias
from unittest import mock

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from benchmark.driver import plan_suite
from benchmark.errors import HTBenchError
from benchmark.isolation import launch
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import load_suite, manifest_of
from benchmark.progress import Silent
from benchmark.records import PREDICTIONS_FILE, RunRecord
from benchmark.runs.workspace import Workspace
from leaderboard.predictions import read_logits_and_labels
from leaderboard.scoring import Scores, score

SHOWN = ("overall", "seen", "missing")

Cell: TypeAlias = tuple[str, str, int]  # method, task, seed
Logits: TypeAlias = npt.NDArray[np.float32]  # of shape (N, C)


def settings_of(isa: str) -> dict[str, dict[str, str]]:
    """The environment variables of each setting, the unlimited one first."""
    onednn = {"ONEDNN_MAX_CPU_ISA": isa}
    others = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    return {"as is": {}, f"oneDNN {isa}": onednn, f"oneDNN {isa}, others AVX2": onednn | others}


def carry_out(
    options: argparse.Namespace, variables: Mapping[str, str]
) -> tuple[list[RunRecord], dict[Cell, tuple[Logits, Scores]]]:
    """The records, logits and scores of the runs with some environment variables."""
    suite = load_suite(options.suite)
    kept = (*launch.KEPT_VARIABLES, *variables)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(launch, "KEPT_VARIABLES", kept),
        mock.patch.dict(os.environ, {**variables, "HTBENCH_DATA": f"{folder}/data"}),
    ):
        workspace = Workspace(Path(folder, "workspace"))
        selection = {"tasks": options.tasks, "methods": options.methods, "seeds": options.seeds}
        with plan_suite(suite, workspace, **selection) as plan:
            records = plan.execute(None, Silent())
        if failed := [record.label for record in records if record.status != "ok"]:
            sys.exit(f"runs failed: {', '.join(failed)}")
        manifest = manifest_of(suite)
        return records, {
            (record.label, record.task, record.seed): _scored(
                workspace.folder(record.key) / PREDICTIONS_FILE, manifest, record.task
            )
            for record in records
        }


def _scored(path: Path, manifest: Manifest, task: str) -> tuple[Logits, Scores]:
    logits, labels = read_logits_and_labels(path, manifest, task)
    return logits, score(logits, labels, manifest.seen_mask(manifest.task(task)))


def compared(
    method: str,
    before: Mapping[Cell, tuple[Logits, Scores]],
    after: Mapping[Cell, tuple[Logits, Scores]],
) -> list[str]:
    """A line of the table: the differences of a method's runs, and of its means over the runs."""
    cells = [cell for cell in before if cell[0] == method]
    logits = max(float(np.abs(before[c][0] - after[c][0]).max()) for c in cells)
    changed = np.concatenate(
        [before[c][0].argmax(axis=1) != after[c][0].argmax(axis=1) for c in cells]
    )
    differences = np.array(
        [[getattr(after[c][1], n) - getattr(before[c][1], n) for n in SHOWN] for c in cells]
    )
    return [
        method,
        str(len(cells)),
        f"{logits:.2g}",
        f"{100 * changed.mean():.2f} %",
        *(
            f"{mean:+.2f} ({largest:.2f})"
            for mean, largest in zip(
                differences.mean(axis=0), np.abs(differences).max(axis=0), strict=True
            )
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, carry out the runs, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--suite", default="icons")
    parser.add_argument("--method", dest="methods", action="append")
    parser.add_argument("--task", dest="tasks", action="append")
    parser.add_argument("--seed", dest="seeds", action="append", type=int)
    parser.add_argument("--isa", default="AVX2", help="a value of ONEDNN_MAX_CPU_ISA")
    options = parser.parse_args(arguments)
    results = {}
    try:
        options.methods = options.methods or list(load_suite(options.suite).methods)
        options.tasks, options.seeds = options.tasks or [], options.seeds or []
        for name, variables in settings_of(options.isa).items():
            records, results[name] = carry_out(options, variables)
            facts = records[0].environment
            print(f"{name}: PyTorch's kernels used {facts['cpu_capability']} on {facts['cpu']}")
    except HTBenchError as error:
        parser.error(str(error))
    first, *others = results
    headers = ["method", "runs", "max |logit|", "class differs", *SHOWN]
    for other in others:
        rows = [compared(method, results[first], results[other]) for method in options.methods]
        print(f"\n{other}, against {first}; accuracies: points of the mean (largest of a run)")
        print(tabulate(rows, headers, disable_numparse=True))


if __name__ == "__main__":
    main()
