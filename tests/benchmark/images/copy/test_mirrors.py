"""Mirrors are tried until no image is missing, and each failure is reported."""

from __future__ import annotations

import hashlib
import io
import sys
import threading
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from benchmark import download as download_module
from benchmark.errors import DataError, StorageError
from benchmark.images.copy import mirrors as module
from benchmark.images.copy.mirrors import fetch
from benchmark.images.place import absent_paths, images_folder
from benchmark.images.store.embedded import embedded_images
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from tests.benchmark.full_disk import files_of_at_most
from tests.benchmark.serving import Served, serve

DOMAINS = ("outline", "solid")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(download_module, "PAUSE", 0.001)
    return tmp_path


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    """Forty real images by path."""
    icons = load_manifest("icons@2.0")
    pictures = {}
    for domain in DOMAINS:
        for image_id, data in list(embedded_images(icons, domain))[:20]:
            pictures[f"{domain}/star/{image_id.replace('/', '_')}.png"] = data
    return pictures


def manifest_of(pictures: dict[str, bytes], mirrors: list[dict[str, Any]], root: Path) -> Manifest:
    rows = [
        {
            "image_id": path,
            "domain": path.partition("/")[0],
            "class": "star",
            "split": "train",
            "path": path,
        }
        for path in sorted(pictures)
    ]
    document = {
        "name": "far",
        "version": "0.1",
        "images": "folder",
        "image_size": 32,
        "classes": ["star"],
        "domains": [{"name": name, "folders": [name]} for name in DOMAINS],
        "tasks": [],
        "mirrors": mirrors,
    }
    return Manifest(root, document, pa.Table.from_pylist(rows))


def zipped(pictures: dict[str, bytes], domain: str = "") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for path, image in pictures.items():
            if path.startswith(domain):
                file.writestr(f"top/{path}", image)
    return data.getvalue()


def walk(manifest: Manifest, own: Path) -> list[str]:
    messages: list[str] = []
    fetch(manifest, own / "downloads", messages.append, lambda name: lambda done, total: None)
    return messages


def kept(own: Path) -> list[str]:
    """The archives that were not unpacked."""
    return [p.name for p in (own / "downloads").iterdir() if not p.name.endswith(".lock")]


def assert_whole(manifest: Manifest, pictures: dict[str, bytes]) -> None:
    root = images_folder(manifest)
    files = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.png")}
    assert files == pictures


def test_archives_of_complete_domains_are_skipped(own, pictures):
    files = {f"{domain}.zip": Served(zipped(pictures, domain)) for domain in DOMAINS}
    with serve(**files) as site:
        mirrors = [
            {
                "address": f"{site.address}/{name}",
                "bytes": len(served.data),
                "sha256": hashlib.sha256(served.data).hexdigest(),
            }
            for name, served in files.items()
        ]
        manifest = manifest_of(pictures, mirrors, own)
        walk(manifest, own)
        assert_whole(manifest, pictures)
        assert [len(served.requests) for served in files.values()] == [1, 1]
        absent = next(path for path in sorted(pictures) if path.startswith("solid"))
        (images_folder(manifest) / absent).unlink()
        walk(manifest, own)
        assert [len(served.requests) for served in files.values()] == [1, 2]
    assert_whole(manifest, pictures)
    assert kept(own) == []


def test_of_two_commands_one_downloads_and_the_other_waits(own, pictures):
    """Both wrote to one file, which neither could unpack."""
    served = {f"{domain}.zip": Served(zipped(pictures, domain)) for domain in DOMAINS}
    waiting = threading.Barrier(3)  # the two commands, and this test

    def log(message: str) -> None:
        if message.startswith("waiting for another process, which downloads outline.zip"):
            waiting.wait(timeout=60)

    def command() -> None:
        fetch(manifest, own / "downloads", log, lambda name: lambda done, total: None)

    with serve(**served) as site, ThreadPoolExecutor(2) as pool:
        manifest = manifest_of(
            pictures, [{"address": f"{site.address}/{name}"} for name in served], own
        )
        (own / "downloads").mkdir()
        with FileLock(own / "downloads" / ".outline.zip.lock"):
            commands = [pool.submit(command), pool.submit(command)]
            waiting.wait(timeout=60)
        for each in commands:
            each.result()
    assert [len(each.requests) for each in served.values()] == [1, 1]
    assert_whole(manifest, pictures)


def test_an_archive_that_was_not_unpacked_is_not_downloaded_again(own, pictures):
    served = Served(zipped(pictures))
    digest = hashlib.sha256(served.data).hexdigest()
    with serve(all=served) as site:
        manifest = manifest_of(
            pictures, [{"address": f"{site.address}/all", "sha256": digest}], own
        )
        blocked = images_folder(manifest) / min(pictures)
        blocked.mkdir(parents=True)
        with pytest.raises(StorageError, match="run the same command again to continue"):
            walk(manifest, own)
        blocked.rmdir()
        walk(manifest, own)
    assert len(served.requests) == 1
    assert_whole(manifest, pictures)
    assert kept(own) == []


