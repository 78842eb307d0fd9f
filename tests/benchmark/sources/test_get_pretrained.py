"""Downloads of pretrained weights by several commands at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmark.files import digest_file, seal, write_file
from benchmark.manifest.manifest import Manifest
from benchmark.sources import get_pretrained
from benchmark.sources.get_pretrained import download_pretrained
from benchmark.sources.pretrained import (
    RECORD_FILE,
    WEIGHTS_FILE,
    PretrainedWeights,
    find_pretrained,
    weights_folder,
)

HUB = "https://hub.invalid/{}/resolve/main/model.safetensors"


@pytest.fixture
def downloads(own_data: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were downloaded; a file has its address as content."""
    addresses: list[str] = []

    def address(server: object, manifest: Manifest) -> str:
        return HUB.format(manifest.model["weights"])

    def download(address: str, file: Path, **_: Any) -> Path:
        addresses.append(address)
        file.parent.mkdir(parents=True, exist_ok=True)
        assert not file.exists(), "another command is writing to it"
        file.write_text(address)
        time.sleep(0.3)
        return file

    def convert(
        server: object, manifest: Manifest, name: str, address: str, file: Path, log: object
    ) -> PretrainedWeights:
        folder = weights_folder(name)
        write_file(folder / WEIGHTS_FILE, file.read_bytes())
        record = {"digest": digest_file(folder / WEIGHTS_FILE)}
        write_file(folder / RECORD_FILE, seal(record))
        return PretrainedWeights(folder / WEIGHTS_FILE, record["digest"], record)

    for name, function in (("_address", address), ("download", download), ("_convert", convert)):
        monkeypatch.setattr(get_pretrained, name, function)
    return addresses


@pytest.mark.parametrize(
    ("tags", "count"), [(("a1_in1k", "a1_in1k"), 1), (("a1_in1k", "a2_in1k"), 2)]
)
def test_each_gets_its_own_weights(
    icons: Manifest, downloads: list[str], tags: tuple[str, str], count: int
) -> None:
    """The hub gives the files of all networks one name, and most have no published SHA-256."""
    manifests = [
        icons.with_model({"name": "timm/resnet18", "weights": f"resnet18.{tag}"}) for tag in tags
    ]

    def get(manifest: Manifest) -> PretrainedWeights:
        return download_pretrained(None, manifest, lambda text: None)  # type: ignore[arg-type]

    with ThreadPoolExecutor(2) as commands:
        weights = list(commands.map(get, manifests))
    expected = [HUB.format(manifest.model["weights"]) for manifest in manifests]
    assert [one.path.read_text() for one in weights] == expected
    assert [find_pretrained(manifest.model) for manifest in manifests] == weights
    assert len(downloads) == count
