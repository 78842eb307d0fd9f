"""A damaged part or chunk of a store is named, never used, and built again."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

from benchmark.errors import DataError
from benchmark.files import SEAL, digest_file, seal
from benchmark.images.store import build
from benchmark.images.store.build import CHUNKS_FOLDER, BuildPlan, Member, build_parts
from benchmark.images.store.store import DomainStore, _read_part

COUNTS = {"train-0": 5, "test": 6}


@pytest.fixture(params=["raw", "interleaved", "jpeg"])
def plan(tmp_path: Path, request: pytest.FixtureRequest) -> BuildPlan:
    """Small images of two parts."""
    pixels = np.random.default_rng(0)
    members = {
        name: [Member(f"{name}-{i}", f"{name}-{i}.png", None) for i in range(n)]
        for name, n in COUNTS.items()
    }
    for entries in members.values():
        for member in entries:
            image = Image.fromarray(pixels.integers(0, 256, (8, 8, 3), np.uint8))
            image.save(tmp_path / member.path)
    names = ("mini", "mini@0.1", "htbench data import mini@0.1", "htbench data verify mini@0.1")
    return BuildPlan(tmp_path / "store", tmp_path, 8, request.param, members, *names)


def run(plan: BuildPlan) -> None:
    build_parts(plan, lambda finished, total: None, lambda text: None)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def damaged(good: bytes, count: int) -> Iterator[bytes]:
    """The bytes with one flipped bit, and cut off."""
    for bit in random.Random(0).sample(range(8 * len(good)), count):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        yield bytes(data)
    yield from (good[:-1], b"", b"{}", b"[]")


def resealed(path: Path, change: dict[str, object]) -> bytes:
    """A sealed file with other entries, and a checksum that fits."""
    entries = json.loads(path.read_bytes())
    return seal({name: entries[name] for name in entries if name != SEAL} | change)


@pytest.mark.parametrize("index", [False, True])
def test_a_part(plan: BuildPlan, index: bool) -> None:
    run(plan)
    store, before = DomainStore(plan.folder, 8, {}, plan.kind), content(plan.folder)
    path = plan.folder / ("test.json" if index else f"test{plan.suffix}")
    names: list[str] = []
    for data in damaged(before[path.name], 40):
        path.write_bytes(data)
        assert _read_part(store, "test", 6, names.append) is None
        assert names == [str(path)]
        names.clear()
    assert _read_part(store, "train-0", 5, names.append) is not None
    run(plan)
    assert _read_part(store, "test", 6, names.append) is not None
    assert names == []
    assert content(plan.folder) == before


@pytest.mark.parametrize(
    "change", [{"ids": 1}, {"ids": [1] * 6}, {"ids": None}, {"digest": 1}, {"digest": []}], ids=str
)
def test_an_index_of_other_types_with_its_own_checksum(
    plan: BuildPlan, change: dict[str, object]
) -> None:
    run(plan)
    path = plan.folder / "test.json"
    path.write_bytes(resealed(path, change))
    names: list[str] = []
    store = DomainStore(plan.folder, 8, {}, plan.kind)
    assert _read_part(store, "test", 6, names.append) is None
    assert names == [str(path)]


@pytest.mark.parametrize(
    "change", [{"rows": 1}, {"rows": [1]}, {"rows": [["test-0"]]}, {"digest": None}], ids=str
)
def test_a_chunk_of_other_types_with_its_own_checksum(
    plan: BuildPlan, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "_join", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(plan)
    path = plan.folder / CHUNKS_FOLDER / "test.0.json"
    path.write_bytes(resealed(path, change))
    run(plan)
    store = DomainStore(plan.folder, 8, {}, plan.kind)
    assert _read_part(store, "test", 6, None) is not None


def test_an_image_that_a_power_cut_left_empty_is_missing(plan: BuildPlan) -> None:
    (plan.images / "test-3.png").write_bytes(b"")
    (plan.images / "train-0-1.png").unlink()
    with pytest.raises(DataError, match=r"2 of 11 required images of mini@0\.1 are missing"):
        run(plan)


def test_the_index_of_another_part(plan: BuildPlan) -> None:
    run(plan)
    for suffix in (".json", plan.suffix):
        shutil.copyfile(plan.folder / f"train-0{suffix}", plan.folder / f"test{suffix}")
    store = DomainStore(plan.folder, 8, {}, plan.kind)
    assert _read_part(store, "test", 5, lambda path: None) is None


@pytest.mark.parametrize("suffix", ["bin", "json"])
def test_a_chunk_of_an_interrupted_build(
    plan: BuildPlan, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    run(plan)
    before = content(plan.folder)

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "CHUNK", 2)
    for number in range(10):
        with monkeypatch.context() as patch:
            patch.setattr(build, "_join", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(plan)
        chunk = random.Random(number).choice(
            sorted((plan.folder / CHUNKS_FOLDER).glob(f"*.{suffix}"))
        )
        chunk.write_bytes(next(damaged(chunk.read_bytes(), 1)))
    run(plan)
    assert content(plan.folder) == before


def test_a_part_of_more_chunks_than_a_process_may_open_files(
    plan: BuildPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plan)
    before = content(plan.folder)
    monkeypatch.setattr(build, "CHUNK", 1)
    monkeypatch.setattr(build, "OPEN_CHUNKS", 2)
    join = build._join

    def with_few_files(*arguments: Any) -> None:
        taken = {int(path.name) for path in Path("/dev/fd").iterdir()}
        *_, last = itertools.islice((n for n in itertools.count() if n not in taken), 5)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, hard))
        try:
            join(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    monkeypatch.setattr(build, "_join", with_few_files)
    run(plan)
    assert content(plan.folder) == before


def test_an_image_that_is_not_the_manifests(plan: BuildPlan) -> None:
    paths = [plan.images / member.path for member in plan.all_members]
    members = {
        name: [m._replace(sha256=digest_file(plan.images / m.path)) for m in part]
        for name, part in plan.members.items()
    }
    plan = replace(plan, members=members)
    original = paths[7].read_bytes()
    Image.new("RGB", (8, 8)).save(paths[7])
    with pytest.raises(DataError) as error:
        run(plan)
    expected = hashlib.sha256(original).hexdigest()
    assert str(error.value) == (
        f"{paths[7]} is another image: its SHA-256 is {digest_file(paths[7])}, not "
        f"{expected}; `htbench data verify mini@0.1` lists all such files"
    )
    assert not list(plan.folder.glob("test*"))
    paths[7].write_bytes(original)
    run(plan)
    assert list(plan.folder.glob("test.*"))
