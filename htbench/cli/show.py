"""`htbench show`: everything about one run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htbench.cli.main import print_json, print_table

if TYPE_CHECKING:
    from benchmark.records import RunRecord


@click.command("show")
@click.argument("run")
@click.option("--suite", "suite_name", default="icons", show_default=True, metavar="SUITE",
              help="Whose manifest the run is of.")  # fmt: skip
@click.option("--workspace", "root", default="workspace", show_default=True, metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="Where runs are.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, suite_name: str, root: Path, as_json: bool) -> None:
    """Show one run: record, scores, accuracy by class, training curve, what made its key.

    RUN is a run's key, the beginning of it, or its folder (see `htbench list runs`).

    \b
    Examples:
      htbench show 3f9a
      htbench show 3f9a --json
    """
    from benchmark.records import PREDICTIONS_FILE, RunRecord
    from htbench.cli.score import find_run, manifest_of
    from leaderboard.per_class import per_class
    from leaderboard.results import (
        CALIBRATED,
        read_scored,
        score_predictions,
        star_of_predictions,
    )

    folder = find_run(run, root)
    record = RunRecord.read(folder)
    scores: dict[str, Any] = {}
    star: dict[str, Any] = {}
    classes: list[dict[str, Any]] = []
    if record.status == "ok":
        manifest = manifest_of(record, suite_name)
        task = manifest.task(record.task)
        path = folder / PREDICTIONS_FILE
        scores = score_predictions(path, manifest, record.task).as_dict()
        logits, labels = read_scored(path, manifest, record.task)
        if record.method == CALIBRATED:
            gamma, best = star_of_predictions(path, manifest, record.task)
            star = {"gamma": gamma, **best.as_dict()}
        rows = per_class(logits, labels, manifest.seen_mask(task), manifest.classes)
        classes = [dataclasses.asdict(row) for row in rows]
    if as_json:
        print_json({**dataclasses.asdict(record), "scores": scores, "gamma_star": star,
                    "classes": classes})  # fmt: skip
        return
    _print_record(record, folder)
    _print_search(record)
    _print_scores(scores)
    _print_star(star)
    _print_curve(record)
    _print_classes(classes)
    _print_key(record)


def _print_record(record: RunRecord, folder: Path) -> None:
    from leaderboard.board import printable

    click.echo(click.style(f"{record.label} on {record.task}, seed {record.seed}", bold=True))
    facts: dict[str, Any] = {
        "key": record.key,
        "folder": folder,
        "status": record.status,
        "manifest": f"{record.manifest} ({record.made_from['manifest'][:12]})",
        "track": record.track,
        "settings": " ".join(f"{k}={v}" for k, v in record.config.items()) or "-",
        "base run": (record.made_from["base"] or "-")[:12],
        "isolation": " ".join(record.isolation) or "none",
        "seconds": f"adapt {record.cost.get('adapt_seconds', 0):.2f}, "
        f"predict {record.cost.get('predict_seconds', 0):.2f}, "
        f"in all {record.cost.get('wall_seconds', 0):.2f}",
        "steps": f"{record.cost.get('total_steps', 0):g} in all, "
        f"{record.cost.get('sequential_steps', 0):g} one after the other",
        "peak memory": _memory(record),
        "environment": " ".join(f"{k}={v}" for k, v in record.environment.items()),
    }
    for name, value in facts.items():
        click.echo(f"  {name:<12} {printable(str(value))}")
    for note in record.notes:
        click.echo(f"\n  {printable(note)}")
    if record.error is not None:
        click.echo(f"\n{record.error['kind']}: {printable(record.error['message'])}")
        for line in record.error["traceback"].splitlines():
            click.echo(f"  {printable(line)}")
    output = folder / "output.txt"
    if output.is_file():
        click.echo("\nprinted by the run (the last lines)")
        for line in output.read_text("utf-8", errors="replace").splitlines()[-20:]:
            click.echo(f"  {printable(line)}")


def _memory(record: RunRecord) -> str:
    from benchmark.records import DEVICE_MEMORY

    text = f"{record.cost.get('peak_memory', 0) / 2**20:.0f} MiB"
    if DEVICE_MEMORY in record.cost:
        text += f", on the device {record.cost[DEVICE_MEMORY] / 2**20:.0f} MiB"
    return text


def _print_search(record: RunRecord) -> None:
    """The search that chose the settings, if one did."""
    from htbench.cli.tune import SEARCH_HEADERS, search_rows

    search = record.made_from.get("search")
    if search is None:
        return
    click.echo(f"\nsettings chosen by {search['by']}, {search['folds']} folds, "
               f"{search['steps']} gradient steps in all")  # fmt: skip
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


def _print_star(star: dict[str, Any]) -> None:
    """What the row of gamma-star says, which the scorer makes of this run."""
    if star:
        shown = ", ".join(f"{name} {star[name]:.2f}" for name in ("overall", "seen", "missing"))
        click.echo(f"gamma-star (oracle): {shown} with {star['gamma']:+.4g} on missing logits")


def _print_curve(record: RunRecord) -> None:
    from htbench.cli.plot import curve

    rows = [row for row in record.log if "loss" in row]
    if rows:
        last = f"{rows[-1].get('step', len(rows)):g}"
        click.echo(f"\ntraining loss, to step {last}")
        for line in curve([row["loss"] for row in rows]):
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
    print_table(rows, ["class", "group", "n", "accuracy, %", "most taken for"])


def _print_key(record: RunRecord) -> None:
    import json

    click.echo("\nmade from (the key is the SHA-256 of this)")
    for name, value in sorted(record.made_from.items()):
        if name == "search":
            value = "(above)"
        click.echo(f"  {name:<10} {value if isinstance(value, str) else json.dumps(value)}")
