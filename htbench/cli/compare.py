"""`htbench compare`: the paired difference of two methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.errors import UsageError
from htbench.cli.options import (
    ANY_SUITE,
    SHOWN_SEEDS,
    out_file_option,
    refuse_workspace_of,
    seeds_option,
    suite_option,
    tasks_option,
    workspace_option,
)
from htbench.cli.output import is_terminal, print_or_write, run_problems, screen
from htbench.progress import log

if TYPE_CHECKING:
    from collections.abc import Collection

    from benchmark.manifest.suite import Suite
    from leaderboard.board import Board

FORM_OF = {".tex": "latex", ".md": "markdown", ".json": "json", ".txt": "terminal"}


@click.command("compare")
@click.argument("first")
@click.argument("second")
@suite_option(ANY_SUITE)
@tasks_option("Compare on this task only; repeatable.  [default: all tasks of the suite]")
@seeds_option(SHOWN_SEEDS)
@workspace_option
@click.option(
    "--published", is_flag=True, help="Compare published results instead of a workspace's."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "latex", "json"]),
    help="Output format.  [default: by the extension of --out; else terminal on a terminal, and "
    "markdown in a pipe]",
)
@out_file_option(
    "Write to this file. An .svg, .png or .pdf is a figure of the differences; .tex is LaTeX."
)
def command(
    first: str,
    second: str,
    suite: str | None,
    tasks: tuple[str, ...],
    seeds: tuple[int, ...],
    workspace: Path,
    published: bool,
    form: str | None,
    out: Path | None,
) -> None:
    """Show how much method FIRST is above method SECOND, and on which classes.

    Each is the name of a method in the leaderboard, with its settings if it has several rows, or
    the beginning of such a name. Differences are paired: on the same tasks, seeds and test images.
    The first row is the mean over the tasks on which both have all runs. Where no two of these
    share a test set, the second row pools the test images of all of them.

    \b
    Examples:
      htbench compare lwf finetune
      htbench compare lwf finetune --task outline-solid --format json
      htbench compare balanced-softmax wise-ft --out difference.svg
    """
    from benchmark.drawing import FORMS
    from benchmark.runs.workspace import Workspace
    from htbench.own_suite import chosen_suite
    from htbench.published_boards import chosen_boards
    from leaderboard.pairs import compare
    from leaderboard.render import pair as render
    from leaderboard.render.compare_figure import draw

    kind = out.suffix.lower().removeprefix(".") if out is not None and form is None else ""
    if out is not None and form is None and kind not in FORMS and f".{kind}" not in FORM_OF:
        known = ", ".join([*(f".{k}" for k in FORMS), *FORM_OF])
        raise UsageError(
            f"--out {out} does not end in one of {known}; use one of them or add --format"
        )
    refuse_workspace_of(published)
    place = None if published else Workspace(workspace)
    loaded = chosen_suite(suite, place).part(tasks, seeds)
    with run_problems() as problems:

        def boards_of(part: Suite, asked: Collection[str]) -> list[Board]:
            return chosen_boards(part, place, problems.append, asked)

        pair = compare(boards_of, loaded, first, second)
        if kind in FORMS and out is not None:
            print_or_write(draw(pair, kind), out)
        else:
            form = form or FORM_OF.get(f".{kind}") or ("terminal" if is_terminal() else "markdown")
            if form == "terminal":
                text = render.pair_terminal(pair, screen(plain=out is not None))
            else:
                text = {
                    "markdown": render.pair_markdown,
                    "latex": render.pair_latex,
                    "json": render.pair_json,
                }[form](pair)
            print_or_write(text, out)
        if out is not None:
            log(f"wrote {out}")
