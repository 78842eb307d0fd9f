"""A plugin is edited between runs: the tables of `run` and `leaderboard` never mix its versions."""

from __future__ import annotations

import json
import re
from pathlib import Path

from htbench.run import run_suite

BODY = """
model = source.copy()
bias = torch.where(target.seen, 0.0, {constant})

class Shifted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = model
        self.register_buffer("bias", bias)

    def forward(self, images):
        return self.inner(images) + self.bias

return Shifted()
"""


def row(text: str) -> list[str]:
    """Name and overall accuracy of the plugin in the table of its task."""
    table = text.partition("## outline-solid")[2].partition("##")[0]
    (line,) = [line for line in table.splitlines() if line.startswith("| mix")]
    return [cell.strip() for cell in line.split("|")[1:3]]


def test_an_edited_plugin(htbench, mini, plugin, tmp_path: Path):
    workspace = tmp_path / "ws"
    at = mini.options(workspace)
    file = plugin(BODY.format(constant="0.0"), name="mix")
    task = ("--plugin", file, "--task", "outline-solid")

    def run(*options: str) -> str:
        """The board after a run."""
        assert htbench("run", *at, *task, *options).returncode == 0
        return (workspace / "leaderboard.md").read_text()

    first = row(run())
    assert first[0] == "mix"

    plugin(BODY.format(constant="50.0"), name="mix")
    edited = run("--seed", "0")
    assert row(edited)[0] == "mix (1 of 2 seeds) (3 runs exist)"
    assert row(edited)[1] != first[1]
    codes = re.search(
        r"mix: the row shows code (\w{8}); not averaged: 2 runs of code (\w{8})$",
        edited,
        flags=re.MULTILINE,
    )
    assert codes is not None
    assert codes[1] != codes[2]
    # Of all runs, the newest complete version is shown; here none is, so the one with more runs.
    assert row(htbench("leaderboard", *at).stdout) == ["mix (3 runs exist)", first[1]]

    plugin(BODY.format(constant="0.0"), name="mix")
    again = htbench("run", *at, *task)
    assert again.stderr == "", "nothing was run"
    assert row((workspace / "leaderboard.md").read_text()) == ["mix (3 runs exist)", first[1]]

    runs = json.loads(htbench("list", "runs", *at, "--json").stdout)
    assert sorted(run["method_code"][:8] for run in runs) == sorted([codes[1], *2 * [codes[2]]])
    assert codes[1] in htbench("list", "runs", *at).stdout

    frame = run_suite(
        mini.suite, plugins=[file], tasks=["outline-solid"], workspace=workspace, progress=False
    )
    cell = frame[(frame["label"] == "mix") & (frame["task"] == "outline-solid")].iloc[0]
    assert (cell["seeds"], cell["runs"], cell["other_runs"]) == (2, 3, 1)
    assert cell["method_code"].startswith(codes[2])
