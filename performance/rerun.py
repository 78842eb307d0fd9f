"""The cost of a second run of a changed plugin: what `htbench run` takes beyond the run itself.

    python performance/rerun.py
    python performance/rerun.py --repeats 20
    chrt --rr 1 python performance/rerun.py  # where other programs run as well

Changes a plugin that trains nothing, and runs it on one icons cell, again and again: with a process
that waits between commands, and without (HTBENCH_WARM=0). Prints the median wall time of the whole
command without the recorded seconds of the run, the processor time of the command, and that of its
fork server without the run; and what the waiting process takes. On a loaded machine, processor time
says more. If the source model of the task does not exist, it is trained first, in the data folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

from tabulate import tabulate

LIMIT = 1.5  # seconds that a second run may cost beyond the run itself
PLUGIN = '''
import htbench


class Copy(htbench.Method):
    """Adapts nothing; number {number}."""

    name = "copy-of-source"

    def adapt(self, source, target, run):
        return source.copy()
'''
ROWS = {
    "wall": "wall time",
    "least": "least wall time",
    "command": "processor time of the command and its children",
    "server": "that of the fork server, which is a child of the waiting process",
    "run": "the run itself",
}


class Loop:
    """Edits and runs a plugin in a temporary folder.

    Args:
        folder: an empty folder.
        warm: whether a process waits between commands.
    """

    def __init__(self, folder: Path, warm: bool) -> None:
        self.folder, self._number = folder, 0
        (folder / "run").mkdir(mode=0o700)
        self._environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder / "run")}
        self._environment |= {"HTBENCH_WARM": "60" if warm else "0"}

    def again(self) -> dict[str, float]:
        """Change the plugin and run it; seconds beyond the run itself."""
        self._number += 1
        (self.folder / "plugin.py").write_text(PLUGIN.format(number=self._number))
        runs = self.folder / "workspace" / "runs"
        before = set(runs.glob("*"))
        spent, waiting = _children(), self._of_servers()
        start = perf_counter()
        words = "run --suite icons --task outline-solid --seed 0 --jobs 1 --plugin plugin.py"
        subprocess.run(
            [sys.executable, "-m", "htbench", *words.split(), "--workspace", "workspace"],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            check=True,
        )
        wall = perf_counter() - start
        sleep(0.5)  # until the waiting process has noted the end of the server
        (run,) = set(runs.glob("*")) - before
        seconds = json.loads((run / "run.json").read_text())["cost"]["wall_seconds"]
        server = self._of_servers() - waiting - seconds
        return {
            "wall": wall - seconds,
            "command": _children() - spent,
            "server": server if self.process else float("nan"),
            "run": seconds,
        }

    @property
    def process(self) -> int | None:
        """The process that waits."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "benchmark.isolation.warm" in words and str(self.folder) in " ".join(words):
                return int(folder.name)
        return None

    def _of_servers(self) -> float:
        """Processor seconds of the fork servers of the waiting process that have ended."""
        if (process := self.process) is None:
            return 0.0
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def memory(process: int) -> dict[str, float]:
    """MiB of a process: its own, and those with what it shares, in equal parts."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name.rstrip(":"): int(size) / 1024 for name, size, *_ in map(str.split, lines)}
    return {"own": sizes["Private_Dirty"] + sizes["Private_Clean"], "proportional": sizes["Pss"]}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="runs; the median is shown")
    args = parser.parse_args()
    medians: dict[str, dict[str, float]] = {}
    for name, warm in (("a process waits", True), ("none waits", False)):
        with tempfile.TemporaryDirectory(prefix="rerun-") as folder:
            loop = Loop(Path(folder), warm)
            loop.again()  # the first run, which is not measured
            sleep(3)
            rows = [loop.again() for _ in range(args.repeats)]
            medians[name] = {key: median(row[key] for row in rows) for key in rows[0]}
            medians[name]["least"] = min(row["wall"] for row in rows)
            if warm:
                assert loop.process is not None, "no process waits"
                sizes = memory(loop.process)
                subprocess.run(["kill", str(loop.process)], check=True)
    table = [
        [text, *(f"{values[key]:.2f}".replace("nan", "-") for values in medians.values())]
        for key, text in ROWS.items()
    ]
    print(f"Seconds of a changed plugin's run beyond the run itself, median of {args.repeats}")
    print(tabulate(table, ["", *medians], disable_numparse=True))
    print(
        f"\nThe waiting process: one thread, {sizes['own']:.0f} MiB for itself "
        f"({sizes['proportional']:.0f} MiB with its part of shared files)"
    )
    wall = medians["a process waits"]["wall"]
    print(f"{wall:.2f} s: {'within' if wall <= LIMIT else 'OVER'} the limit of {LIMIT:.1f} s")


if __name__ == "__main__":
    main()
