"""PACS is imported as people have it, or downloaded as an archive of its public repository.

The manifest is that of pacs@1.0 with a few of its paths. The images are made here.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from PIL import Image

from benchmark.errors import UsageError
from benchmark.images.copy.mirrors import fetch
from benchmark.images.copy.take import import_images
from benchmark.images.copy.verify import verify_images
from benchmark.images.place import absent_paths, images_folder
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from tests.benchmark.serving import Served, serve

TOP = "Homework3-PACS-33f7def03be34c3fbb1a4d5c97384ab602884833"  # in GitHub's archives
OTHERS = {"README.md": b"# PACS", "PACS/kfold.txt": b"", ".git/HEAD": b"ref: refs/heads/master"}


def picture(number: int, suffix: str) -> bytes:
    file = io.BytesIO()
    color = (37 * number % 256, 11 * number % 256, 200)
    Image.new("RGB", (227, 227), color).save(file, "PNG" if suffix == "png" else "JPEG")
    return file.getvalue()


@pytest.fixture
def pictures() -> dict[str, bytes]:
    """Two images of each domain by their path in the data set."""
    table = load_manifest("pacs@1.0").table.to_pandas()
    paths = sorted(table.groupby("domain")["path"].head(2))
    return {p: picture(i, p.rpartition(".")[2]) for i, p in enumerate(paths)}


@pytest.fixture
def manifest(pictures, own_data) -> Manifest:
    whole = load_manifest("pacs@1.0")
    rows = [row for row in whole.table.to_pylist() if row["path"] in pictures]
    for row in rows:
        row["sha256"] = hashlib.sha256(pictures[row["path"]]).hexdigest()
    return Manifest(own_data, dict(whole.document), pa.Table.from_pylist(rows))


def assert_whole(manifest, pictures):
    root = images_folder(manifest)
    files = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.*")}
    assert files == pictures
    assert verify_images(manifest).ok


def repository(pictures) -> dict[str, bytes]:
    return OTHERS | {f"PACS/{path}": data for path, data in pictures.items()}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("layout", ["clone", "folder", "tars"])
def test_it_is_imported(manifest, pictures, tmp_path, layout):
    if layout == "clone":
        origins = [write(tmp_path / "Homework3-PACS", repository(pictures))]
    elif layout == "folder":
        origins = [write(tmp_path / "images", pictures)]
    else:
        origins = []
        for domain in (domain.name for domain in manifest.domains):
            part = {f"PACS/{p}": data for p, data in pictures.items() if p.startswith(domain)}
            origins.append(tar(tmp_path / f"{domain}.tar", part))
    for origin in origins:
        assert absent_paths(manifest)
        import_images(manifest, origin, copy=True)
    assert_whole(manifest, pictures)


def archive_of_commit(pictures) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, content in repository(pictures).items():
            file.writestr(f"{TOP}/{name}", content)
    return data.getvalue()


@pytest.mark.parametrize("accepts_short_hash", [True, False])
def test_it_is_downloaded_from_the_archive_of_a_commit(manifest, pictures, accepts_short_hash):
    """GitHub answers with a redirect to another host; here, to another path."""
    short, full = (urlsplit(entry["address"]).path[1:] for entry in manifest.document["mirrors"])
    archive = Served(archive_of_commit(pictures))
    files = {"codeload/zip": archive, full: Served(leads_to="/codeload/zip")}
    if accepts_short_hash:
        files[short] = Served(leads_to="/codeload/zip")
    messages: list[str] = []
    with serve(**files) as site:
        manifest.document["mirrors"] = [  # the addresses of the manifest, on this server
            entry | {"address": entry["address"].replace("https://github.com", site.address)}
            for entry in manifest.document["mirrors"]
        ]
        downloads = manifest.root / "downloads"
        fetch(manifest, downloads, messages.append, lambda name: lambda done, total: None)
    assert len(archive.requests) == 1
    assert any("responded with 404" in line for line in messages) is not accepts_short_hash
    assert any(f"{len(OTHERS)} files not among the images of pacs@1.0" in m for m in messages)
    assert_whole(manifest, pictures)
    assert [p.name for p in downloads.iterdir() if p.suffix != ".lock"] == []


def test_the_addresses_are_https_archives_of_commits():
    mirrors = load_manifest("pacs@1.0").document["mirrors"]
    top = "https://github.com/MachineLearning2020/Homework3-PACS/archive/"
    assert [entry["address"].startswith(top) for entry in mirrors] == [True, True]
    commits = [entry["address"].removeprefix(top).removesuffix(".zip") for entry in mirrors]
    assert [len(commit) for commit in commits] == [7, 40]


def test_a_file_with_other_bytes_is_named_even_if_its_pixels_are_the_same(manifest, pictures):
    write(images_folder(manifest), pictures)
    path = next(path for path in sorted(pictures) if path.endswith(".png"))
    with Image.open(io.BytesIO(pictures[path])) as image:
        image.save(images_folder(manifest) / path, compress_level=0)
    verification = verify_images(manifest)
    assert not verification.ok
    assert verification.other_bytes == [path]


def test_a_folder_without_its_images_is_refused(manifest, tmp_path):
    with pytest.raises(UsageError, match=r"contains no images of pacs@1\.0"):
        import_images(manifest, write(tmp_path / "other", OTHERS), copy=True)
