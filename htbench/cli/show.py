"""`htbench show`: show the details of one run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.methods.files import CODE_FOLDER
from htbench.cli.options import json_option, suite_option, workspace_option
from htbench.cli.output import plot_curve, print_json, print_table, printable
from htbench.cli.tune import SEARCH_HEADERS, search_rows

if TYPE_CHECKING:
    from benchmark.records import RunRecord
    from htbench.results import RunDetails

OUTPUT_LINES = 20  # of what the run printed


@click.command("show")
@click.argument("run")
@suite_option("Suite that the run belongs to.", default="icons")
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
        return
    record = details.record
    _print_record(record, details.folder)
    _print_code(details)
    _print_error(record)
    _print_output(details)
    _print_search(record)
    _print_scores(details.scores)
    if details.gamma_star:
        click.echo(scores_as_text(details.gamma_star))
    _print_curve(record)
    _print_classes(details.classes)
    _print_key(record)


def _print_record(record: RunRecord, folder: Path) -> None:
    click.echo(click.style(f"{record.label} on {record.task}, seed {record.seed}", bold=True))
    cost = record.cost
    facts: dict[str, Any] = {
        "key": record.key,
        "folder": folder,
        "status": record.status,
        "manifest": f"{record.manifest} ({record.made_from['manifest'][:12]})",
        "track": record.track,
        "settings": " ".join(f"{k}={v}" for k, v in record.config.items()) or "-",
        "base run": (record.made_from["base"] or "-")[:12],
        "isolation": " ".join(record.isolation) or "none",
        "seconds": f"adapt {cost.get('adapt_seconds', 0):.2f}, "
        f"predict {cost.get('predict_seconds', 0):.2f}, "
        f"total {cost.get('wall_seconds', 0):.2f}",
        "steps": _steps(cost),
        "peak memory": _memory(cost),
        "environment": " ".join(f"{k}={v}" for k, v in record.environment.items()),
    }
    for name, value in facts.items():
        click.echo(f"  {name:<12} {_line(str(value))}")
    for note in record.notes:
        click.echo(f"\n  {_line(note)}")


def _print_code(details: RunDetails) -> None:
    """The method's files, and where copies of them are."""
    files = details.code()
    kept = [name for name, is_kept in files if is_kept]
    others = [name for name, is_kept in files if not is_kept]
    if kept:
        click.echo(f"  {'code':<12} {_line(', '.join(kept))} (in {details.folder / CODE_FOLDER})")
    if others:
        click.echo(f"  {'other code':<12} {_line(', '.join(others))} (no copy)")


def _line(text: str) -> str:
    """Untrusted text on one line."""
    return printable(text.replace("\n", "?"))


def _steps(cost: Mapping[str, float]) -> str:
    total, depth = cost.get("total_steps", 0), cost.get("sequential_steps", 0)
    text = f"{total:g} in total, {depth:g} in sequence"
    if declared := cost.get("declared_steps", 0):
        text += f"; {declared:g} declared by the method, not counted"
    return text


def _memory(cost: Mapping[str, float]) -> str:
    from benchmark.records import DEVICE_MEMORY

    text = f"{cost.get('peak_memory', 0) / 2**20:.0f} MiB"
    if DEVICE_MEMORY in cost:
        text += f", {cost[DEVICE_MEMORY] / 2**20:.0f} MiB on the GPU"
    return text


def _print_error(record: RunRecord) -> None:
    if record.error is None:
        return
    click.echo(f"\n{record.error['kind']}: {_line(record.error['message'])}")
    for line in record.error["traceback"].splitlines():
        click.echo(f"  {_line(line)}")


def _print_output(details: RunDetails) -> None:
    if lines := details.last_output(OUTPUT_LINES):
        click.echo("\noutput of the run (last lines)")
        for line in lines:
            click.echo(f"  {_line(line)}")


def _print_search(record: RunRecord) -> None:
    """The search that chose the settings, if any."""
    search = record.made_from.get("search")
    if search is None:
        return
    click.echo(
        f"\nhyper-parameters chosen by {search['by']} ({search['folds']} folds, "
        f"{search['steps']} gradient steps in total)"
    )
    print_table(search_rows(search), ["settings", *SEARCH_HEADERS])


def _print_scores(scores: dict[str, Any]) -> None:
    if not scores:
        return
    click.echo()
    names = ("overall", "seen", "missing", "harmonic", "seen_within", "missing_within")
    rows: list[list[object]] = [
        ["per sample", *(f"{scores[n]:.2f}" for n in names), f"{scores['ausuc']:.4f}"],
        ["per class", *(f"{scores[f'macro_{n}']:.2f}" for n in names), ""],
    ]
    headers = ["accuracy, %", *(n.replace("_", " ") for n in names), "AUSUC"]
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
    for row in record.log:
        if "loss" not in row:
            click.echo("  " + ", ".join(f"{name} {value:.4g}" for name, value in row.items()))


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
        if name == "search":
            value = "(above)"
        click.echo(f"  {name:<10} {value if isinstance(value, str) else json.dumps(value)}")
