"""Where source models are found, and what tells one from another."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.errors import DataError, ManifestError, UsageError
from benchmark.files import digest_file, seal
from benchmark.folders import data_folder
from benchmark.sources.pretrained import find_pretrained, pretrained_name, pretrained_path
from benchmark.sources.spec import (
    MODEL_FILE,
    RECORD_FILE,
    SourceSpec,
    damaged_sources,
    find_source,
    known_sources,
    save_imported,
    save_source,
)

pytestmark = pytest.mark.usefixtures("own_data")

FACTS = {"test_accuracy": 50.0, "test_images": 10}
WEIGHTS = "MobileNet_V2_Weights.IMAGENET1K_V1"


@pytest.fixture
def spec(mini):
    return SourceSpec.of(mini, ("outline",), "cpu")


def put_pretrained(content: bytes) -> Path:
    """Write pretrained weights to the data folder."""
    folder = data_folder() / "weights" / WEIGHTS
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "weights.safetensors"
    file.write_bytes(content)
    record = {"digest": digest_file(file), "file_sha256": "0" * 64, "verified": True}
    (folder / "weights.json").write_bytes(seal(record))
    return file


def damaged(good: bytes) -> Iterator[bytes]:
    """The bytes with one flipped bit, cut off, empty, or as another program or version writes."""
    for bit in random.Random(0).sample(range(8 * len(good)), 30):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        yield bytes(data)
    yield from (good[: len(good) // 2], b"", b"[]", b"null", b'{"digest": 1}', b'{"sha256": 1}')


class TestFind:
    def test_there_is_none_at_first(self, spec):
        assert find_source(spec) is None
        assert known_sources() == []

    def test_what_was_trained_is_found_again(self, spec):
        checkpoint = save_source(spec, b"weights", FACTS)
        source = find_source(spec)
        assert source == checkpoint
        assert source.path.read_bytes() == b"weights"
        assert source.record["provenance"] == "trained"
        assert known_sources() == [checkpoint]

    def test_the_order_of_the_domains_makes_no_difference(self, mini):
        one = SourceSpec.of(mini, ("outline", "solid"), "cpu")
        assert one == SourceSpec.of(mini, ("solid", "outline"), "cpu")

    def test_another_device_or_domain_is_another(self, spec, mini):
        save_source(spec, b"weights", FACTS)
        assert find_source(replace(spec, device="cuda")) is None
        assert find_source(SourceSpec.of(mini, ("solid",), "cpu")) is None

    @pytest.mark.parametrize("name", [MODEL_FILE, RECORD_FILE])
    def test_a_damaged_one_is_never_used(self, spec, name):
        """A trained one is trained again; an imported one is refused, with the remedy."""
        save_source(spec, b"weights", FACTS)
        file = spec.folder / name
        for data in damaged(file.read_bytes()):
            file.write_bytes(data)
            assert find_source(spec) is None
            assert known_sources() == []
            (problem,) = damaged_sources()
            assert f"rm -r {spec.folder}" in problem
        save_imported(spec, b"imported", FACTS)
        file = spec.imported_folder / name
        for data in damaged(file.read_bytes()):
            file.write_bytes(data)
            with pytest.raises(DataError, match=f"delete its folder.*rm -r {spec.imported_folder}"):
                find_source(spec)

    def test_a_folder_of_another_source_model_is_never_used(self, spec, mini):
        other = SourceSpec.of(mini, ("solid",), "cpu")
        save_source(other, b"weights", FACTS)
        shutil.copytree(other.folder, spec.folder)
        assert find_source(spec) is None
        save_imported(other, b"weights", FACTS)
        shutil.copytree(other.imported_folder, spec.imported_folder)
        with pytest.raises(DataError, match="belongs to another folder; delete its folder"):
            find_source(spec)


class TestImported:
    def test_it_comes_before_what_was_trained_on_every_device(self, spec):
        save_source(spec, b"weights", FACTS)
        imported = save_imported(spec, b"imported", {**FACTS, "note": "a friend's"})
        assert find_source(spec) == imported
        assert find_source(replace(spec, device="cuda")) == imported
        assert imported.record["provenance"] == "imported"
        assert imported.record["note"] == "a friend's"

    def test_it_is_of_its_domains_only(self, spec, mini):
        save_imported(spec, b"imported", FACTS)
        assert find_source(SourceSpec.of(mini, ("solid",), "cpu")) is None

    def test_the_same_again_is_fine_and_another_is_refused(self, spec):
        save_imported(spec, b"imported", FACTS)
        save_imported(spec, b"imported", FACTS)
        with pytest.raises(UsageError, match="another source model was already imported"):
            save_imported(spec, b"other", FACTS)


class TestPretrainedWeights:
    @pytest.fixture
    def pretrained(self, draft):
        draft.document["model"] = {"name": "mobilenet_v2", "weights": WEIGHTS}
        return SourceSpec.of(draft.read(), ("outline",), "cpu")

    def test_a_manifest_may_name_none(self, mini):
        assert pretrained_name(mini.model) is None
        assert find_pretrained(mini.model) is None
        assert pretrained_path(mini.model) is None

    @pytest.mark.parametrize("name", ["ResNet50", "../a.b", 3, ""])
    def test_a_name_is_that_of_a_library(self, name):
        with pytest.raises(ManifestError, match="it must be a name such as"):
            pretrained_name({"weights": name})

    def test_their_bytes_are_part_of_what_a_source_model_is_made_from(self, pretrained):
        keys = {pretrained.key}
        for content in (b"one", b"two"):
            put_pretrained(content)
            keys.add(pretrained.key)
        assert len(keys) == 3

    def test_without_them_the_only_source_model_that_they_gave_is_found(self, pretrained):
        """They were deleted, or it was copied to another machine, perhaps without a network."""
        models = []
        for content in (b"one", b"two"):
            put_pretrained(content)
            models.append(save_source(pretrained, content, FACTS))
        assert find_source(pretrained) == models[1]
        shutil.rmtree(data_folder() / "weights")
        assert find_source(pretrained) is None  # of two, neither
        shutil.rmtree(models[0].path.parent)
        assert find_source(pretrained) == models[1]
        assert find_source(replace(pretrained, device="cuda")) is None
        models[1].path.parent.rename(pretrained.folder)  # a folder of another key
        assert find_source(pretrained) is None

    def test_damaged_weights_are_not_trained_from(self, pretrained):
        file = put_pretrained(b"weights")
        model = pretrained.manifest.model
        assert pretrained_path(model) == str(file)
        file.write_bytes(b"weighty")
        with pytest.raises(DataError, match="missing or corrupted"):
            pretrained_path(model)
        file.unlink()
        with pytest.raises(DataError, match="is missing; delete its folder"):
            pretrained_path(model)

    def test_a_damaged_record_of_them_is_never_used(self, pretrained):
        file = put_pretrained(b"weights")
        record = file.with_name("weights.json")
        good = record.read_bytes()
        weights = find_pretrained(pretrained.manifest.model)
        for data in damaged(good):
            record.write_bytes(data)
            with contextlib.suppress(DataError):
                pretrained_path(pretrained.manifest.model)
                assert find_pretrained(pretrained.manifest.model) == weights
        with pytest.raises(DataError, match=f"rm -r {file.parent}"):
            pretrained_path(pretrained.manifest.model)
