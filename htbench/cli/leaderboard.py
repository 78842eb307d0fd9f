"""`htbench leaderboard`: the board of a workspace, from its runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from benchmark.manifest import Suite
    from benchmark.runs.workspace import Workspace
    from leaderboard.board import Board

BOARD_FILE = "leaderboard.md"


@click.command("leaderboard")
@click.option("--suite", "suite_name", default="icons", show_default=True, metavar="SUITE",
              help="Name of a suite, or a .toml file.")  # fmt: skip
@click.option("--format", "kind", type=click.Choice(["markdown", "csv", "json"]),
              default="markdown", show_default=True, help="How to print it.")  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write to a file instead.")  # fmt: skip
@click.option("--workspace", "root", default="workspace", show_default=True, metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="Where runs are.")  # fmt: skip
def command(suite_name: str, kind: str, out: Path | None, root: Path) -> None:
    """Score what is not scored yet and print the leaderboard of a suite.

    \b
    Examples:
      htbench leaderboard
      htbench leaderboard --suite icons --format csv --out icons.csv
    """
    from benchmark.manifest import load_suite
    from benchmark.runs.workspace import Workspace

    print_board(load_suite(suite_name), Workspace(root), kind, out=out)


def boards_of(suite: Suite, workspace: Workspace) -> list[Board]:
    """The boards of a suite, from results that are brought up to date; none without a run."""
    from benchmark.manifest import load_manifest
    from leaderboard.board import build_boards
    from leaderboard.results import update_results

    manifest = load_manifest(suite.manifest)
    return build_boards(suite, manifest, update_results(workspace.root, [manifest]))


def print_board(
    suite: Suite,
    workspace: Workspace,
    kind: str,
    *,
    out: Path | None = None,
    write: bool = False,
    show: bool = True,
    network: str | None = None,
) -> None:
    """Bring the results up to date and print the boards of a suite.

    Args:
        suite: the suite.
        workspace: where its runs are.
        kind: one of the formats of ``leaderboard.render``.
        out: a file to write instead of printing.
        write: also leave ``leaderboard.md`` in the workspace.
        show: print it, where no ``out`` is given.
        network: print the tables of this one only, as ``--model`` writes it.

    Raises:
        UsageError: there is no run to show.
    """
    from benchmark.errors import UsageError
    from benchmark.files import write_file
    from leaderboard.render import FORMATS

    boards = boards_of(suite, workspace)
    if not boards:
        raise UsageError(
            f"{workspace.root} has no run of suite {suite.name}; "
            "`htbench run` with the same --suite makes them, --workspace names another folder"
        )
    if write:
        write_file(workspace.root / BOARD_FILE, FORMATS["markdown"](boards).encode())
    if network is not None:
        boards = [board for board in boards if board.context["network"] == network]
    text = FORMATS[kind](boards)
    if out is None and show:
        click.echo(text, nl=False)
    elif out is not None:
        write_file(out, text.encode())
        click.echo(f"wrote {out}", err=True)
