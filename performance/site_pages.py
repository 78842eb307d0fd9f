"""The size and speed of a site with many methods, tasks and seeds, in headless Chromium.

    python performance/site_pages.py
    python performance/site_pages.py --methods 50 --tasks 10

It writes a site from synthetic rows and prints the size of the home page, the time until it is
ready, and the longest time of a click (sort, filter, metric, costs) until the next frame.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from playwright.sync_api import Page, sync_playwright

from benchmark.files import digest_json
from benchmark.manifest.suite import load_suite, manifest_of
from benchmark.records import PROTOCOL
from leaderboard.board import Board, build_boards
from leaderboard.render.site import write_site
from leaderboard.rows import COUNTS, METRICS, SCHEMA

CLICKS = {
    "sort": "document.querySelector('th[data-key=missing] button').click()",
    "filter": "(() => { const f = document.getElementById('filter'); f.value = '7';"
    " f.dispatchEvent(new Event('input')); })()",
    "metric": "(() => { const m = document.getElementById('metric'); m.value = 'seen';"
    " m.dispatchEvent(new Event('change')); })()",
    "costs": "document.getElementById('costs').click()",
}
FRAME = "new Promise(r => requestAnimationFrame(() => setTimeout(r)))"


def synthetic_board(methods: int, tasks: int) -> Board:
    """A board of icons with copies of its tasks, from rows without outcomes."""
    suite = load_suite("icons")
    manifest = manifest_of(suite)
    first = manifest.document["tasks"]
    copies = [{**first[i % len(first)], "id": f"task-{i:02d}"} for i in range(tasks)]
    manifest = dataclasses.replace(manifest, document={**manifest.document, "tasks": copies})
    names = [f"method-number-{i:03d}" for i in range(methods - 1)]
    suite = dataclasses.replace(
        suite, tasks=tuple(task["id"] for task in copies), methods=("source", *names)
    )
    random = np.random.default_rng(0)
    fixed = dict.fromkeys(SCHEMA.names) | dict.fromkeys(COUNTS, 100)
    fixed |= {
        "status": "ok",
        "manifest": manifest.reference,
        "manifest_digest": manifest.digest,
        "protocol": PROTOCOL,
        "model": json.dumps(manifest.document["model"]),
        "recipe_digest": digest_json(manifest.recipe),
        "track": "standard",
        "source_digest": "0" * 64,
        "measured_finished": 1.0,
    }
    rows = []
    for number, label in enumerate(suite.methods):
        for task in suite.tasks:
            for seed in suite.seeds:
                values = (20 + 60 * number / methods + random.normal(0, 2, len(METRICS))).tolist()
                cell = {"label": label, "method": label, "task": task, "seed": seed}
                scores = dict(zip(METRICS, values, strict=True))
                rows.append({**fixed, **cell, **scores, "key": digest_json(cell)})
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return build_boards(suite, manifest, table)[0]


def measure(page: Page, address: str) -> dict[str, float]:
    """Milliseconds until the page is ready, and of each click."""
    started = time.perf_counter()
    page.goto(address)
    page.evaluate(FRAME)
    times = {"ready": 1000 * (time.perf_counter() - started)}
    for name, click in CLICKS.items():
        times[name] = page.evaluate(
            f"(async () => {{ const t = performance.now(); {click}; await {FRAME};"
            " return performance.now() - t; })()"
        )
    return times


def main() -> None:
    """Write a site and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        started = time.perf_counter()
        board = synthetic_board(arguments.methods, arguments.tasks)
        built = time.perf_counter()
        write_site(site, [board], {}, {})
        print(f"board {built - started:.1f} s, site {time.perf_counter() - built:.1f} s")
        sizes = [path.stat().st_size for path in site.rglob("*.html")]
        home = (site / "index.html").stat().st_size
        print(f"home {home / 1000:.0f} KB, {len(sizes)} pages, {sum(sizes) / 1e6:.1f} MB")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=arguments.chromium, args=["--no-sandbox"]
            )
            page = browser.new_page()
            for _ in range(3):
                times = measure(page, f"file://{site}/index.html")
                print(", ".join(f"{name} {value:.0f} ms" for name, value in times.items()))
                page.goto("about:blank")
            browser.close()


if __name__ == "__main__":
    main()
