"""Features on disk are used as they were computed, or computed again, by one driver at a time."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from benchmark.errors import RunError
from benchmark.files import SEAL, seal
from benchmark.isolation import client
from benchmark.sources import features as module
from benchmark.sources.features import (
    FEATURES_FILE,
    FEATURES_RECORD,
    extract_features,
    find_features,
    save_features,
)

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
FILES = [(Path("train-0.u8"), 0, 1), (Path("train-2.u8"), 2, 3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_features(tmp_path / "key", FILES, ROWS)
    return tmp_path / "key"


def test_rows_are_found_by_class(folder: Path) -> None:
    features = find_features(folder)
    assert features is not None
    assert features.rows_of([2]).ranges == ((1, 3),)
    assert features.rows_of([0, 1]).ranges == ((0, 1),)


@pytest.mark.parametrize("name", [FEATURES_FILE, FEATURES_RECORD])
def test_damaged_ones_are_never_used(folder: Path, name: str) -> None:
    path = folder / name
    good = path.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(good)), 60):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert find_features(folder) is None
    for data in (good[:-1], b"", b"[]", b"{}"):
        path.write_bytes(data)
        assert find_features(folder) is None
    path.unlink()
    assert find_features(folder) is None
    path.mkdir()
    assert find_features(folder) is None
    save_features(folder, FILES, ROWS)
    assert find_features(folder) is not None


@pytest.mark.parametrize(
    "change",
    [{"digest": None}, {"width": "4"}, {"ranges": []}, {"ranges": {"0": 1}}],
    ids=str,
)
def test_a_record_of_other_types_with_its_own_checksum(
    folder: Path, change: dict[str, object]
) -> None:
    path = folder / FEATURES_RECORD
    entries = json.loads(path.read_bytes())
    path.write_bytes(seal({name: entries[name] for name in entries if name != SEAL} | change))
    assert find_features(folder) is None


def test_those_of_another_key_are_never_used(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("other"))
    assert find_features(folder.with_name("other")) is None


def test_two_drivers_compute_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed, results = [], []

    def extract(*arguments: object) -> object:
        computed.append(arguments)
        time.sleep(0.3)
        return save_features(tmp_path / "features" / "key", FILES, ROWS)

    monkeypatch.setattr(module, "features_folder", lambda *_: tmp_path / "features" / "key")
    monkeypatch.setattr(module, "_extract", extract)

    def work() -> None:
        anything = SimpleNamespace()
        results.append(extract_features(*[anything] * 3, "cpu", anything, tmp_path))  # type: ignore[arg-type]

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == 1
    assert [features.path for features in results] == [
        tmp_path / "features" / "key" / FEATURES_FILE
    ] * 3


def test_another_driver_is_not_waited_for_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the server, and then the threads: not hours later."""
    monkeypatch.setattr(module, "features_folder", lambda *_: tmp_path / "key")
    monkeypatch.setattr(client, "LOCK_SECONDS", 0.05)
    server: Any = SimpleNamespace(alive=True)
    model: Any = SimpleNamespace()
    other = FileLock(tmp_path / "key.lock")
    with ThreadPoolExecutor(1) as pool, other:
        waiting = pool.submit(extract_features, server, model, model, "cpu", model, tmp_path)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        server.alive = False
        try:
            with pytest.raises(RunError, match="exited before"):
                waiting.result(timeout=10)
        finally:
            other.release()
