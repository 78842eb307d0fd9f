"""Fixtures that all tests share: a private data folder, and small slices of real icons."""

from __future__ import annotations

import copy
import os
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from benchmark.files import digest_file, digest_json
from benchmark.folders import packaged_manifests
from benchmark.isolation.facts import FULL_ISOLATION
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.read import read_manifest
from benchmark.manifest.toml import to_toml
from benchmark.records import PREDICTIONS_FILE, PROTOCOL, RECORD_FILE, RunRecord, write_predictions

# Before torch is imported: two busy cores are slower with spinning threads than with one each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Folders with the longest files start first, so that no worker waits for another at the end.
FIRST = ("end_to_end", "benchmark")
TESTS = Path(__file__).parent

MINI_CLASSES = ("airplane", "bell", "bug", "house", "star")
MINI_SEEN = ("bell", "bug", "house")
MINI_TASKS = ("outline-solid", "solid-outline", "outline+solid-color")
MINI_RATES = {"head_lr": 0.1, "backbone_lr": 0.1}  # so high that few steps change a model
MINI_IMAGES = 3  # of each class, domain and split


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many kills at random moments; `make kills` asks for 1,000."""
    parser.addoption("--kills", type=int, default=60, help="how many processes to kill, slow tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with long tests first."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(TESTS).parts[0]
        return FIRST.index(folder) if folder in FIRST else len(FIRST)

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def plain_numerics() -> Iterator[None]:
    """A test that configures this process as that of a run leaves no switch for the next test."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Fills a folder once for all workers: ``once("name", fill)`` gives its path.

    The first worker that asks calls ``fill(folder)``, the others wait for it. Tests only read the
    folder, or change nothing in it that another test looks at.
    """
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name: str, fill: Callable[[Path], None]) -> Path:
        folder, complete = root / f"once-{name}", root / f"once-{name}.complete"
        with FileLock(root / f"once-{name}.lock"):
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                fill(folder)
                complete.touch()
        return folder

    return get


@pytest.fixture(scope="session", autouse=True)
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder for this session: no test reads or writes the user's.

    No test leaves a process behind or uses one of the user's either.
    """
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTBENCH_DATA", str(folder))
        patch.setenv("HTBENCH_WARM", "0")
        yield folder


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder for one test."""
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of Hugging Face `datasets` for one test."""
    for name in ("HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH", "EXTRACTED_DATASETS_PATH"):
        monkeypatch.setattr(f"datasets.config.{name}", tmp_path / "cache" / name)


@pytest.fixture(scope="session")
def icons() -> Manifest:
    """The shipped manifest of the icons."""
    return load_manifest("icons@2.0")


