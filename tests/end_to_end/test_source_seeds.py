"""A manifest with two source models per domain, fixed by it, and a second recipe."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmark.files import digest_file
from benchmark.manifest.toml import to_toml
from tests.end_to_end.conftest import Mini

PEEK = '''
from dataclasses import dataclass
from pathlib import Path
from htbench import Method

@dataclass(frozen=True)
class Peek(Method):
    """Fails if it can open a source model's file."""

    name = "peek"

    def adapt(self, source, target, run):
        for file in {files}:
            try:
                Path(file).read_bytes()
            except OSError:
                continue
            raise RuntimeError("a source model can be read: " + file)
        return source.copy()
'''
SUITE = """title = "Two source models"
manifest = "{folder}"
tasks = ["outline-solid"]
methods = ["source", "finetune"]
seeds = [0, 1, 2]
recipe = "{recipe}"
"""


@pytest.fixture(scope="module")
def pinned(mini: Mini, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Mini:
    """The slice with two source models that were trained, exported and then fixed."""
    root = tmp_path_factory.mktemp("pinned")
    folder = root / "two"
    own = Mini(root / "two.toml", folder, root / "data")
    folder.mkdir()
    (folder / "images.parquet").hardlink_to(mini.manifest / "images.parquet")
    document = tomllib.loads((mini.manifest / "manifest.toml").read_text())
    document["tasks"] = document["tasks"][:1]
    document["source"] |= {"seeds": 2}
    document["recipes"] = {"long": {"steps": 30}}
    (folder / "manifest.toml").write_text(to_toml(document))
    trained = command(own, "source", "train", "--manifest", folder, "--jobs", "2")
    assert trained.returncode == 0, trained.stderr
    listed = json.loads(command(own, "source", "list", "--json").stdout)
    entries = [entry for entry in listed if entry["provenance"] != "pinned"]
    assert sorted(entry["seed"] for entry in entries) == [0, 1]
    for entry in sorted(entries, key=lambda entry: entry["seed"]):
        options = ("--manifest", folder, "--seed", str(entry["seed"]))
        out = folder / f"outline-{entry['seed']}"
        result = command(own, "source", "export", *options, "--out", out)
        assert result.returncode == 0, result.stderr
        document["source"].setdefault("checkpoints", []).append(
            {
                "sources": ["outline"],
                "seed": entry["seed"],
                "sha256": digest_file(out / "model.safetensors"),
                "test_accuracy": entry["test_accuracy"],
                "file": f"{out.name}/model.safetensors",
            }
        )
    (folder / "manifest.toml").write_text(to_toml(document))
    for name, recipe in (("two", "default"), ("two-long", "long")):
        (root / f"{name}.toml").write_text(SUITE.format(folder=folder, recipe=recipe))
    return own


def files(own: Mini) -> list[Path]:
    return sorted(own.manifest.glob("*/model.safetensors"))


def test_runs_adapt_the_fixed_model_of_their_seed(
    pinned: Mini, command: Any, tmp_path: Path
) -> None:
    workspace = tmp_path / "ws"
    plugin = tmp_path / "peek.py"
    plugin.write_text(PEEK.replace("{files}", repr([str(file) for file in files(pinned)])))
    method = ("--method", "source", "--method", "finetune", "--plugin", plugin)
    result = command(pinned, "run", *pinned.options(workspace), *method)
    assert result.returncode == 0, result.stderr
    assert "source model" not in result.stderr  # none was trained
    digests = [digest_file(file) for file in files(pinned)]
    assert digests[0] != digests[1]
    for row in Mini.rows(workspace):
        assert row["source_digest"] == digests[row["seed"] % 2]
        assert row["status"] == "ok"
    # One table, although its rows start from two models.
    first = (workspace / "leaderboard.md").read_text()
    assert first.count("# Leaderboard") == 1
    assert f"source models: outline {digests[0][:12]} {digests[1][:12]}\n" in first
    assert "which adapt 2 source models in turn" in first

    long = pinned.suite.with_name("two-long.toml")
    options = ("--suite", long, "--workspace", workspace)
    again = command(pinned, "run", *options, "--method", "finetune")
    assert again.returncode == 0, again.stderr
    steps = {r["recipe_digest"]: r["total_steps"] for r in Mini.rows(workspace) if r["total_steps"]}
    assert sorted(steps.values()) == [20, 30]
    assert "- recipe: long" in (workspace / "leaderboard.md").read_text()
    default = command(pinned, "leaderboard", *pinned.options(workspace))
    assert default.stdout.startswith(first.rstrip())
    assert "## Other recipes" in default.stdout


def test_training_again_shows_both_and_replaces_nothing(pinned: Mini, command: Any) -> None:
    before = [digest_file(file) for file in files(pinned)]
    options = ("--manifest", pinned.manifest, "--seed", "0")
    result = command(pinned, "source", "train", *options, "--again")
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if "outline" in line]
    assert ["pinned" in lines[0], "trained" in lines[1]] == [True, True]
    # Trained by the same recipe on the same machine: the same weights.
    assert len({line.split()[4] for line in lines}) == 1
    assert [digest_file(file) for file in files(pinned)] == before


def test_wrong_input(pinned: Mini, command: Any, tmp_path: Path) -> None:
    manifest = ("--manifest", pinned.manifest)
    result = command(pinned, "source", "train", *manifest, "--seed", "2")
    assert "--seed 2: " in result.sentence
    assert "has 2 source models for each source" in result.sentence
    result = command(pinned, "source", "export", *manifest, "--out", tmp_path / "x")
    assert "name one source model with --seed (below 2): outline" in result.sentence
    file = files(pinned)[0]
    result = command(pinned, "source", "import", file, *manifest, "--seed", "0")
    assert "fixes the source model" in result.sentence
