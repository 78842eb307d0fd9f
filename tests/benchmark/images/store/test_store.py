"""The image store holds the manifest's pixels, split so that labels stay out of reach."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmark.errors import DataError
from benchmark.files import SEAL, seal
from benchmark.images.store import store as module
from benchmark.images.store.build import Member
from benchmark.images.store.store import (
    ImageNeed,
    check_images,
    find_store,
    open_store,
    store_folder,
    store_kind,
)
from benchmark.images.store.tensors import map_images
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest

pytestmark = pytest.mark.usefixtures("own_data")


def pil_pixels(manifest: Manifest) -> dict[str, np.ndarray]:
    """What PIL shows for every image, as (3, S, S)."""
    rows = pq.read_table(manifest.root / "images.parquet", columns=["image_id", "image"])
    return {
        row["image_id"]: np.asarray(
            Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        ).transpose(2, 0, 1)
        for row in rows.to_pylist()
    }


def pixels_of(path: Path, size: int = 32) -> np.ndarray:
    return np.fromfile(path, np.uint8).reshape(-1, 3, size, size)


def png(size: tuple[int, int] = (32, 32), **options: Any) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, "red").save(data, options.pop("format", "PNG"), **options)
    return data.getvalue()


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit changed."""
    content = bytearray(data)
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def replace_image(draft: Any, data: bytes | None) -> str:
    """Give the first test image of solid other bytes, with their right checksum."""
    row = draft.rows_of(domain="solid", split="test")[0]
    row["image"] = None if data is None else {"bytes": data, "path": None}
    row["sha256"] = hashlib.sha256(data or b"").hexdigest()
    return str(row["image_id"])


class TestLayout:
    def test_training_files_hold_one_class_each(self, mini: Manifest) -> None:
        store, pixels = open_store(mini, "solid"), pil_pixels(mini)
        train = mini.samples("solid", "train")
        files = store.train_files(list(range(5)))
        assert [(path.name, label, count) for path, label, count in files] == [
            (f"train-{c}.u8", c, 3) for c in range(5)
        ]
        for path, label, _ in files:
            ids = store.index["train"][str(label)]
            of_class = [i for i, k in zip(train.ids, train.labels, strict=True) if k == label]
            assert sorted(ids) == of_class
            assert np.array_equal(pixels_of(path), np.stack([pixels[i] for i in ids]))

    def test_a_class_without_images_has_no_file(self, draft: Any) -> None:
        stars = draft.rows_of(domain="solid", split="train", **{"class": "star"})
        draft.rows = [row for row in draft.rows if row not in stars]
        files = open_store(draft.read(), "solid").train_files([3, 4])
        assert [label for _, label, _ in files] == [3]

    def test_the_test_file_is_in_the_order_of_the_pixels_digests(self, mini: Manifest) -> None:
        store, pixels = open_store(mini, "solid"), pil_pixels(mini)
        test = mini.samples("solid", "test")
        digests = [hashlib.sha256(pixels[i].tobytes()).hexdigest() for i in store.test_ids]
        assert digests == sorted(digests)
        assert sorted(store.test_ids) == list(test.ids)
        assert np.array_equal(
            pixels_of(store.test_file), np.stack([pixels[i] for i in store.test_ids])
        )

    def test_the_order_of_the_icons_says_nothing_of_their_classes(
        self, icons: Manifest, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTBENCH_DATA", str(data))  # built once for the session
        store = open_store(icons, "color")
        test = icons.samples("color", "test")
        labels = dict(zip(test.ids, test.labels.tolist(), strict=True))
        order = np.array([labels[i] for i in store.test_ids])
        assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.15
        repeats = (order[1:] == order[:-1]).mean()  # in the order of ids 0.15, by chance 0.02
        assert repeats < 0.05

    def test_map_images(self, mini: Manifest) -> None:
        store, pixels = open_store(mini, "color"), pil_pixels(mini)
        with store.test_file.open("rb") as file:
            images = map_images(file.fileno(), len(store.test_ids), 32)
        assert images.dtype.itemsize == 1
        for image_id, image in zip(store.test_ids, images, strict=True):
            assert np.array_equal(image.numpy(), pixels[image_id])
        before = store.test_file.read_bytes()
        images.zero_()  # a private map: a method that writes to it changes its own copy
        assert store.test_file.read_bytes() == before

    def test_map_images_of_another_length(self, mini: Manifest, tmp_path: Path) -> None:
        wrong = pytest.raises(ValueError, match="has 46080 bytes, but 14 images need 43008")
        with open_store(mini, "color").test_file.open("rb") as file, wrong:
            map_images(file.fileno(), 14, 32)
        (tmp_path / "empty").touch()
        with (tmp_path / "empty").open("rb") as file:
            assert map_images(file.fileno(), 0, 32).shape == (0, 3, 32, 32)
            with pytest.raises(ValueError, match="has 0 bytes, but 1 images need 3072"):
                map_images(file.fileno(), 1, 32)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("icons@2.0", "raw"),
        ("pacs@1.0", "raw"),  # 128 pixels
        ("office-home@1.0", "interleaved"),  # 256 pixels
        ("domainnet@1.0", "jpeg"),  # 76 GiB
    ],
)
def test_the_kind_depends_on_the_size(name: str, kind: str) -> None:
    assert store_kind(load_manifest(name)) == kind


