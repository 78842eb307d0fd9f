"""From a folder of images to a leaderboard, for data sets whose images are files.

The shipped icons are laid out as Office-Home, DomainNet and iWildCam are; their manifests are made
by the same code as the real ones, and reduced.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmark.images.store.embedded import embedded_images
from benchmark.images.store.store import ImageNeed, open_store, store_folder
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.toml import to_toml
from tests.conftest import MINI_RATES
from tests.end_to_end.conftest import Mini, Result, trained_source

CLASSES, SEEN, PER_CLASS = 8, 4, 10
FOLDERS = {"Art": "outline", "Real_World": "solid"}  # domain to the style of its icons
ALIAS = {"Art": "art", "Real_World": "Real World"}


@dataclass
class Place:
    """A data folder, a manifest of image files, and the images as a user has them."""

    data: Path
    manifest: Path
    images: Path
    suite: Path
    command: Callable[..., Result]

    def options(self, workspace: Path) -> tuple[str | Path, ...]:
        return "--suite", self.suite, "--workspace", workspace

    def htbench(self, *arguments: str | Path) -> Result:
        return self.command(Mini(self.suite, self.manifest, self.data), *arguments)

    def data_command(self, name: str, *arguments: str | Path) -> Result:
        return self.htbench("data", name, self.manifest, *arguments)


def _icons() -> dict[str, dict[str, list[Image.Image]]]:
    """Images by domain and class."""
    icons = load_manifest("icons@2.0")
    classes = dict(
        zip(icons.table["image_id"].to_pylist(), icons.table["class"].to_pylist(), strict=True)
    )
    classes_used = icons.classes[:CLASSES]
    images_of: dict[str, dict[str, list[Image.Image]]] = {}
    for domain, style in FOLDERS.items():
        of_class = images_of.setdefault(domain, {name: [] for name in classes_used})
        for image_id, data in embedded_images(icons, style):
            images = of_class.get(classes[image_id])
            if images is not None and len(images) < PER_CLASS:
                with Image.open(io.BytesIO(data)) as image:
                    images.append(image.convert("RGB").resize((40, 36)))
    return images_of


def _write(root: Path, **changes: Any) -> tuple[Path, Path, Path]:
    """Images under the folder names of a copy, and a manifest of them."""
    rows = []
    for domain, of_class in _icons().items():
        for name, images in of_class.items():
            for number, image in enumerate(images):
                path = f"{domain}/{name}/{number:05}.jpg"
                file = root / "images" / "Set_2016" / path.replace(domain, ALIAS[domain], 1)
                file.parent.mkdir(parents=True, exist_ok=True)
                image.save(file, "JPEG", quality=90)
                split = "train" if number < 7 else "test"
                rows.append(
                    {
                        "image_id": path.removesuffix(".jpg"),
                        "domain": domain,
                        "class": name,
                        "split": split,
                        "path": path,
                    }
                )
    (root / "images" / "Set_2016" / "README.txt").write_text("not an image")
    icons = load_manifest("icons@2.0")
    classes = list(icons.classes[:CLASSES])
    document = {k: v for k, v in icons.document.items() if k != "recipes"} | {
        "name": "mini-home",
        "version": "0.1",
        "images": "folder",
        "classes": classes,
    }
    document["source"] = {**trained_source(document), "steps": 20}
    document["recipe"] = {**document["recipe"], **MINI_RATES, "steps": 10}
    document |= changes
    document.pop("mirrors", None)
    document |= {
        "domains": [{"name": d, "folders": [d, ALIAS[d]]} for d in FOLDERS],
        "tasks": [
            {
                "id": "Art-Real_World",
                "sources": ["Art"],
                "target": "Real_World",
                "seen": classes[:SEEN],
            }
        ],
    }
    folder = root / "mini-home" / "0.1"
    folder.mkdir(parents=True)
    (folder / "manifest.toml").write_text(to_toml(document))
    pq.write_table(pa.Table.from_pylist(rows), folder / "images.parquet")
    suite = root / "mini-home.toml"
    suite.write_text(
        f'title = "A small home"\nmanifest = "{folder}"\ntasks = ["Art-Real_World"]\n'
        'methods = ["source", "finetune", "oracle-finetune"]\nseeds = [0]\n'
    )
    return folder, root / "images", suite


@pytest.fixture
def home(tmp_path: Path, command: Callable[..., Result]) -> Place:
    """An Office-Home of eight classes and two domains."""
    manifest, images, suite = _write(tmp_path)
    return Place(tmp_path / "data", manifest, images, suite, command)


def _whole_way(place: Place, workspace: Path) -> str:
    """Import, verify, run; the board that is printed."""
    result = place.data_command("import", place.images)
    assert result.returncode == 0, result.stderr + result.stdout
    result = place.data_command("verify")
    assert result.returncode == 0, result.stderr + result.stdout
    assert "are present and can be decoded" in result.stdout
    result = place.htbench("run", *place.options(workspace))
    assert result.returncode == 0, result.stderr + result.stdout
    board = place.htbench("leaderboard", *place.options(workspace))
    assert board.returncode == 0
    return board.stdout


def test_office_home_from_folder_to_board(home, tmp_path):
    board = _whole_way(home, tmp_path / "ws")
    assert "| finetune " in board
    assert "n_seen = 12, n_missing = 12" in board
    status = json.loads(home.htbench("data", "status", "--json").stdout)
    assert {entry["dataset"] for entry in status} >= {"office-home@1.0", "domainnet@1.0"}


def test_domainnet_from_archives_to_board_by_the_jpeg_store(tmp_path, command):
    manifest, images, suite = _write(tmp_path, store="jpeg")
    archives = []
    for domain in FOLDERS:  # as DomainNet comes: an archive for each domain
        archives.append(tmp_path / f"{domain}.zip")
        with zipfile.ZipFile(archives[-1], "w") as archive:
            top = images / "Set_2016" / ALIAS[domain]
            for file in sorted(top.rglob("*.jpg")):
                archive.write(file, f"{domain}/{file.relative_to(top).as_posix()}")
    place = Place(tmp_path / "data", manifest, archives[0], suite, command)
    first = place.data_command("import", archives[0])
    assert first.returncode == 1
    assert f"Real_World {CLASSES * PER_CLASS} of {CLASSES * PER_CLASS}" in first.stderr
    place.images = archives[1]
    board = _whole_way(place, tmp_path / "ws")
    assert "| oracle-finetune (oracle) " in board
    packs = list((tmp_path / "data" / "stores").rglob("*.pack"))
    assert {path.stem for path in packs} >= {"test", "train-0"}
    rows = {row["method"]: row for row in Mini.rows(tmp_path / "ws")}
    assert all(row["status"] == "ok" for row in rows.values())


def test_iwildcam_from_metadata_to_board(tmp_path, command):
    from benchmark.manifest.recipe import load_recipe
    from tests.benchmark.manifest.cameras import Cameras, one_task

    cameras = Cameras(load_recipe("iwildcam@1.1"))
    for split in ("train", "id_test"):
        cameras.know(*range(10), split=split)
    location = one_task(cameras)
    metadata = cameras.write(tmp_path / "metadata.csv")
    images = [image for of_class in _icons()["Art"].values() for image in of_class]
    (tmp_path / "wilds" / "train").mkdir(parents=True)
    for number, row in enumerate(cameras.rows):
        images[number % len(images)].save(tmp_path / "wilds" / "train" / row["filename"])
    place = Place(tmp_path / "data", tmp_path, tmp_path / "wilds", tmp_path, command)
    unexpanded = place.htbench("run", "--suite", "iwildcam", "--dry-run")
    assert unexpanded.returncode == 2
    assert "htbench manifest expand iwildcam@1.1" in unexpanded.stderr
    result = place.htbench(
        "manifest", "expand", "iwildcam@1.1", "--metadata", metadata, "--allow-unknown-metadata"
    )
    assert result.returncode == 0, result.stderr + result.stdout
    (place.suite,) = (tmp_path / "data" / "manifests").glob("iwildcam/*/iwildcam.toml")
    place.manifest = place.suite.parent
    _reduce(place)
    board = _whole_way(place, tmp_path / "ws")
    assert "| finetune " in board
    assert "n_seen = 40, n_missing = 20" in board
    reason = f"loc-{location} has no training images of missing classes"
    assert f"- oracle-finetune on loc-{location}: {reason}" in board
    by_name = place.htbench(
        "run", "--suite", "iwildcam", "--workspace", tmp_path / "ws", "--dry-run"
    )
    assert f"{location}" in by_name.stdout
    assert ": 4 done, 0 to run" in by_name.stdout.replace("4 runs", "")


def _reduce(place: Place) -> None:
    """A small network, small images and short recipes instead of the manifest's."""
    path = place.manifest / "manifest.toml"
    document = tomllib.loads(path.read_text())
    icons = load_manifest("icons@2.0").document
    document |= {name: icons[name] for name in ("model", "transforms", "image_size")}
    document["source"] = {**trained_source(icons), "steps": 20}
    document["recipe"] = {**icons["recipe"], **MINI_RATES, "steps": 10}
    path.write_text(to_toml(document))
    suite = tomllib.loads(place.suite.read_text())
    assert suite["methods"] == "all"
    methods = ["source", "finetune", "frozen-classifier", "oracle-finetune"]
    suite |= {"methods": methods, "seeds": [0]}
    place.suite.write_text(to_toml(suite))


