"""`htbench figure`: files, captions and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.records import RunRecord
from tests.htbench.command import Htbench

WriteRun = Callable[..., RunRecord]
TASK = "outline-solid"


@pytest.fixture
def workspace(tmp_path: Path, write_run: WriteRun) -> Path:
    for seed in range(3):
        write_run(tmp_path, "source", TASK, seed, skill=0.5)
        log = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]
        write_run(tmp_path, "finetune", TASK, seed, skill=2.0, log=log)
    return tmp_path


@pytest.mark.parametrize("kind", ["tradeoff", "ausuc", "per-class", "curves"])
def test_a_figure_of_one_task(htbench: Htbench, workspace: Path, kind: str) -> None:
    out = workspace / "figure.svg"
    words = ("figure", kind, "--workspace", workspace, "--task", TASK, "--suite", "icons")
    status, caption, err = htbench(*words, "--width", "column", "--out", out)
    assert status == 0, err
    assert f"Suite icons, {TASK}, seeds 0-2." in caption
    assert out.read_text().startswith("<?xml")
    caption = htbench(*words, "--seed", "1", "--out", out)[1]
    assert f"Suite icons, {TASK}, seed 1." in caption


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cost", "--out", "a.jpg"), "must end in .svg, .png, .pdf"),
        (("cost", "--by", "draw", "--out", "a.svg"), "--by is only for sensitivity"),
        (("cost", "--width", "1", "--out", "a.svg"), "--width 1 must be column or page"),
        (("cost", "--out", "link.svg"), "symbolic link"),
        (("cost", "--task", "nope", "--out", "a.svg"), "--task nope is not in suite icons"),
        (("cost", "--task", "", "--out", "a.svg"), "is not in suite icons"),
        (
            ("cost", "--suite", "icons-tuned", "--out", "a.svg"),
            "run `htbench tune --suite icons-tuned --methods all --workspace",
        ),
        (("cost", "--out", "a.svg"), "no method has completed all tasks"),
        (("cost", "--out", "a.svg", "--workspace", "empty"), "run `htbench run --suite icons"),
        (
            ("cost", "--published", "--out", "a.svg"),
            "--workspace cannot be combined with --published, whose results are not in one",
        ),
    ],
)
def test_refusals(
    htbench: Htbench,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(workspace)
    (workspace / "link.svg").symlink_to("target.svg")
    status, _, err = htbench("figure", "--workspace", workspace, "--suite", "icons", *words)
    assert (status, message in err) == (2, True), err
    assert not (workspace / "a.svg").exists()
    assert not (workspace / "target.svg").exists()


def test_training_logs_are_not_published(htbench: Htbench, tmp_path: Path) -> None:
    status, _, err = htbench("figure", "curves", "--published", "--out", tmp_path / "a.svg")
    assert (status, "training logs are not published" in err) == (2, True), err
