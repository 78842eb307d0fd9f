"""`htbench show`: show the details of one run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.methods.files import CODE_FOLDER
from benchmark.text import one_line, plural
from htbench.cli.options import json_option, suite_option, workspace_option
from htbench.cli.output import plot_curve, print_json, print_table
from htbench.cli.tune import SEARCH_HEADERS, is_search, search_rows

if TYPE_CHECKING:
    from benchmark.records import RunRecord
    from htbench.results import RunDetails

MAX_LINES = 20  # of a traceback, a log and the like
MAX_FIELD = 1000  # bytes of a field of the record
MAX_NAME = 100  # bytes of the name of an input


@click.command("show")
@click.argument("run")
@suite_option("Suite of the run, if its manifest is not a published one.", default="icons")
@workspace_option
@json_option
def command(run: str, suite: str, workspace: Path, as_json: bool) -> None:
    """Show a run's record, scores, per-class accuracy, training curve and key.

    RUN is a run's key, a prefix of the key, or the run's folder (see `htbench list runs`).

    \b
    Examples:
      htbench show 3f9a
      htbench show 3f9a --json
    """
    from htbench.results import run_details
    from leaderboard.gamma_star import scores_as_text

    details = run_details(run, suite, workspace)
    if as_json:
        print_json(details.as_dict())
    else:
        _print(details)
        if details.gamma_star:
            click.echo(scores_as_text(details.gamma_star))
        _print_curve(details.record)
        _print_classes(details.classes)
        _print_key(details.record)
    if details.problem is not None:
        raise details.problem


def _print(details: RunDetails) -> None:
    record = details.record
    title = f"{record.label} on {record.task}, seed {record.seed}"
    click.echo(click.style(_line(title), bold=True))
    _print_facts(_facts(record, details))
    _print_code(details)
    _print_block([_line(note) for note in record.notes], "notes")
    _print_error(record)
    _print_block([_line(line) for line in details.last_output(MAX_LINES)], "output (last lines)")
    _print_search(record)
    _print_scores(details.scores)


def _facts(record: RunRecord, details: RunDetails) -> dict[str, Any]:
    cost = record.cost
    return {
        "key": record.key,
        "folder": details.folder,
        "status": record.status,
        "manifest": f"{details.manifest} ({_line(record.made_from.get('manifest'))[:12]})",
        "track": record.track,
        "settings": _pairs(record.config) or "-",
        "base run": _line(record.made_from.get("base") or "-")[:12],
        "isolation": " ".join(record.isolation) or "none",
        "seconds": f"adapt {_number(cost.get('adapt_seconds', 0))}, "
        f"predict {_number(cost.get('predict_seconds', 0))}, "
        f"total {_number(cost.get('wall_seconds', 0))}",
        "steps": _steps(cost),
        "peak memory": _memory(cost),
        "environment": _pairs(record.environment),
    }


def _print_facts(facts: Mapping[str, Any]) -> None:
    for name, value in facts.items():
        click.echo(f"  {name:<12} {_line(value)}")


def _print_code(details: RunDetails) -> None:
    """The method's files, and where copies of them are."""
    files = details.code()
    kept = [name for name, is_kept in files if is_kept]
    others = [name for name, is_kept in files if not is_kept]
    if kept:
        folder = _line(details.folder / CODE_FOLDER)
        click.echo(f"  {'code':<12} {_line(', '.join(kept))} (in {folder})")
    if others:
        click.echo(f"  {'other code':<12} {_line(', '.join(others))} (no copy)")


def _line(value: object) -> str:
    """A value of the record on one line."""
    return one_line(value, MAX_FIELD)


def _pairs(values: Mapping[str, Any]) -> str:
    return _line(" ".join(f"{name}={_line(value)}" for name, value in values.items()))


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if abs(value) < 1e12 else f"{value:.3g}"


def _steps(cost: Mapping[str, float]) -> str:
    total, depth = cost.get("total_steps", 0), cost.get("sequential_steps", 0)
    text = f"{total:g} in total, {depth:g} in sequence"
    if declared := cost.get("declared_steps", 0):
        text += f"; {declared:g} declared by the method, not counted"
    return text


