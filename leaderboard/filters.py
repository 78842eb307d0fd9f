"""Show a part of a suite's tables: some methods, or some states."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from benchmark.errors import MAX_ITEM, UsageError
from benchmark.text import near, one_line, plural
from leaderboard import remarks
from leaderboard.board import MEAN, Board

STATES = ("ok", "partial", "failed", "not-applicable")  # see ``cells.cell_states``


def only(boards: Sequence[Board], methods: Collection[str], states: Collection[str]) -> list[Board]:
    """The boards with only some of their methods; values and ranks stay those among all methods.

    Args:
        boards: of a suite.
        methods: names or labels; all if empty.
        states: the states that a method may have over all tasks of the board; all if empty.

    Raises:
        UsageError: no board has one of the methods, or nothing is left.
    """
    if not methods and not states:
        return list(boards)
    known = sorted({label for board in boards for label in board.labels})
    for method in methods:
        check_known(method, known)
    shown = [board for board in (_only(b, methods, states) for b in boards) if board.labels]
    if not shown:
        who = "none of the chosen methods" if methods else "no method"
        raise UsageError(
            f"{who} has the state {' or '.join(states)}; leave out --status to see all"
        )
    return shown


def is_method(label: str, methods: Collection[str]) -> bool:
    """Whether a label or its method is among those named; true if none is."""
    return not methods or label in methods or label.partition("(")[0] in methods


def check_known(method: str, labels: Collection[str]) -> None:
    """Check that a method or label exists.

    Raises:
        UsageError: it does not; the message suggests similar ones.
    """
    if any(is_method(label, [method]) for label in labels):
        return
    names = [one_line(label, MAX_ITEM) for label in labels]
    if names:
        rest = near(method, names).rstrip() or f"there are: {', '.join(names)}"
    else:
        rest = "there are no runs of any method; choose another workspace with --workspace"
    raise UsageError(f"no runs of method {one_line(repr(method), MAX_ITEM)}; {rest}")


def _only(board: Board, methods: Collection[str], states: Collection[str]) -> Board:
    cells = board.of_task(MEAN)
    labels = [
        label
        for label in board.labels
        if is_method(label, methods) and (not states or cells[label]["state"] in states)
    ]
    rows = board.rows.where(board.rows.is_in("label", labels))
    # What has no run at all is of no label: it is named only where nothing was selected by state.
    wanted = tuple(m for m in board.suite.methods if not states and m in methods)
    suite = replace(board.suite, methods=wanted)
    of_labels = tuple(f"{label}: " for label in labels)
    shown = f"{len(labels)} of {plural(len(cells), 'method')}; ranks are among all of them"
    return replace(
        board,
        context={**board.context, "shown": shown},
        values=board.values[board.values["label"].isin(labels)],
        versions=tuple(line for line in board.versions if line.startswith(of_labels)),
        problems=remarks.problems(suite, rows),
        not_applicable=remarks.not_applicable(suite, rows),
        notes=(*remarks.notes(suite, rows), *remarks.undefined_gaps(suite, board.rows)),
        comparisons=(),
    )
