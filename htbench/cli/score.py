"""`htbench score`: compute the metrics of one run from its predictions."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.text import one_line
from htbench.cli.options import json_option, suite_option, task_option, workspace_option
from htbench.cli.output import MAX_CELL, print_json


@click.command("score")
@click.argument("run", metavar="RUN_OR_PREDICTIONS")
@task_option("Task that the predictions file is for.")
@suite_option(
    "Suite of the predictions file, or of a run whose manifest is not a published one.",
    default="icons",
)
@workspace_option
@json_option
def command(run: str, task: str | None, suite: str, workspace: Path, as_json: bool) -> None:
    """Score a run, given by its key or a prefix of it, or a predictions file.

    A predictions file is a Parquet file with the columns sample_id (text) and logits (lists of
    floats, one per class, in the manifest's class order), as pandas and polars write them.

    \b
    Examples:
      htbench score 3f9a --json
      htbench score predictions.parquet --task outline-solid
    """
    from htbench.results import score_of
    from leaderboard.scoring import AREAS

    facts, scores = score_of(run, suite, workspace, task)
    if as_json:
        print_json({**facts, **scores})
        return
    width = max(map(len, [*facts, *scores]))
    for name, text in facts.items():
        click.echo(f"{name:<{width}}  {one_line(text, MAX_CELL)}")
    click.echo()
    for name, value in scores.items():
        number = str(value) if isinstance(value, int) else f"{value:.{4 if name in AREAS else 2}f}"
        click.echo(f"{name:<{width}}  {number:>7}")