def _memory(cost: Mapping[str, float]) -> str:
    from benchmark.records import DEVICE_MEMORY

    text = f"{_number(cost.get('peak_memory', 0) / 2**20, 0)} MiB"
    if DEVICE_MEMORY in cost:
        text += f", {_number(cost[DEVICE_MEMORY] / 2**20, 0)} MiB on the GPU"
    return text


def _print_block(lines: Sequence[str], title: str) -> None:
    """Print lines under a title, not more than ``MAX_LINES``; nothing without lines.

    The bar before each keeps them apart from the fields of the record.
    """
    if not lines:
        return
    click.echo(f"\n{title}")
    for line in lines[:MAX_LINES]:
        click.echo(f"  | {line}")
    if len(lines) > MAX_LINES:
        click.echo(f"  ({plural(len(lines) - MAX_LINES, 'more line')})")


def _print_error(record: RunRecord) -> None:
    if record.error is None:
        return
    kind, message = (record.error.get(name, "") for name in ("kind", "message"))
    lines = record.error.get("traceback", "").splitlines()
    title = _line(f"{kind}: {message}")
    if lines:
        _print_block([_line(line) for line in lines[-MAX_LINES:]], title)
    else:
        click.echo(f"\n{title}")


def _print_search(record: RunRecord) -> None:
    """The search that chose the settings, if any."""
    search = record.made_from.get("search")
    if not is_search(search):
        return
    click.echo(
        _line(
            f"hyper-parameters chosen by {search['by']} ({search['folds']} folds, "
            f"{search['steps']} gradient steps in total)"
        )
    )
    print_table(search_rows(search)[:MAX_LINES], ["settings", *SEARCH_HEADERS])


def _print_scores(scores: dict[str, Any]) -> None:
    from leaderboard.scoring import AREAS

    if not scores:
        return
    click.echo()
    names = ("overall", "seen", "missing", "harmonic", "seen_within", "missing_within")
    rows: list[list[object]] = [
        [
            "per sample",
            *(f"{scores[name]:.2f}" for name in names),
            *(f"{scores[name]:.4f}" for name in AREAS),
        ],
        ["per class", *(f"{scores[f'macro_{name}']:.2f}" for name in names), *("" for _ in AREAS)],
    ]
    headers = ["accuracy, %", *(n.replace("_", " ") for n in names), "AUSUC", "OpenworldAUC"]
    print_table(rows, headers)
    excluded = f", n_excluded = {scores['n_excluded']}" if scores["n_excluded"] else ""
    click.echo(f"n_seen = {scores['n_seen']}, n_missing = {scores['n_missing']}{excluded}")


def _print_curve(record: RunRecord) -> None:
    rows = [row for row in record.log if "loss" in row]
    if rows:
        last = f"{rows[-1].get('step', len(rows)):g}"
        click.echo(f"\ntraining loss up to step {last}")
        for line in plot_curve([row["loss"] for row in rows]):
            click.echo(f"  {line}")
    others = [row for row in record.log if "loss" not in row]
    lines = [", ".join(f"{name} {value:.4g}" for name, value in row.items()) for row in others]
    _print_block([_line(line) for line in lines], "training log")


def _print_classes(classes: list[dict[str, Any]]) -> None:
    if not classes:
        return
    click.echo()
    rows: list[list[object]] = [
        [
            c["name"],
            "seen" if c["seen"] else "missing",
            c["n"],
            f"{c['accuracy']:.1f}",
            f"{c['taken_for']} ({c['taken']:.0f} %)" if c["taken_for"] else "-",
        ]
        for c in classes
    ]
    print_table(rows, ["class", "group", "n", "accuracy, %", "most confused with"])


def _print_key(record: RunRecord) -> None:
    click.echo("\ninputs (the run's key is their SHA-256)")
    for name, value in sorted(record.made_from.items()):
        if name == "search" and is_search(value):
            value = "(above)"
        text = value if isinstance(value, str) else _json(value)
        click.echo(f"  {one_line(name, MAX_NAME):<10} {_line(text)}")


def _json(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "(nested too deeply)"
