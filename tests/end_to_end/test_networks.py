"""`--model`: other networks instead of the manifest's, as a user names them."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from benchmark.folders import data_folder
from benchmark.manifest.toml import to_toml
from benchmark.networks.build import library_network, weights_of
from benchmark.sources import get_pretrained
from leaderboard.gamma_star import NAME as GAMMA_STAR
from tests.benchmark.serving import Served, serve
from tests.end_to_end.conftest import Mini

TASK = ("--task", "outline-solid", "--seed", "0")
VIT = "timm/test_vit"
SHUFFLE = "shufflenet_v2_x0_5"
ALL = ("source", "finetune", "bn-stats", "lora", "linear-probe")
HUB = "https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"


@pytest.fixture(scope="module")
def short(mini, tmp_path_factory) -> Mini:
    """The slice with two steps of training everywhere."""
    root = tmp_path_factory.mktemp("short")
    folder = shutil.copytree(mini.manifest, root / "manifest")
    document = tomllib.loads((folder / "manifest.toml").read_text())
    for name in ("source", "recipe"):
        document[name]["steps"] = 2
    (folder / "manifest.toml").write_text(to_toml(document))
    suite = root / "short.toml"
    suite.write_text(mini.suite.read_text().replace(str(mini.manifest), str(folder)))
    return Mini(suite, folder, root / "data")


@pytest.fixture(scope="module")
def networks(short, command, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A workspace with runs of three networks, and the results of each command."""
    workspace = tmp_path_factory.mktemp("networks") / "ws"
    methods = [w for m in ALL for w in ("--method", m)]
    results = {}
    for name in (None, VIT, SHUFFLE):
        option = ["--model", name] if name else []
        results[name] = command(short, "run", *short.options(workspace), *TASK, *methods, *option)
        assert results[name].returncode == 0, results[name].stderr
    return workspace, results


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("# ")]


def rows_of(workspace: Path, network: str) -> dict[str, dict[str, Any]]:
    rows = [r for r in Mini.rows(workspace) if json.loads(r["model"])["name"] == network]
    return {row["method"]: row for row in rows}


class TestRun:
    def test_every_network_has_its_own_rows(self, networks):
        workspace, _ = networks
        for name in ("convnet", VIT, SHUFFLE):
            rows = rows_of(workspace, name)
            assert set(rows) == {*ALL, GAMMA_STAR}
            assert len({row["source_digest"] for row in rows.values()}) == 1
        assert len({row["manifest_digest"] for row in Mini.rows(workspace)}) == 1
        assert len({row["source_digest"] for row in Mini.rows(workspace)}) == 3

    def test_without_batch_norm_its_methods_are_not_applicable_and_nothing_fails(self, networks):
        workspace, results = networks
        states = {name: row["status"] for name, row in rows_of(workspace, VIT).items()}
        assert states.pop("bn-stats") == "not-applicable"
        assert set(states.values()) == {"ok"}
        board = results[VIT].stdout
        assert "* bn-stats (n/a) " in board
        assert "## Not applicable" in board
        assert "bn-stats" in board.partition("## Not applicable")[2]
        assert "the network has no BatchNorm layer" in board
        shuffle = rows_of(workspace, SHUFFLE)
        assert {row["status"] for row in shuffle.values()} == {"ok"}

    def test_tables_are_named_after_the_network_and_all_are_kept(self, networks, short, htbench):
        workspace, results = networks
        names = {None: "short", VIT: f"short, {VIT}", SHUFFLE: f"short, {SHUFFLE}"}
        for network, name in names.items():
            assert results[network].stdout.startswith(f"# Runs: {name}\n")
        everything = ["short", f"short, {SHUFFLE}", f"short, {VIT}"]
        expected = [f"# Leaderboard: {name}" for name in everything]
        assert headings((workspace / "leaderboard.md").read_text()) == expected
        board = htbench("leaderboard", *short.options(workspace))
        assert headings(board.stdout) == expected

    def test_the_key_names_the_library(self, networks):
        workspace, _ = networks
        for name, library in ((VIT, "timm"), (SHUFFLE, "torchvision")):
            key = rows_of(workspace, name)["finetune"]["key"]
            record = json.loads((workspace / "runs" / key / "run.json").read_text())["made_from"]
            assert record["model"] == {"name": name}
            assert record[library]

    def test_finished_runs_are_not_repeated(self, networks, short, htbench, monkeypatch):
        workspace, _ = networks
        monkeypatch.setenv("HTBENCH_DATA", str(short.data))
        plan = (
            "run",
            "--suite",
            short.suite,
            *TASK,
            "--method",
            "finetune",
            "--workspace",
            workspace,
            "--dry-run",
            "--json",
        )
        for name in ("convnet", VIT):
            (entry,) = json.loads(htbench(*plan, "--model", name).stdout)
            assert entry["state"] == "done"
            assert entry["key"] == rows_of(workspace, name)["finetune"]["key"]
        (entry,) = json.loads(htbench(*plan, "--model", "timm/test_resnet").stdout)
        assert entry["state"] == "to run, after its source model"
        output = htbench(*plan[:-1], "--model", "timm/test_resnet").stdout
        assert "1 source model must be trained first" in output

    def test_runs_are_listed_with_their_network(self, networks, short, htbench, monkeypatch):
        workspace, _ = networks
        monkeypatch.setenv("HTBENCH_DATA", str(short.data))
        at = ("list", "runs", *short.options(workspace))
        runs = json.loads(htbench(*at, "--json").stdout)
        assert {run["network"] for run in runs} == {"convnet", VIT, SHUFFLE}
        assert VIT in htbench(*at).stdout