class TestVerify:
    @pytest.fixture
    def copy(self, home) -> Place:
        """A local copy, copied and verified."""
        assert home.data_command("import", home.images, "--copy").returncode == 0
        assert home.data_command("verify").returncode == 0
        self.root = home.data / "images" / "mini-home-0.1"
        return home

    def report(self, place: Place, code: int = 1) -> dict[str, Any]:
        result = place.data_command("verify", "--json")
        assert result.returncode == code, result.stderr
        return json.loads(result.stdout)

    def test_a_whole_copy(self, copy):
        report = self.report(copy, 0)
        assert report["ok"]
        assert report["images"] == 2 * CLASSES * PER_CLASS
        assert report["counts"][0] == ["Art", "test", CLASSES * 3, CLASSES * 3]
        assert report["since"] is not None

    def test_every_kind_of_difference_is_named(self, copy):
        names = sorted((self.root / "Art").iterdir())
        missing, damaged, changed, cut = (folder / "00000.jpg" for folder in names[:4])
        missing.unlink()
        damaged.write_bytes(b"not an image")
        Image.new("RGB", (40, 36), "red").save(changed)
        cut.write_bytes(cut.read_bytes()[:-200])
        (self.root / "Art" / "extra.txt").touch()
        report = self.report(copy)
        relative = [path.relative_to(self.root).as_posix() for path in (missing, damaged, changed)]
        assert report["missing"] == relative[:1]
        assert list(report["damaged"]) == relative[1:2]
        assert relative[2] in report["changed"]
        assert report["truncated"] == [cut.relative_to(self.root).as_posix()]
        assert report["unexpected"] == ["Art/extra.txt"]
        result = copy.data_command("verify")
        for words in (
            "1 image missing",
            "1 image that cannot be decoded",
            "1 file not in the manifest",
            "truncated",
        ):
            assert words in result.stdout
        again = copy.data_command("import", copy.images)
        assert again.stdout.startswith(f"{copy.images}: 1 image imported")

    def test_no_copy_at_all(self, home):
        result = home.data_command("verify")
        assert result.returncode == 2
        assert "htbench data import" in result.stderr

    def test_remove_leaves_the_users_files(self, home):
        assert home.data_command("import", home.images).returncode == 0
        before = sorted(path for path in home.images.rglob("*") if path.is_file())
        assert home.data_command("remove").returncode == 2  # there is no terminal to ask on
        assert home.data_command("remove", "--yes").returncode == 0
        assert not (home.data / "images" / "mini-home-0.1").exists()
        assert sorted(path for path in home.images.rglob("*") if path.is_file()) == before
        assert home.data_command("remove", "--yes").returncode == 2