class TestBuilding:
    @pytest.fixture
    def builds(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The domains that were decoded."""
        domains: list[str] = []
        build = module._build

        def counted(folder: Path, manifest: Manifest, domain: str, progress: Any) -> None:
            domains.append(domain)
            build(folder, manifest, domain, progress)

        monkeypatch.setattr(module, "_build", counted)
        return domains

    def test_once_for_each_domain(self, mini: Manifest, builds: list[str]) -> None:
        first = open_store(mini, "solid")
        again = open_store(load_manifest(mini.root), "solid")
        assert again.index == first.index
        assert again.root == first.root
        open_store(mini, "color")
        assert builds == ["solid", "color"]

    def test_in_the_data_folder_and_nowhere_else(self, mini: Manifest, own_data: Path) -> None:
        before = sorted(mini.root.iterdir())
        root = open_store(mini, "solid").root
        assert root.is_relative_to(own_data / "stores")
        assert root.name.startswith("mini-0.1-solid-")
        assert sorted(mini.root.iterdir()) == before

    def test_of_another_manifest_is_another(self, mini: Manifest, draft: Any) -> None:
        draft.document["image_size"] = 16
        assert store_folder(draft.read(), "solid") != store_folder(mini, "solid")

    @pytest.mark.parametrize("name", ["test.u8", "train-0.u8", "index.json"])
    @pytest.mark.parametrize("damage", ["truncated", "gone"])
    def test_a_store_that_is_not_whole_is_built_again(
        self, mini: Manifest, builds: list[str], name: str, damage: str
    ) -> None:
        path = open_store(mini, "solid").root / name
        good = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(good[:-1])
        open_store(mini, "solid")
        assert path.read_bytes() == good
        assert builds == ["solid", "solid"]

    @pytest.mark.parametrize("name", ["test.u8", "train-0.u8", "index.json"])
    def test_one_flipped_bit_is_named_and_never_used(
        self, mini: Manifest, builds: list[str], name: str
    ) -> None:
        path = open_store(mini, "solid").root / name
        good = path.read_bytes()
        for bit in random.Random(0).sample(range(8 * len(good)), 10):
            path.write_bytes(flipped(good, bit))
            messages: list[str] = []
            open_store(mini, "solid", log=messages.append)
            assert path.read_bytes() == good
            assert messages == [f"{path} is damaged or of another version; it is built again"]
        assert builds == ["solid"] * 11

    @pytest.mark.parametrize(
        "change",
        [
            *({"files": files} for files in (None, [], {}, {"test.u8": 1}, {"../test.u8": "0"})),
            *({"test": ids} for ids in (None, 1, [1])),
            *({"train": ids} for ids in (None, [], {"0": 1}, {"0": [None]})),
            {"store": 1},
        ],
        ids=str,
    )
    def test_an_index_of_other_types_with_its_own_checksum_is_made_again(
        self, mini: Manifest, builds: list[str], change: dict[str, Any]
    ) -> None:
        path = open_store(mini, "solid").root / "index.json"
        good = path.read_bytes()
        entries = json.loads(good)
        path.write_bytes(seal({name: entries[name] for name in entries if name != SEAL} | change))
        assert find_store(mini, "solid") is None
        open_store(mini, "solid")
        assert path.read_bytes() == good
        assert builds == ["solid", "solid"]

    @pytest.mark.parametrize("name", ["test.u8", "index.json"])
    def test_a_fifo_or_a_folder_in_the_place_of_a_file(self, mini: Manifest, name: str) -> None:
        path = open_store(mini, "solid").root / name
        good = path.read_bytes()
        for put in (os.mkfifo, Path.mkdir):
            path.unlink()
            put(path)
            open_store(mini, "solid")
            assert path.read_bytes() == good

    def test_the_store_of_another_domain_in_its_place(self, mini: Manifest) -> None:
        solid, color = open_store(mini, "solid"), open_store(mini, "color")
        shutil.rmtree(solid.root)
        shutil.copytree(color.root, solid.root)
        assert open_store(mini, "solid").index == solid.index

    def test_progress(self, mini: Manifest) -> None:
        calls: list[tuple[int, int]] = []
        open_store(mini, "solid", lambda finished, total: calls.append((finished, total)))
        assert calls == [(30, 30)]

    def test_images_that_the_manifest_leaves_out_are_not_decoded(
        self, mini: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        is_train = pc.equal(mini.table["split"], "train")  # as a fold of a search has some of them
        part = dataclasses.replace(mini, table=mini.table.filter(is_train))
        images = part.samples("solid", "train").ids
        decode, decoded = module._decode, []
        monkeypatch.setattr(module, "_decode", lambda *a: (decoded.append(a[0]), decode(*a))[1])
        module._build(tmp_path / "store", part, "solid", lambda finished, total: None)
        assert 0 < len(images) < 30
        assert sorted(decoded) == sorted(images)

    def test_threads_share_one_build(self, mini: Manifest, builds: list[str]) -> None:
        barrier, roots = threading.Barrier(4), []

        def work() -> None:
            barrier.wait()
            roots.append(open_store(mini, "outline").root)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert builds == ["outline"]
        assert len(roots) == 4

    def test_processes_share_one_store(self, mini: Manifest, own_data: Path) -> None:
        code = (
            "import sys; from benchmark.manifest.catalogue import load_manifest\n"
            "from benchmark.images.store.store import open_store\n"
            "print(len(open_store(load_manifest(sys.argv[1]), 'solid').test_ids))\n"
        )
        command = [sys.executable, "-c", code, str(mini.root)]
        children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        assert [child.communicate(timeout=60)[0] for child in children] == [b"15\n"] * 2
        stores = [path for path in (own_data / "stores").iterdir() if path.is_dir()]
        assert stores == [store_folder(mini, "solid")]


class TestDamage:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"not an image", r"image '.+' cannot be decoded"),
            (png()[:60], r"image '.+' cannot be decoded"),
            (png(format="GIF"), r"image '.+' cannot be decoded"),
            (png((32, 31)), r"image '.+' is 32 x 31 pixels, not 32 x 32"),
            (png((3, 3)), r"image '.+' is 3 x 3 pixels, not 32 x 32"),
            (b"", r"image '.+' cannot be decoded"),
            (None, r"image '.+' cannot be decoded"),
        ],
        ids=["text", "cut off", "another format", "not square", "too small", "empty", "absent"],
    )
    def test_is_named_and_leaves_nothing(
        self, draft: Any, own_data: Path, data: bytes | None, message: str
    ) -> None:
        image_id = replace_image(draft, data)
        with pytest.raises(DataError, match=message) as caught:
            open_store(draft.read(), "solid")
        assert repr(image_id) in str(caught.value)
        assert [p.name for p in (own_data / "stores").iterdir() if p.is_dir()] == []

    def test_a_decompression_bomb_is_not_inflated(self, draft: Any) -> None:
        data = bytearray(png())
        data[16:24] = (100_000).to_bytes(4, "big") * 2  # IHDR: width and height
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        replace_image(draft, bytes(data))
        with pytest.raises(DataError, match=r"cannot be decoded: .*decompression bomb"):
            open_store(draft.read(), "solid")

    def test_bytes_that_are_not_the_manifests(self, draft: Any) -> None:
        row = draft.rows_of(domain="solid")[0]
        row["image"] = {"bytes": png(), "path": None}
        with pytest.raises(DataError, match=f"{row['image_id']!r} does not match"):
            open_store(draft.read(), "solid")
        with pytest.raises(DataError, match="does not match"):
            check_images(draft.read())

    def test_a_path_that_is_not_utf_8(self, draft: Any) -> None:
        """Parquet holds any bytes as text; `make fuzz` found it."""
        table = draft.table()
        data = pc.struct_field(table["image"].combine_chunks(), "bytes")
        paths = pa.array([b"\x80"] * table.num_rows, pa.binary()).view(pa.string())
        images = pa.StructArray.from_arrays([data, paths], ["bytes", "path"])
        index = table.schema.get_field_index("image")
        draft.write(table.set_column(index, "image", images))
        with pytest.raises(DataError, match="cannot be read: 'utf-8' codec"):
            open_store(load_manifest(draft.root), "solid")

    def test_no_images_at_all(self, draft: Any) -> None:
        draft.write(draft.table().drop_columns(["image"]))
        with pytest.raises(DataError, match='has no column "image" with the encoded'):
            open_store(load_manifest(draft.root), "solid")

    def test_ctrl_c_leaves_nothing_half_written(
        self, mini: Manifest, own_data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: object) -> NoReturn:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            open_store(mini, "solid", stop)
        write = module._write

        def stop_at_the_test_file(path: Path, *arguments: Any) -> list[str]:
            return stop() if path.name == "test.u8" else write(path, *arguments)

        monkeypatch.setattr(module, "_write", stop_at_the_test_file)
        with pytest.raises(KeyboardInterrupt):
            open_store(mini, "solid")
        monkeypatch.setattr(module, "_write", write)
        assert [p.name for p in (own_data / "stores").iterdir() if p.is_dir()] == []
        assert len(open_store(mini, "solid").test_ids) == 15

    def test_check_images(self, mini: Manifest) -> None:
        assert check_images(mini) == 90


def test_members_are_made_only_of_the_images_that_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tuple and three texts for each of a million images take seconds and a gigabyte."""
    manifest = load_manifest("pacs@1.0")
    ids: list[str] = []

    def member(*entry: Any) -> Member:
        ids.append(entry[0])
        return Member(*entry)

    monkeypatch.setattr(module, "Member", member)
    parts = module._parts(manifest, "sketch", ImageNeed(frozenset({1, 4}), test=False))
    assert sorted(ids) == sorted(m.image_id for members in parts.values() for m in members)
    train = manifest.samples("sketch", "train")
    table = manifest.table.select(["image_id", "path", "sha256"]).to_pylist()
    known = {row["image_id"]: Member(*row.values()) for row in table}
    assert parts == {
        f"train-{c}": [known[i] for i, k in zip(train.ids, train.labels, strict=True) if k == c]
        for c in (1, 4)
    }