@dataclass
class Draft:
    """A small manifest to edit: change its document or rows, then write or read it.

    Attributes:
        root: the folder it is written to.
        document: what is written to ``manifest.toml``.
        rows: what is written to ``images.parquet``, images and all.
        schema: the types of the columns.
    """

    root: Path
    document: dict[str, Any]
    rows: list[dict[str, Any]]
    schema: pa.Schema

    def rows_of(self, **values: str) -> list[dict[str, Any]]:
        """The rows with these values, such as ``rows_of(domain='solid', split='train')``."""
        return [row for row in self.rows if all(row[k] == v for k, v in values.items())]

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, schema=self.schema)

    def write(self, table: pa.Table | None = None, **options: Any) -> Path:
        """Write both files; ``options`` are those of Parquet."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "manifest.toml").write_text(to_toml(self.document), "utf-8")
        table = self.table() if table is None else table
        pq.write_table(table, self.root / "images.parquet", **options)
        return self.root

    def read(self) -> Manifest:
        return read_manifest(self.write())


@pytest.fixture(scope="session")
def _slice() -> tuple[dict[str, Any], list[dict[str, Any]], pa.Schema]:
    folder = packaged_manifests() / "icons" / "2.0"
    document = tomllib.loads((folder / "manifest.toml").read_text("utf-8"))
    # One source model for each source, and trained by whatever test needs it.
    source = {k: v for k, v in document["source"].items() if k not in ("seeds", "checkpoints")}
    del document["recipes"]
    document |= {
        "name": "mini",
        "version": "0.1",
        "classes": list(MINI_CLASSES),
        "tasks": [
            {**task, "seen": list(MINI_SEEN)}
            for task in document["tasks"]
            if task["id"] in MINI_TASKS
        ],
        "model": {"name": "convnet", "width": 4},
        "source": source | {"steps": 8, "batch_size": 16},
        "recipe": document["recipe"] | MINI_RATES | {"steps": 4, "batch_size": 8},
    }
    table = pq.read_table(folder / "images.parquet", filters=[("class", "in", MINI_CLASSES)])

    def cell(row: dict[str, Any]) -> tuple[str, str, str]:
        return row["domain"], row["class"], row["split"]

    rows = [
        row
        for _, group in groupby(sorted(table.to_pylist(), key=cell), cell)
        for row in list(group)[:MINI_IMAGES]
    ]
    return document, rows, table.schema


@pytest.fixture
def draft(tmp_path: Path, _slice: tuple[Any, Any, pa.Schema]) -> Draft:
    """Ninety icons of five classes, three of them seen, with the tasks of the icons."""
    document, rows, schema = _slice
    return Draft(tmp_path / "mini", copy.deepcopy(document), copy.deepcopy(rows), schema)


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory, _slice: tuple[Any, Any, pa.Schema]) -> Manifest:
    """The manifest of :func:`draft` as it is."""
    return Draft(tmp_path_factory.mktemp("mini") / "0.1", *_slice).read()


WriteRun = Callable[..., RunRecord]


@pytest.fixture
def write_run(icons: Manifest) -> WriteRun:
    """Writes a run's folder as the harness would: ``write_run(workspace, 'finetune', seed=1)``.

    The logits are random, plus ``skill`` for the label and ``bias`` for the seen classes. A keyword
    that is a field of the record replaces that field; ``made`` replaces entries of ``made_from``.
    """

    def write(
        workspace: Path,
        method: str,
        task: str = "outline-solid",
        seed: int = 0,
        *,
        manifest: Manifest = icons,
        skill: float = 1.0,
        bias: float = 0.0,
        finished: float = 1000.0,
        made: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> RunRecord:
        config = fields.pop("config", {})
        made_from = {
            "manifest": manifest.digest,
            "protocol": PROTOCOL,
            "model": manifest.document["model"],
            "recipe": manifest.document["recipe"],
            "source": digest_json(manifest.task(task).sources),
            "device": "cpu",
            "task": task,
            "method": {"name": method, "code": {}},
            "config": config,
            "seed": seed,
            "base": None,
            **(made or {}),
        }
        key = digest_json(made_from)
        folder = workspace / "runs" / key
        folder.mkdir(parents=True)
        if fields.get("status", "ok") == "ok":
            test = manifest.samples(manifest.task(task).target, "test")
            random = np.random.default_rng(int(key[:8], 16))
            logits = random.normal(size=(len(test.ids), len(manifest.classes)))
            logits[np.arange(len(test.ids)), test.labels] += skill
            logits[:, manifest.seen_mask(manifest.task(task))] += bias
            write_predictions(folder / PREDICTIONS_FILE, test.ids, logits.astype(np.float32))
            fields["predictions_sha256"] = digest_file(folder / PREDICTIONS_FILE)
        record = RunRecord(
            **{
                "key": key,
                "made_from": made_from,
                "manifest": manifest.reference,
                "task": task,
                "method": method,
                "label": method,
                "config": config,
                "track": "standard",
                "seed": seed,
                "status": "ok",
                "cost": {
                    "adapt_seconds": 2.0,
                    "wall_seconds": 3.0,
                    "total_steps": 200,
                    "sequential_steps": 100,
                    "peak_memory": 512 * 2**20,
                    "finished": finished,
                },
                "isolation": list(FULL_ISOLATION),
                **fields,
            }
        )
        (folder / RECORD_FILE).write_bytes(record.to_bytes())
        return record

    return write