class TestStore:
    @pytest.fixture
    def ready(self, home, monkeypatch) -> Place:
        monkeypatch.setenv("HTBENCH_DATA", str(home.data))
        assert home.data_command("import", home.images).returncode == 0
        return home

    def test_only_what_is_needed_is_built(self, ready):
        manifest = load_manifest(ready.manifest)
        store = open_store(manifest, "Real_World", need=ImageNeed(frozenset({1, 2}), test=False))
        assert [label for _, label, _ in store.train_files(list(range(CLASSES)))] == [1, 2]
        parts = sorted(path.name for path in store.root.glob("*.u8"))
        assert parts == ["train-1.u8", "train-2.u8"]
        more = open_store(manifest, "Real_World", need=ImageNeed(frozenset({2, 3}), test=True))
        assert sorted(path.name for path in more.root.glob("*.u8")) == [
            "test.u8",
            "train-1.u8",
            "train-2.u8",
            "train-3.u8",
        ]

    def test_pixels_are_those_of_an_antialiased_bilinear_resize(self, ready):
        import numpy as np
        import torch
        from torchvision.transforms.functional import resize

        manifest = load_manifest(ready.manifest)
        store = open_store(manifest, "Art")
        paths = dict(
            zip(*(manifest.table[n].to_pylist() for n in ("image_id", "path")), strict=True)
        )
        pixels = np.fromfile(store.test_file, np.uint8).reshape(-1, 3, 32, 32)
        digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
        assert digests == sorted(digests)
        for image_id, image in zip(store.test_ids, pixels, strict=True):
            with Image.open(ready.data / "images" / "mini-home-0.1" / paths[image_id]) as picture:
                whole = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
            expected = resize(whole, [32, 32], antialias=True).numpy().astype(int)
            assert np.abs(expected - image).max() <= 1

    def test_an_interrupted_build_keeps_its_complete_chunks(self, ready, monkeypatch):
        from benchmark.images.store import build

        monkeypatch.setattr(build, "CHUNK", 5)
        manifest, decoded = load_manifest(ready.manifest), []
        real = build._decode_chunk

        def stop_after_four(job: Any) -> int:
            if len(decoded) == 4:
                raise KeyboardInterrupt
            decoded.append(job.out.name)
            return real(job)

        monkeypatch.setattr(build, "_decode_chunk", stop_after_four)
        with pytest.raises(KeyboardInterrupt):
            open_store(manifest, "Art")
        folder = store_folder(manifest, "Art")
        assert not list(folder.glob("*.json"))

        def resume(job: Any) -> int:
            assert job.out.name not in decoded
            return real(job)

        monkeypatch.setattr(build, "_decode_chunk", resume)
        resumed = open_store(manifest, "Art")
        assert not list((folder / ".chunks").iterdir())
        before = {path.name: path.read_bytes() for path in folder.glob("*.u8")}
        shutil.rmtree(folder)
        monkeypatch.undo()
        monkeypatch.setenv("HTBENCH_DATA", str(ready.data))
        whole = open_store(manifest, "Art")
        assert whole.index == resumed.index
        assert {path.name: path.read_bytes() for path in folder.glob("*.u8")} == before

    def test_a_large_build_uses_processes_and_gives_the_same_bytes(self, ready, monkeypatch):
        from benchmark import pool

        manifest = load_manifest(ready.manifest)
        alone = open_store(manifest, "Art")
        before = {path.name: path.read_bytes() for path in alone.root.glob("*.u8")}
        shutil.rmtree(alone.root)
        monkeypatch.setattr(pool, "POOL_FROM", 1)
        progress: list[tuple[int, int]] = []
        open_store(manifest, "Art", lambda count, total: progress.append((count, total)))
        assert {path.name: path.read_bytes() for path in alone.root.glob("*.u8")} == before
        assert progress[-1] == (CLASSES * PER_CLASS, CLASSES * PER_CLASS)

    def test_a_file_that_ends_too_early_is_used_and_noted(self, ready):
        manifest = load_manifest(ready.manifest)
        link = ready.data / "images" / "mini-home-0.1" / manifest.table["path"][0].as_py()
        real = link.resolve()
        real.write_bytes(real.read_bytes()[:-200])
        store = open_store(manifest, manifest.table["domain"][0].as_py())
        notes = [json.loads(path.read_text()) for path in store.root.glob("*.json")]
        (truncated,) = [note["truncated"] for note in notes if note["truncated"]]
        assert truncated == [manifest.table["image_id"][0].as_py()]

    def test_missing_images_are_reported_with_the_command_to_get_them(self, ready):
        shutil.rmtree(ready.data / "images")
        result = ready.htbench("run", *ready.options(ready.data / "ws"))
        assert result.returncode == 2
        assert "160 images missing (Art 80, Real_World 80)" in result.stderr
        assert "htbench data import" in result.stderr
        plan = ready.htbench(
            "run", "--suite", ready.suite, "--dry-run", "--workspace", ready.data / "ws"
        )
        assert plan.returncode == 0
        assert "160 images missing (Art 80, Real_World 80); run `htbench data import" in plan.stdout