def test_the_next_mirror_is_tried_after_a_page_and_a_wrong_digest(own, pictures):
    good = Served(zipped(pictures))
    page = Served(b"<html><title>Too many</title>")
    with serve(page=page, rot=Served(good.data), good=good) as site:
        mirrors = [
            {"address": f"{site.address}/page"},
            {"address": f"{site.address}/rot", "sha256": "0" * 64},
            {"address": f"{site.address}/good", "bytes": len(good.data)},
        ]
        manifest = manifest_of(pictures, mirrors, own)
        messages = walk(manifest, own)
    assert_whole(manifest, pictures)
    assert any("web page (Too many)" in line for line in messages)
    assert any("has SHA-256" in line for line in messages)


def test_the_next_mirror_is_tried_after_an_archive_of_other_images(own, pictures):
    other = zipped({f"other/{path}.gif": data for path, data in pictures.items()})
    with serve(other=Served(other), good=Served(zipped(pictures))) as site:
        mirrors = [{"address": f"{site.address}/{name}"} for name in ("other", "good")]
        manifest = manifest_of(pictures, mirrors, own)
        messages = walk(manifest, own)
    assert_whole(manifest, pictures)
    assert any("contains no images of far@0.1" in line for line in messages)


def test_the_reason_for_each_failed_mirror_is_given(own, pictures):
    with serve(page=Served(b"<html><title>Too many</title>")) as site:
        mirrors = [
            {"title": "One", "address": f"{site.address}/page"},
            {"title": "Two", "address": f"{site.address}/gone"},
        ]
        manifest = manifest_of(pictures, mirrors, own)
        with pytest.raises(DataError) as caught:
            walk(manifest, own)
    text = str(caught.value)
    assert "40 of 40 images of far@0.1 are still missing" in text
    assert "- One: " in text
    assert "- Two: " in text
    assert "htbench data import far@0.1 PATH" in text


def test_rows_of_the_hub_are_matched_by_their_path(own, pictures, monkeypatch):
    """The real library reads a file in the schema of the hub's copy; only its name is local."""
    import datasets

    rows = [
        {"image": {"bytes": data, "path": None}, "label": 0, "image_path": path}
        for path, data in pictures.items()
    ]
    rows.append({"image": {"bytes": b"x", "path": None}, "label": 0, "image_path": "../../out.png"})
    pq.write_table(pa.Table.from_pylist(rows), own / "hub.parquet")
    real = datasets.load_dataset

    def local(name: str, revision: str, streaming: bool) -> Any:
        assert (name, revision, streaming) == ("someone/Far", "abc", True)
        return real("parquet", data_files={"train": str(own / "hub.parquet")}, streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", local)
    mirror = {"address": "https://huggingface.co/datasets/someone/Far", "revision": "abc"}
    manifest = manifest_of(pictures, [mirror], own)
    walk(manifest, own)
    assert_whole(manifest, pictures)
    assert not list(own.glob("*.png"))


def test_rows_of_the_hub_without_paths_cannot_be_matched(own, pictures, monkeypatch):
    import datasets

    pq.write_table(pa.table({"label": [0]}), own / "hub.parquet")
    real = datasets.load_dataset
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda *_, **__: real("parquet", data_files=str(own / "hub.parquet"), streaming=True),
    )
    manifest = manifest_of(
        pictures, [{"address": "https://huggingface.co/datasets/someone/Far"}], own
    )
    with pytest.raises(DataError, match="cannot be matched to the manifest"):
        walk(manifest, own)


def test_a_file_of_the_hub_is_found_by_its_digest(own, pictures, monkeypatch):
    import huggingface_hub

    data = zipped(pictures)
    digest = hashlib.sha256(data).hexdigest()

    class Api:
        def dataset_info(self, name: str, files_metadata: bool, revision: str | None) -> Any:
            lfs = types.SimpleNamespace(sha256=digest)
            files = [
                types.SimpleNamespace(rfilename="README.md", lfs=None),
                types.SimpleNamespace(rfilename="all.zip", lfs=lfs),
            ]
            return types.SimpleNamespace(siblings=files, sha="abc")

    with serve(file=Served(data)) as site:
        monkeypatch.setattr(huggingface_hub, "HfApi", Api)
        monkeypatch.setattr(
            huggingface_hub, "hf_hub_url", lambda name, file, **_: f"{site.address}/file?{file}"
        )
        mirror = {"address": "https://huggingface.co/datasets/someone/far", "sha256": digest}
        manifest = manifest_of(pictures, [mirror], own)
        walk(manifest, own)
    assert_whole(manifest, pictures)


