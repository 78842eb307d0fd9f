"""From a method to a row of the published board: as its author, then as a maintainer.

The author and the maintainer share the suite, a folder for what is submitted, and nothing else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.files import SEAL, digest_file, seal
from benchmark.isolation import sandbox
from benchmark.records import read_predictions, write_predictions
from leaderboard.accepted import read_accepted, read_log
from leaderboard.submission.folder import SUMS_FILE, list_files, sums_of

pytestmark = pytest.mark.skipif(bool(sandbox.available().missing), reason="no sandbox")

METHOD = """
from dataclasses import dataclass

import torch

from htbench import Classifier, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class HalfWay(Method):
    name = "half-way"
    alpha: float = 0.5

    def adapt(self, source: SourceModel, data: TargetData, run: Run) -> Classifier:
        model = source.copy()
        fit(model, data, run, steps=3)
        with torch.no_grad():
            for new, old in zip(model.parameters(), source.copy().parameters(), strict=True):
                new.lerp_(old, 1 - self.alpha)
        return model
"""
BY = ("--by", "A. Maintainer")


def improve(folder: Path, labels: Callable[[str], int]) -> None:
    """Edit the predictions of a submission, and make everything match again."""
    for path in folder.glob("runs/*/run.json"):
        file = path.with_name("predictions.parquet")
        ids, logits = read_predictions(file)
        logits = logits.copy()
        for i, sample in enumerate(ids[:40]):
            logits[i, labels(sample)] += 50
        write_predictions(file, ids, logits)
        entries = json.loads(path.read_text())
        del entries[SEAL]
        path.write_bytes(seal({**entries, "predictions_sha256": digest_file(file)}))
    (folder / SUMS_FILE).write_bytes(sums_of(folder, list_files(folder)))


def test_a_method_gets_a_verified_row_and_an_edited_one_does_not(htbench, icons, tmp_path) -> None:
    def run(*words: object, status: int = 0) -> str:
        result = htbench(*map(str, words))
        assert result.returncode == status, result.stderr
        return result.stdout + result.stderr

    author, maintainer = tmp_path / "author", tmp_path / "maintainer"
    sent, edited, published = (maintainer / name for name in ("sent", "edited", "published"))
    for folder in (author, published):
        folder.mkdir(parents=True)
    suite = tmp_path / "slice.toml"
    suite.write_text(
        'title = "A slice"\nmanifest = "icons@2.0"\ntasks = ["outline-solid"]\n'
        'methods = ["source"]\nseeds = [0, 1]\n'
    )
    (author / "half_way.py").write_text(METHOD)

    # The author runs a configuration that is not the default, and packs it.
    workspace = ("--suite", suite, "--workspace", author / "ws")
    run("run", *workspace, "--plugin", author / "half_way.py", "--set", "alpha=0.75")
    about = ("--author", "A. Author", "--paper", "none", "--code", "none", "--licence", "MIT")
    run("submit", "pack", "half-way", *workspace, "--out", author / "out", *about)
    for folder in (sent, edited):
        shutil.copytree(author / "out", folder)
    shutil.rmtree(author)

    # The maintainer repeats a run of it and one with a seed of their own choice.
    options = (*BY, "--suite", suite, "--published", published)
    out = run("submit", "verify", sent, *options, "--seed", 0, "--seed", 7)
    assert "identical: outline-solid, seed 0 (overall +0.00" in out
    assert "outline-solid, seed 7" in out
    assert "this seed was not announced" in out
    file = maintainer / "sent.verification.json"
    out = run("submit", "accept", sent, *options, "--verification", file)
    assert "accept: 2 rows of half-way on slice, verified" in out
    (accepted,) = read_accepted(published)
    assert accepted.results["label"].to_pylist() == ["half-way(alpha=0.75)"] * 2
    assert [cell["seed"] for cell in accepted.verification["cells"]] == [0, 7]
    assert [entry.action for entry in read_log(published)] == ["accept"]

    # Better predictions whose sums match pass the checks, and not the repetition.
    samples = icons.samples(icons.task("outline-solid").target, "test")
    of_sample = dict(zip(samples.ids, samples.labels.tolist(), strict=True))
    improve(edited, of_sample.__getitem__)
    run("submit", "withdraw", "half-way", *BY, "--why", "a test", "--published", published)
    out = run("submit", "verify", edited, *options, "--runs", 1, status=1)
    assert "its predictions are others on the same kind of machine" in out
    assert "not verified; wrote" in out
