"""What the checks of ``performance/gpu_check.py`` run in, and the report on them."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tabulate import tabulate

COMMAND_LIMIT = 120  # seconds, of one command
NOT_RUN = """**Not run on a GPU yet.** The figures below are from CPU tensors and prove only that
the script works. They say nothing about a GPU.
"""


@dataclass(frozen=True)
class Size:
    """How much is run."""

    network: str
    methods: tuple[str, ...]  # of icons; the second one trains
    seeds: tuple[int, ...]
    steps: int  # of the network
    batch: int | None
    images: int | None  # of each class, domain and split
    turns: int


FULL = Size(
    "resnet50", ("source", "finetune", "linear-probe", "lolsgd"), (0, 1, 2), 20, None, None, 2
)
QUICK = Size("resnet18", ("source", "finetune-short"), (0, 1, 2), 1, 4, 1, 1)


class Failure(Exception):
    """What a check wanted is not so."""


def want(holds: bool, sentence: str) -> None:
    """Fail the check with a sentence unless something holds."""
    if not holds:
        raise Failure(sentence)


@dataclass
class Bench:
    """Where and how the checks run, and the figures that they leave for the report."""

    device: str
    size: Size
    folder: Path
    figures: dict[str, str] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands: an own data folder, no process that stays."""
        return {**os.environ, "HTBENCH_DATA": str(self.folder / "data"), "HTBENCH_WARM": "0"}

    def command(self, *words: object) -> list[str]:
        """A command line of htbench, from the installed package and not the working folder."""
        return [sys.executable, "-P", "-m", "htbench", *map(str, words)]

    def htbench(self, *words: object, device: str | None = None) -> str:
        """Run htbench on the device and return what it prints."""
        options = ("--device", device or self.device) if words[0] in ("run", "source") else ()
        return self.run(self.command(*words, *options))

    def run(self, words: list[str]) -> str:
        """Run a command and return what it prints; fail with the end of its error messages."""
        result = subprocess.run(
            words,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT,
        )
        line = shlex.join(words[3:])
        want(result.returncode == 0, f"`{line}` failed: {(result.stdout + result.stderr)[-2000:]}")
        return result.stdout

    def icons(self, workspace: str, *words: object, device: str | None = None) -> float:
        """Run the cells of icons in a workspace; return seconds."""
        cells = ("--suite", "icons", "--task", "outline-solid", "--workspace", workspace)
        chosen = [word for s in self.size.seeds for word in ("--seed", s)]
        if "--method" not in words:
            chosen += [word for m in self.size.methods for word in ("--method", m)]
        start = time.perf_counter()
        self.htbench("run", *cells, *chosen, *words, device=device)
        return time.perf_counter() - start

    def records(self, workspace: str) -> dict[tuple[str, int], Any]:
        """The records of a workspace's runs by label and seed."""
        from benchmark.records import RunRecord

        files = (self.folder / workspace / "runs").glob("*/run.json")
        records = [RunRecord.read(file.parent) for file in files]
        return {(record.label, record.seed): record for record in records}

    def want_same_bytes(self, other: str, *, least: int) -> str:
        """The runs that a workspace shares with ``one`` must have the same predictions."""
        first, second = self.records("one"), self.records(other)
        shared = sorted(first.keys() & second.keys())
        want(len(shared) >= least, f"{other} has {len(shared)} runs of one; wanted {least}")
        differ = [
            f"{label} seed {seed}"
            for label, seed in shared
            if first[label, seed].predictions_sha256 != second[label, seed].predictions_sha256
        ]
        want(not differ, f"other predictions: {', '.join(differ)}")
        return f"{len(shared)} runs, the same bytes"


def machine(device: str) -> str:
    """Card, driver, processor and versions, in a sentence."""
    facts = []
    if device == "cuda":
        query = [
            "nvidia-smi",
            "--query-gpu=name,driver_version,memory.total",
            "--format=csv,noheader",
        ]
        try:
            text = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        except OSError:
            text = "nvidia-smi is missing"
        facts.append(" / ".join(line.strip() for line in text.splitlines()))
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts += [f"{cores} cores", f"{memory:.0f} GiB of memory", platform.platform()]
    facts.append(f"Python {platform.python_version()}")
    for name in ("torch", "torchvision", "holistic-transfer-bench"):
        facts.append(f"{name} {metadata.version(name)}")
    load = os.getloadavg()[0]
    return f"{', '.join(facts)}; load average before the checks {load:.1f}"


def report(
    bench: Bench, results: Mapping[str, tuple[bool, float, str]], about: str, words: list[str]
) -> str:
    """The text of GPU.md."""
    rows = [
        (name, "pass" if passed else "**fail**", f"{seconds:.0f}", _cell(text))
        for name, (passed, seconds, text) in results.items()
    ]
    total = sum(seconds for _, seconds, _ in results.values())
    parts = ["# On a GPU\n"]
    if bench.device != "cuda":
        parts.append(NOT_RUN)
    parts.append(
        f"Written by `{shlex.join(['python', 'performance/gpu_check.py', *words])}` (`make "
        f"gpu-check` on a GPU), {datetime.now(UTC).date()}, in {total:.0f} s. {about}.\n"
    )
    headers = ["check", "result", "s", "detail"]
    parts.append(tabulate(rows, headers, tablefmt="github", disable_numparse=True) + "\n")
    figures = tabulate(list(bench.figures.items()), ["figure", "value"], tablefmt="github")
    parts.append(f"## Figures\n\n{figures}\n")
    parts += [
        f"## {title[0].upper()}{title[1:]}\n\n{text}\n" for title, text in bench.tables.items()
    ]
    return "\n".join(parts)


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table: the last lines of an error say most."""
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= 300 else f"... {line[-300:]}"