def test_a_full_disk_ends_the_download(own, pictures, monkeypatch):
    """The archive of the next mirror would only fill the disk."""
    data = zipped(pictures)
    pin = {"sha256": hashlib.sha256(data).hexdigest()}
    with serve(a=Served(data), b=Served(data)) as site:
        mirrors = [{"address": f"{site.address}/{name}"} | pin for name in "ab"]
        manifest = manifest_of(pictures, mirrors, own)
        with monkeypatch.context() as patch:
            free = iter([2**40, 5])  # before the download, and before it is unpacked
            usage = lambda path: types.SimpleNamespace(free=next(free))  # noqa: E731
            patch.setattr("benchmark.folders.shutil.disk_usage", usage)
            with pytest.raises(StorageError, match=r"the images need .* free some space"):
                walk(manifest, own)
        assert kept(own) == ["a"]
        walk(manifest, own)
        assert not site.files["b"].requests
    assert_whole(manifest, pictures)


DRIVE_MIRROR = {
    "address": "https://drive.google.com/file/d/abc/view",
    "drive_id": "abc",
    "drive_resource_key": "0-1",
}


def let_gdown_ask(site, monkeypatch):
    """gdown itself asks a server here; only the address of Drive is another."""
    gdown = pytest.importorskip("gdown")
    real = gdown.download

    def here(address: str, output: str, **options: Any) -> Any:
        assert address == "https://drive.google.com/uc?id=abc&resourcekey=0-1"
        return real(f"{site.address}/uc", output, **options)

    monkeypatch.setattr(gdown, "download", here)


def test_google_drive_uses_gdown(own, pictures, monkeypatch):
    with serve(uc=Served(zipped(pictures))) as site:
        let_gdown_ask(site, monkeypatch)
        manifest = manifest_of(pictures, [DRIVE_MIRROR], own)
        walk(manifest, own)
    assert_whole(manifest, pictures)


@pytest.mark.parametrize("pinned", [False, True])
def test_an_unusable_archive_of_google_drive_is_downloaded_again(own, pictures, pinned):
    """gdown takes any file of that name for the complete one."""
    data = zipped(pictures)
    digest = {"sha256": hashlib.sha256(data).hexdigest()} if pinned else {}
    manifest = manifest_of(pictures, [DRIVE_MIRROR | digest], own)

    def fetch_from_drive(content: bytes) -> None:
        with serve(uc=Served(content)) as site, pytest.MonkeyPatch.context() as patch:
            let_gdown_ask(site, patch)
            walk(manifest, own)

    with pytest.raises(DataError, match="was deleted" if pinned else "still missing"):
        fetch_from_drive(data[: len(data) // 2])
    fetch_from_drive(data)
    assert_whole(manifest, pictures)


def test_an_archive_of_google_drive_that_found_a_full_disk_is_kept(own, pictures, monkeypatch):
    manifest = manifest_of(pictures, [DRIVE_MIRROR], own)
    with serve(uc=Served(zipped(pictures))) as site:
        let_gdown_ask(site, monkeypatch)
        with monkeypatch.context() as patch:
            usage = types.SimpleNamespace(free=5)
            patch.setattr("benchmark.folders.shutil.disk_usage", lambda path: usage)
            with pytest.raises(StorageError, match="free some space"):
                walk(manifest, own)
        (kept,) = own.rglob("abc.archive")
        assert kept.read_bytes() == zipped(pictures)
        walk(manifest, own)
    assert_whole(manifest, pictures)


def test_an_archive_of_google_drive_that_fills_the_disk_ends_the_download(
    own, pictures, monkeypatch
):
    other = {"address": "http://127.0.0.1:9/all.zip"}
    manifest = manifest_of(pictures, [DRIVE_MIRROR, other], own)
    data = zipped(pictures)
    with serve(uc=Served(data)) as site:
        let_gdown_ask(site, monkeypatch)
        with files_of_at_most(len(data) // 2), pytest.raises(StorageError, match="cannot write"):
            walk(manifest, own)
        walk(manifest, own)
    assert_whole(manifest, pictures)


def test_without_gdown_the_extra_is_named(own, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    mirror = {"address": "https://drive.google.com/file/d/abc/view", "drive_id": "abc"}
    with pytest.raises(DataError, match=r"holistic-transfer-bench\[download\]"):
        walk(manifest_of(pictures, [mirror], own), own)


def test_a_complete_copy_needs_no_download(own, pictures):
    manifest = manifest_of(pictures, [{"address": "http://127.0.0.1:9/x"}], own)
    for path, data in pictures.items():
        file = images_folder(manifest) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    assert not absent_paths(manifest)
    assert walk(manifest, own) == []
    assert module.HUB == "huggingface.co"
