"""Import, verify and store as many small JPEG files as DomainNet has.

    python performance/many_images.py                 414,075 files: about 16 GB of disk
    python performance/many_images.py --share 0.1     a tenth of them

The files have DomainNet's real names; what they show is generated, 128 different images of 64
pixels. Importing is measured beside `find` and `cp -as`, which make the same links without matching
names; verifying, in turns, beside a pool of processes that only decodes every file. Each is a new
process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import generated_images
import pyarrow as pa
import pyarrow.parquet as pq
from measure import ratios, spread, table

from benchmark.images.place import images_folder
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.read import read_manifest
from benchmark.manifest.toml import to_toml

SIDE = 64  # pixels of a file
WANTED = 1.3  # times the decode loop, at most, to verify
VERIFY, DECODING = "htbench data verify", "a pool that decodes"
DECODE = """
import os, sys
from multiprocessing import Pool
from pathlib import Path
from PIL import Image

def decode(path):
    with Image.open(path) as image:
        image.convert("RGB").load()

if __name__ == "__main__":
    paths = [Path(folder, name) for folder, _, names in os.walk(sys.argv[1]) for name in names]
    with Pool() as pool:
        for _ in pool.imap_unordered(decode, paths, chunksize=256):
            pass
"""
STORE = """
import sys
from pathlib import Path
from benchmark.images.store.store import open_store
from benchmark.manifest.read import read_manifest

if __name__ == "__main__":
    manifest = read_manifest(Path(sys.argv[1]))
    for domain in manifest.domains:
        open_store(manifest, domain.name)
"""

# A process of this one's size would count this one's memory as its own.
LAUNCH = """
import json, os, subprocess, sys
from time import perf_counter

start = perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
wall = perf_counter() - start
if status:
    sys.exit(f"{sys.argv[1:]} failed")
print(json.dumps([wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000]))
"""


@dataclass(frozen=True)
class Cost:
    """Seconds of a command, on the clock and of all processors, and MB of its largest process."""

    wall: float
    cpu: float
    memory: float


def cost(*words: object) -> Cost:
    """Run a command."""
    command = (sys.executable, "-c", LAUNCH, *map(str, words))
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Cost(*json.loads(output))


def write_manifest(folder: Path, share: float) -> Manifest:
    """DomainNet's manifest under another name, with some rows of each class, domain and split."""
    whole = load_manifest("domainnet@1.0")
    folder.mkdir(parents=True)
    document = {**whole.document, "name": "many-images"}
    (folder / "manifest.toml").write_text(to_toml(document), "utf-8")
    cells = zip(*(whole.table[c].to_pylist() for c in ("domain", "class", "split")), strict=True)
    counts: Counter[tuple[str, str, str]] = Counter()
    keep = []
    for cell in cells:
        keep.append(counts[cell] % round(1 / share) == 0)
        counts[cell] += 1
    pq.write_table(whole.table.filter(pa.array(keep)), folder / "images.parquet")
    return read_manifest(folder)


def measure(folder: Path, share: float, turns: int) -> tuple[int, dict[str, list[Cost]]]:
    """The number of files, and the cost of each way in each of its turns."""
    os.environ["HTBENCH_DATA"] = str(folder / "data")
    manifest = write_manifest(folder / "manifest", share)
    generated_images.SIDE = SIDE
    generated_images.write_images(manifest)
    source = folder / "downloaded"
    shutil.move(images_folder(manifest), source)
    htbench = (sys.executable, "-P", "-m", "htbench", "data")
    costs: dict[str, list[Cost]] = {}

    def add(name: str, *words: object) -> None:
        os.sync()  # so that no way pays for another
        costs.setdefault(name, []).append(cost(*words))
        print(f"{name}: {costs[name][-1].wall:.1f} s", file=sys.stderr)

    add("htbench data import", *htbench, "import", manifest.root, source)
    copy = f"find {source} -type f && cp -as {source} {folder}/links"
    add("find and cp -as", "sh", "-c", copy)
    for _ in range(turns):
        add(VERIFY, *htbench, "verify", manifest.root)
        add(DECODING, sys.executable, "-c", DECODE, source)
    add(
        f"the stores of {len(manifest.domains)} domains", sys.executable, "-c", STORE, manifest.root
    )
    return manifest.table.num_rows, costs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the files  [1]")
    parser.add_argument("--turns", type=int, default=3, help="of verifying and decoding  [3]")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: a new one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        count, costs = measure(Path(folder), arguments.share, arguments.turns)
    rows = [
        [
            name,
            spread([each.wall for each in turns], 1),
            spread([each.cpu for each in turns], 1),
            f"{max(each.memory for each in turns):,.0f}",
        ]
        for name, turns in costs.items()
    ]
    print(f"{count:,} files of {SIDE} x {SIDE} pixels\n")
    print(table(rows, ["way", "wall s", "processor s", "peak MB of a process"]))
    verify, decode = ([each.wall for each in costs[name]] for name in (VERIFY, DECODING))
    print(
        f"\nVerifying takes {spread(ratios(verify, decode))} times as long as decoding alone;"
        f" wanted: at most {WANTED}."
    )


if __name__ == "__main__":
    main()
