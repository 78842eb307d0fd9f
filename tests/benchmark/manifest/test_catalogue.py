"""Manifests are found by reference or by folder, and their digests are pinned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmark.errors import ManifestError
from benchmark.folders import packaged_manifests
from benchmark.manifest import catalogue
from benchmark.manifest.catalogue import (
    load_manifest,
    pinned_digests,
    published_manifests,
    shown_reference,
)
from benchmark.manifest.manifest import Manifest
from htbench.cli.list import command as list_command


class TestLoadManifest:
    def test_a_reference_and_a_folder_name_the_same_manifest(self, icons: Manifest) -> None:
        assert load_manifest(packaged_manifests() / "icons" / "2.0").digest == icons.digest

    @pytest.mark.parametrize(
        "reference",
        [
            *("icons", "icons@", "icons@9.9", "../icons@2.0", ""),
            *(f"{'x' * 300}@1.0", f"icons@2.{'0' * 300}", f"icons@2.0+{'x' * 300}", "x" * 300),
            *("icons\0", "\0@1.0"),
        ],
    )
    def test_an_unknown_reference_lists_the_known_ones(self, reference: str) -> None:
        with pytest.raises(ManifestError, match=r"unknown manifest .*known: .*icons@2\.0"):
            load_manifest(reference)

    @pytest.mark.parametrize(
        ("typo", "name"), [("icon@2.0", "icons@2.0"), ("iwildcm@1.1", "iwildcam@1.1")]
    )
    def test_a_typo_names_the_nearest(self, typo: str, name: str) -> None:
        with pytest.raises(ManifestError, match=f"unknown manifest '{typo}'; did you mean {name}"):
            load_manifest(typo)

    def test_the_folder_must_be_named_after_the_manifest(self, draft: Any, own_data: Path) -> None:
        draft.root = own_data / "manifests" / "other" / "0.1"
        draft.write()
        assert "other@0.1" in published_manifests()
        with pytest.raises(
            ManifestError, match="rename it to match the manifest's name and version"
        ):
            load_manifest("other@0.1")

    def test_one_that_cannot_be_used_can_be_deleted(self, draft: Any, own_data: Path) -> None:
        draft.root = own_data / "manifests" / "mini" / "0.1"
        (draft.write() / "images.parquet").unlink()
        with pytest.raises(ManifestError, match=r"images\.parquet does not exist.*delete .*mini/0"):
            load_manifest("mini@0.1")

    def test_the_data_folder_is_searched(self, draft: Any, own_data: Path) -> None:
        draft.root = own_data / "manifests" / "mini" / "0.1"
        assert draft.read().digest == load_manifest("mini@0.1").digest


class TestRecipeThatIsNotExpanded:
    @pytest.mark.parametrize(
        "reference", ["iwildcam@1.1", "iwildcam", "data_manifests/iwildcam/1.1"]
    )
    def test_loading_it_names_the_command(self, reference: str) -> None:
        if "/" in reference:
            reference = str(packaged_manifests() / "iwildcam" / "1.1")
        command = r"htbench manifest expand iwildcam@1\.1 --metadata metadata\.csv$"
        with pytest.raises(ManifestError, match=command):
            load_manifest(reference)

    def test_an_unknown_reference_lists_recipes(self) -> None:
        with pytest.raises(ManifestError, match=r"recipes to expand: iwildcam@1\.1"):
            load_manifest("iwildcam@9.9")

    def test_the_lists_include_it(self, own_data: Path) -> None:
        result = CliRunner().invoke(list_command, ["datasets"])
        assert result.exit_code == 0
        assert "htbench manifest expand iwildcam@1.1 --metadata FILE" in result.output
        entries = json.loads(CliRunner().invoke(list_command, ["datasets", "--json"]).output)
        assert "icons@2.0" in [entry["manifest"] for entry in entries]


def test_every_published_digest_is_pinned() -> None:
    """A published version never changes; a correction is a new version."""
    references = {
        f"{path.parent.parent.name}@{path.parent.name}"
        for path in packaged_manifests().glob("*/*/manifest.toml")
    }
    assert pinned_digests() == {name: load_manifest(name).digest for name in references}


class TestWithdrawn:
    DIGEST = "1" * 64

    @pytest.fixture(autouse=True)
    def pins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = {"digest": self.DIGEST, "reason": "it was wrong", "use": "icons@2.0"}
        pins = {"withdrawn": {"icons@0.9": entry}, "icons@2.0": "2" * 64}
        monkeypatch.setattr(catalogue, "read_toml", lambda path: pins)

    def test_loading_it_says_why_and_what_to_use(self) -> None:
        with pytest.raises(
            ManifestError, match=r"icons@0\.9 was withdrawn, because it was wrong; use icons@2\.0$"
        ):
            load_manifest("icons@0.9")

    def test_a_folder_with_its_content_is_refused_too(
        self, draft: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manifest = draft.read()
        entry = {"digest": manifest.digest, "reason": "it was wrong", "use": "mini@0.2"}
        monkeypatch.setattr(catalogue, "_pins", lambda: {"withdrawn": {manifest.reference: entry}})
        with pytest.raises(ManifestError, match=r"mini@0\.1 in .* was withdrawn, .*mini@0\.2"):
            load_manifest(draft.root)
        draft.document["title"] = "Another"  # other content under the same name is not withdrawn
        assert load_manifest(draft.write()).digest != manifest.digest

    def test_its_results_are_marked(self) -> None:
        assert shown_reference("icons@0.9", self.DIGEST) == "icons@0.9 (withdrawn)"
        assert shown_reference("icons@0.9", "3" * 64) == "icons@0.9 (changed: 33333333)"
        assert shown_reference("icons@2.0", "2" * 64) == "icons@2.0"

    def test_it_is_not_among_the_pins(self) -> None:
        assert pinned_digests() == {"icons@2.0": "2" * 64}