class TestWrongInput:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["import", "icons@2.0", "."], "are bundled with htbench"),
            (["download", "icons@2.0"], "are bundled with htbench"),
            (["remove", "icons@2.0"], "are bundled with htbench"),
            (["verify", "nothing@1.0"], "unknown manifest"),
            (["import", "office-home@1.0", "/nowhere"], "does not exist"),
            (["import", "office-home@1.0", "/dev/null"], "neither a folder nor a regular file"),
            (["download", "office-home@1.0"], "--accept-terms"),
            (["verify", "office-home"], "there are no images"),
        ],
    )
    def test_is_one_sentence(self, home, arguments, words):
        result = home.htbench("data", *arguments)
        assert result.returncode == 2
        assert words in result.stderr
        assert "Traceback" not in result.stderr

    def test_a_folder_without_images(self, home, tmp_path):
        (tmp_path / "other" / "things").mkdir(parents=True)
        result = home.data_command("import", tmp_path / "other")
        assert result.returncode == 2
        assert "it contains: things" in result.stderr
        assert "it should contain files such as Art/" in result.stderr

    def test_two_copies_in_one_folder(self, home):
        shutil.copytree(home.images / "Set_2016", home.images / "again")
        result = home.data_command("import", home.images)
        assert result.returncode == 2
        assert "both match the image" in result.stderr

    def test_not_an_archive(self, home, tmp_path):
        (tmp_path / "x.zip").write_bytes(b"<html>Sign in</html>")
        result = home.data_command("import", tmp_path / "x.zip")
        assert result.returncode == 2
        assert "a web page" in result.stderr

    def test_icons_verify(self, home):
        result = home.htbench("data", "verify", "icons@2.0", "--json")
        assert json.loads(result.stdout) == {"ok": True, "reference": "icons@2.0", "images": 6786}
