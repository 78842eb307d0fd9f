"""Source models that a manifest fixes: used as they are, never trained, never another file."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.download import download
from benchmark.driver import ready_sources
from benchmark.errors import DataError, StorageError, UsageError
from benchmark.progress import Silent
from benchmark.runs.workspace import Workspace
from benchmark.sources import train
from benchmark.sources.spec import SourceSpec, find_source, save_imported, save_source
from benchmark.summaries import verify_manifest
from tests.benchmark.serving import Served, serve

pytestmark = pytest.mark.usefixtures("own_data")

CONTENT = b"the weights"
FACTS = {"test_accuracy": 1.0, "test_images": 1}
FILE = "checkpoints/outline.safetensors"


def pinned(draft: Any, **changes: object) -> SourceSpec:
    entry = {
        "sources": ["outline"],
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "test_accuracy": 61.5,
        **changes,
    }
    draft.document["source"]["checkpoints"] = [entry]
    return SourceSpec.of(draft.read(), ("outline",), "cpu")


def with_file(draft: Any, content: bytes = CONTENT) -> SourceSpec:
    spec = pinned(draft, file=FILE)
    (draft.root / FILE).parent.mkdir(exist_ok=True)
    (draft.root / FILE).write_bytes(content)
    return spec


class TestFile:
    def test_it_is_used_before_any_other(self, draft: Any) -> None:
        spec = with_file(draft)
        save_source(spec, b"trained here", FACTS)
        save_imported(spec, b"imported", FACTS)
        source = find_source(spec)
        assert source is not None
        assert source.path.read_bytes() == CONTENT
        assert source.digest == hashlib.sha256(CONTENT).hexdigest()
        assert source.record["provenance"] == "pinned"
        assert source.record["test_accuracy"] == 61.5

    def test_one_trained_here_can_be_asked_for(self, draft: Any) -> None:
        spec = replace(with_file(draft), is_trained=True)
        assert find_source(spec) is None
        save_source(spec, b"trained here", FACTS)
        source = find_source(spec)
        assert source is not None
        assert source.path.read_bytes() == b"trained here"

    def test_another_network_has_no_fixed_model(self, draft: Any) -> None:
        spec = with_file(draft)
        other = spec.manifest.with_model({"name": "convnet", "width": 5})
        assert find_source(SourceSpec.of(other, ("outline",), "cpu")) is None

    def test_other_domains_have_none(self, draft: Any) -> None:
        spec = with_file(draft)
        assert find_source(SourceSpec.of(spec.manifest, ("solid",), "cpu")) is None

    @pytest.mark.parametrize("content", [b"", b"the Weights", CONTENT + b"x"])
    def test_a_changed_file_is_refused(self, draft: Any, content: bytes) -> None:
        spec = with_file(draft, content)
        with pytest.raises(DataError, match=r"does not have the SHA-256 that the manifest fixes"):
            find_source(spec)

    def test_a_missing_file_is_named(self, draft: Any) -> None:
        spec = with_file(draft)
        (draft.root / FILE).unlink()
        with pytest.raises(DataError, match=r"outline\.safetensors is missing or .*install"):
            find_source(spec)

    def test_verifying_the_manifest_checks_it(self, draft: Any) -> None:
        assert verify_manifest(with_file(draft).manifest)["images"] == 90
        with pytest.raises(DataError, match=r"outline\.safetensors is missing or does not have"):
            verify_manifest(with_file(draft, b"the Weights").manifest)

    def test_no_other_can_be_imported(self, draft: Any, tmp_path: Path) -> None:
        spec = with_file(draft)
        with pytest.raises(UsageError, match=r"fixes the source model of mini@0\.1 outline"):
            train.import_source(None, spec, {}, tmp_path / "x", "", tmp_path)  # type: ignore[arg-type]


class TestDownload:
    def test_the_first_address_that_has_it(self, draft: Any, tmp_path: Path) -> None:
        with serve(wrong=Served(b"another file"), right=Served(CONTENT)) as site:
            urls = [f"{site.address}/{name}" for name in ("gone", "wrong", "right")]
            spec = pinned(draft, urls=urls)
            assert find_source(spec) is None
            path = ready(spec, tmp_path)
            assert path.read_bytes() == CONTENT
            assert ready(spec, tmp_path) == path
            assert len(site.files["right"].requests) == 1
        names = {file.name for file in path.parent.iterdir()}
        assert names == {path.name, f"{path.name}.lock"}

    def test_two_drivers_at_once_download_it_once(
        self, draft: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As shards of one suite do; otherwise they would write to one file."""

        def slowly(*arguments: Any, **options: Any) -> Path:
            time.sleep(0.3)
            return download(*arguments, **options)

        monkeypatch.setattr("benchmark.sources.pinned.download", slowly)
        with serve(right=Served(CONTENT)) as site, ThreadPoolExecutor(2) as drivers:
            spec = pinned(draft, urls=[f"{site.address}/right"])
            paths = drivers.map(lambda name: ready(spec, tmp_path / name), ("one", "other"))
            assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
            assert len(site.files["right"].requests) == 1

    def test_no_address_has_it(self, draft: Any, tmp_path: Path) -> None:
        with serve(wrong=Served(b"another file")) as site:
            spec = pinned(draft, urls=[f"{site.address}/gone", f"{site.address}/wrong"])
            with pytest.raises(DataError, match=r"outline: .*/gone.*404.*/wrong.*SHA-256"):
                ready(spec, tmp_path)
        assert find_source(spec) is None

    def test_a_full_disk_is_not_the_fault_of_an_address(
        self, draft: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next address would only fill the disk, and the message would name them all."""
        usage = SimpleNamespace(free=5)
        monkeypatch.setattr("benchmark.folders.shutil.disk_usage", lambda path: usage)
        with serve(one=Served(CONTENT), other=Served(CONTENT)) as site:
            spec = pinned(draft, urls=[f"{site.address}/one", f"{site.address}/other"])
            with pytest.raises(StorageError, match=r"the download needs .* free some space"):
                ready(spec, tmp_path)
            assert not site.files["other"].requests

    def test_a_damaged_download_is_named(self, draft: Any, tmp_path: Path) -> None:
        with serve(right=Served(CONTENT)) as site:
            spec = pinned(draft, urls=[f"{site.address}/right"])
            ready(spec, tmp_path).write_bytes(b"the Weights")
        with pytest.raises(DataError, match="delete it to download it again: rm "):
            find_source(spec)


def ready(spec: SourceSpec, folder: Path) -> Path:
    """The source model as a run gets it. Nothing is trained, so no session is needed."""
    with Workspace(folder / "ws") as workspace:
        return ready_sources(None, [spec], workspace, 1, Silent())[spec].path  # type: ignore[arg-type]
