"""`htbench figure`: draw a figure of a board."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.errors import UsageError
from htbench.cli.options import (
    ANY_SUITE,
    SHOWN_SEEDS,
    LocalPath,
    methods_option,
    refuse_workspace_of,
    seeds_option,
    suite_option,
    task_option,
    workspace_option,
)
from htbench.cli.output import run_problems
from htbench.progress import log
from leaderboard.figure_kinds import COSTS, KINDS, LINES

# The option that only one figure has.
ONLY = {"against": "per-class", "lines": "tradeoff", "cost": "cost", "by": "sensitivity"}


class _Figure(click.Command):
    """Lists the kinds of figures in its help."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Kinds"):
            formatter.write_dl([(name, kind.summary) for name, kind in KINDS.items()])
        super().format_options(ctx, formatter)


@click.command("figure", cls=_Figure)
@click.argument("kind", metavar="KIND", type=click.Choice(list(KINDS)))
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=LocalPath(),
    help="File to write; its extension (.svg, .png or .pdf) sets the format.",
)
@suite_option(ANY_SUITE)
@task_option("Draw this task.  [default: the mean over all tasks]")
@seeds_option(SHOWN_SEEDS)
@methods_option("Label or draw this method; repeatable.  [default: the figure chooses]")
@click.option(
    "--width",
    default="page",
    show_default=True,
    metavar="WIDTH",
    help="Width: column (3.3 inches), page (6.8 inches), or a number of inches from 2.5 to 20.",
)
@click.option("--against", metavar="METHOD", help="per-class: compare with it.  [default: source]")
@click.option(
    "--lines",
    type=click.Choice(LINES),
    help="tradeoff: what is equal along the grey lines.  [default: overall]",
)
@click.option(
    "--cost",
    type=click.Choice(list(COSTS)),
    help="cost: what is on the horizontal axis.  [default: seconds]",
)
@click.option(
    "--by",
    type=click.Choice(["recipe", "draw", "share"]),
    help="sensitivity: what changes.  [default: the first that the suite has]",
)
@click.option(
    "--published",
    is_flag=True,
    help="Draw the results that are published with this project instead of a workspace's.",
)
@workspace_option
def command(
    kind: str,
    out: Path,
    suite: str | None,
    task: str | None,
    seeds: tuple[int, ...],
    methods: tuple[str, ...],
    width: str,
    published: bool,
    workspace: Path,
    **only: str | None,
) -> None:
    """Draw a figure of a suite's leaderboard, and print its caption.

    Only methods that have all of their runs are drawn. The same results give the same file.

    \b
    Examples:
      htbench figure tradeoff --out tradeoff.pdf
      htbench figure per-class --method lwf --against finetune --width column --out lwf.svg
      htbench figure partial --suite icons-partial --out partial.png
    """
    from benchmark.drawing import form_of
    from benchmark.files import check_output, write_file
    from benchmark.runs.workspace import Workspace
    from htbench.own_suite import chosen_suite
    from htbench.published_boards import chosen_boards
    from htbench.results import log_reader
    from leaderboard.render.figures import Request, figure_bytes
    from leaderboard.render.figures.request import inches
    from leaderboard.rows import MEAN

    options = {name: value for name, value in only.items() if value is not None}
    for name in options:
        if ONLY[name] != kind:
            raise UsageError(f"--{name} is only for {ONLY[name]}, not for {kind}; leave it out")
    form = form_of(out)
    check_output(out)
    size = inches(width)
    refuse_workspace_of(published)
    place = None if published else Workspace(workspace)
    loaded = chosen_suite(suite, place).part(seeds=seeds)
    loaded.part([] if task is None else [task])  # reports an unknown one before runs are scored
    with run_problems() as problems:
        board, *others = chosen_boards(loaded, place, problems.append)
        if others:
            log(f"drawing the table {board.name}, the first of {1 + len(others)}")
        request = Request(
            board,
            task=task or MEAN,
            methods=methods,
            width=size,
            log_of=None if place is None else log_reader(place),
            **options,
        )
        content, caption = figure_bytes(request, kind, form)
        write_file(out, content)
        click.echo(caption)
        log(f"wrote {out}")