def test_a_search_is_on_the_network(short, command, tmp_path):
    workspace = tmp_path / "ws"
    result = command(
        short,
        "tune",
        "wise-ft",
        "--suite",
        short.suite,
        *TASK,
        "--grid",
        "alpha=0,1",
        "--repeats",
        "1",
        "--model",
        VIT,
        "--workspace",
        workspace,
    )
    assert result.returncode == 0, result.stderr
    assert f"# Leaderboard: short, {VIT}" in result.stdout
    (row,) = [row for row in Mini.rows(workspace) if row["label"] == "wise-ft(tuned)"]
    assert json.loads(row["model"]) == {"name": VIT}
    folds = [json.loads(p.read_text()) for p in (workspace / "tuning").glob("runs/*/run.json")]
    assert folds
    assert all(record["made_from"]["model"] == {"name": VIT} for record in folds)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuchnet", "unknown model 'nosuchnet'; torchvision.models.list_models() lists all"),
        ("resnet-18", "did you mean resnet18"),
        ("timm/nosuch", "unknown model 'timm/nosuch'"),
        ("resnet18@Nope", "no pretrained weights 'Nope'; known: ResNet18_Weights.IMAGENET1K_V1"),
        ("timm/test_vit.nope", "no pretrained weights 'test_vit.nope'; known: test_vit.r160_in1k"),
        ("squeezenet1_0", "SqueezeNet cannot be split into a backbone and a linear head"),
        ("inception_v3", "cannot be split"),
        ("alexnet", "this network cannot be trained on images of 32 x 32 pixels ("),
        ("timm/deit_tiny_distilled_patch16_224.fb_in1k", "has several output layers"),
        ("resnet18 v2", "use a torchvision network (NAME or NAME@WEIGHTS"),
    ],
)
@pytest.mark.parametrize("command", ["run", "source"])
def test_a_network_that_cannot_be_used_is_one_sentence(
    htbench, mini, tmp_path, monkeypatch, command, name, words
):
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "data"))
    arguments = {
        "run": ("run", *mini.options(tmp_path / "ws")),
        "source": ("source", "train", "--suite", mini.suite),
    }[command]
    sentence = htbench(*arguments, "--model", name).sentence
    assert words in sentence
    assert sentence.count("\n") == 1
    assert "--model " in sentence
    assert not (tmp_path / "ws").exists()
    assert not (tmp_path / "data" / "sources").exists()


class TestWeightsOfTimm:
    @pytest.fixture
    def source(self, htbench, tmp_path, monkeypatch, short):
        monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "data"))
        which = ("--manifest", short.manifest, "--source", "outline")
        name = ("--model", "timm/test_resnet.r160_in1k")
        return lambda command, *rest: htbench("source", command, *which, *name, *rest)

    @pytest.fixture
    def file(self, tmp_path):
        """The network under timm's names with its thousand classes, as the hub has it."""
        torch.manual_seed(0)
        path = tmp_path / "model.safetensors"
        network = library_network({"name": "timm/test_resnet"}, 32)
        safetensors.torch.save_file(weights_of(network), path)
        return path

    def test_they_are_fetched_from_where_timm_says_and_training_starts_from_them(
        self, source, file, monkeypatch, tmp_path
    ):
        addresses = []
        with serve(**{"model.safetensors": Served(file.read_bytes())}) as site:

            def address(server, manifest, original=get_pretrained._address):
                addresses.append(original(server, manifest))
                return f"{site.address}/model.safetensors"

            monkeypatch.setattr(get_pretrained, "_address", address)
            result = source("train")
        assert result.returncode == 0, result.stderr
        assert addresses == [HUB]
        weights = data_folder() / "weights" / "test_resnet.r160_in1k" / "weights.safetensors"
        start = safetensors.torch.load_file(weights)
        assert torch.equal(start["fc.weight"], safetensors.torch.load_file(file)["fc.weight"])
        (path,) = (data_folder() / "sources").glob("*/model.safetensors")
        trained = safetensors.torch.load_file(path)
        name = "conv1.0.weight"
        gap = (trained[f"backbone.{name}"] - start[name]).abs().max()
        assert 0 < gap < 0.5 * start[name].abs().max()
        out = tmp_path / "exported"
        assert source("export", "--out", out).returncode == 0
        assert "--model timm/test_resnet.r160_in1k" in (out / "README.md").read_text()

    def test_where_the_hub_is_out_of_reach_the_whole_command_is_named(self, source, monkeypatch):
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        words = source("train").stderr
        assert f"cannot download {HUB}" in words
        assert "--model timm/test_resnet.r160_in1k --weights FILE" in words

    def test_a_state_under_timm_s_names_can_be_imported(self, source, tmp_path, short):
        torch.manual_seed(1)
        network = library_network({"name": "timm/test_resnet"}, 32, num_classes=12)
        safetensors.torch.save_file(weights_of(network), tmp_path / "mine.safetensors")
        result = source("import", tmp_path / "mine.safetensors")
        assert result.returncode == 0, result.stderr
        (path,) = (data_folder() / "sources").glob("*/model.safetensors")
        state = safetensors.torch.load_file(path)
        assert torch.equal(state["head.weight"], network.state_dict()["fc.weight"])
