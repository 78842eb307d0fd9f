"""`htbench list`: what there is to choose from."""

from __future__ import annotations

from pathlib import Path

import click

from htbench.cli.main import print_json, print_table


@click.group("list")
def command() -> None:
    """List methods, tasks, suites, data sets or runs.

    \b
    Examples:
      htbench list methods
      htbench list tasks --suite icons --json
    """


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@command.command()
@click.option("--plugin", "plugins", multiple=True, metavar="FILE[:CLASS]",
              help="A file with a method of your own.")  # fmt: skip
@click.option("--suite", "suite_name", metavar="SUITE",
              help="Only this suite's methods, with their means in the workspace.")  # fmt: skip
@click.option("--workspace", "root", default="workspace", show_default=True, metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path),
              help="Where the suite's runs are.")  # fmt: skip
@click.option("--markdown", is_flag=True, help="Print a table for a README: papers, no fields.")
@click.option("--into", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write that table into a file, between its lines <!-- methods: ... --> and "
                   "<!-- end of methods -->.")  # fmt: skip
@_as_json
def methods(
    plugins: tuple[str, ...],
    suite_name: str | None,
    root: Path,
    markdown: bool,
    into: Path | None,
    as_json: bool,
) -> None:
    """List methods with their hyper-parameters, or with their means on a suite.

    \b
    Examples:
      htbench list methods
      htbench list methods --plugin my_method.py --json
      htbench list methods --suite icons-full --into README.md
    """
    from benchmark.errors import UsageError, first
    from benchmark.manifest import load_suite
    from benchmark.registry import entry_point_sources, resolve
    from benchmark.runs.workspace import Workspace
    from htbench.cli.leaderboard import boards_of
    from htbench.cli.methods import entries_of, markdown_of, write_between
    from htbench.cli.session import Session
    from leaderboard.render.methods import SHOWN, means, without_means

    if as_json and (markdown or into):
        raise UsageError("--json goes without --markdown and --into: choose one")
    if into and suite_name is None:
        raise UsageError("--into writes a table with means: say of which suite with --suite")
    suite = load_suite(suite_name) if suite_name else None
    names = suite.methods if suite else entry_point_sources()
    with Session() as session:
        found = resolve(names, plugins, session.describe)
    markdown = markdown or into is not None
    entries = entries_of(found, derived=markdown or suite is not None)
    boards = boards_of(suite, Workspace(root)) if suite else []
    if markdown:
        table = markdown_of(entries, suite, boards)
        if into is None:
            click.echo(table)
        elif lacking := without_means(boards, [entry["method"] for entry in entries]):
            raise UsageError(
                f"{root} has not all runs of suite {suite_name} ({len(lacking)} of {len(entries)} "
                f"methods lack some: {first(lacking)}); htbench run --suite {suite_name} does them"
            )
        else:
            write_between(into, table)
            click.echo(f"wrote the table of {len(entries)} methods into {into}", err=True)
        return
    if suite:
        entries = [{**entry, **means(boards, entry["method"])} for entry in entries]
    if as_json:
        print_json(entries)
        return
    rows: list[list[object]] = []
    details: list[list[object]] = []
    for e in entries:
        values = [e[name] for name in SHOWN] if suite else []
        shown = ("-" if v is None else f"{v:.1f}" for v in values)
        rows.append([e["method"], e["track"], *shown, e["summary"]])
        fields = " ".join(f"{name}={value}" for name, value in e["fields"].items())
        parts = [e["base"] or "-", ", ".join(e["needs"]) or "-", fields or "-"]
        if any(part != "-" for part in parts):
            details.append([e["method"], *parts])
    print_table(rows, ["method", "track", *(SHOWN if suite else ()), "what it does"])
    click.echo()
    print_table(details, ["method", "starts from", "needs", "fields (--set) and their defaults"])


@command.command()
@click.option("--suite", "suite_name", metavar="SUITE", help="Only the tasks of this suite.")
@_as_json
def tasks(suite_name: str | None, as_json: bool) -> None:
    """List the tasks of every data set, or of one suite.

    \b
    Examples:
      htbench list tasks
      htbench list tasks --suite icons --json
    """
    from benchmark.manifest import load_manifest, load_suite, published_manifests

    suite = load_suite(suite_name) if suite_name else None
    references = [suite.manifest] if suite else published_manifests()
    entries = []
    for manifest in map(load_manifest, references):
        for task in manifest.tasks:
            if suite is None or task.id in suite.tasks:
                entries.append(
                    {
                        "task": task.id,
                        "manifest": manifest.reference,
                        "sources": list(task.sources),
                        "target": task.target,
                        "seen": len(task.seen),
                        "missing": int(manifest.missing_mask(task).sum()),
                    }
                )
    if as_json:
        print_json(entries)
        return
    rows = [[*list(e.values())[:2], "+".join(e["sources"]), e["target"], e["seen"], e["missing"]]  # type: ignore[arg-type]
            for e in entries]  # fmt: skip
    print_table(rows, ["task", "manifest", "source", "target", "seen classes", "missing classes"])


@command.command()
@_as_json
def suites(as_json: bool) -> None:
    """List the suites: grids that are run by name.

    \b
    Examples:
      htbench list suites
      htbench list suites --json
    """
    from benchmark.manifest import known_suites, load_suite

    found = [load_suite(name) for name in known_suites()]
    if as_json:
        print_json([{**vars(s), "tasks": list(s.tasks), "methods": list(s.methods),
                     "seeds": list(s.seeds)} for s in found])  # fmt: skip
        return
    rows: list[list[object]] = [
        [s.name, s.manifest, len(s.tasks), len(s.methods), len(s.seeds), s.title] for s in found
    ]
    print_table(rows, ["suite", "manifest", "tasks", "methods", "seeds", "title"])


@command.command()
@_as_json
def datasets(as_json: bool) -> None:
    """List the data sets and their versions.

    \b
    Examples:
      htbench list datasets
      htbench list datasets --json
    """
    from benchmark.manifest import load_manifest, published_manifests, published_recipes

    entries = []
    found = published_manifests()
    for manifest in map(load_manifest, found):
        entries.append(
            {
                "manifest": manifest.reference,
                "images": manifest.table.num_rows,
                "classes": len(manifest.classes),
                "domains": [d.name for d in manifest.domains],
                "tasks": len(manifest.tasks),
                "title": manifest.document["title"],
            }
        )
    if as_json:
        print_json(entries)
        return
    rows: list[list[object]] = [
        [e["manifest"], e["images"], e["classes"], " ".join(e["domains"]), e["tasks"], e["title"]]
        for e in entries
    ]
    print_table(rows, ["data set", "images", "classes", "domains", "tasks", "title"])
    for recipe in published_recipes():
        if recipe not in found:
            click.echo(f"\n{recipe} is a recipe: htbench manifest expand {recipe} --metadata FILE")


@command.command()
@click.option("--suite", "suite_name", default="icons", show_default=True, metavar="SUITE",
              help="Whose runs to list.")  # fmt: skip
@click.option("--workspace", "root", default="workspace", show_default=True, metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="Where runs are.")  # fmt: skip
@_as_json
def runs(suite_name: str, root: Path, as_json: bool) -> None:
    """List the runs of a workspace with their scores.

    A line of gamma-star is no run: the scorer makes it of a run of finetune.

    \b
    Examples:
      htbench list runs
      htbench list runs --workspace ./other --json
    """
    import json

    from benchmark.manifest import load_manifest, load_suite, network_label
    from benchmark.runs.workspace import Workspace
    from leaderboard.results import update_results

    manifest = load_manifest(load_suite(suite_name).manifest)
    names = ("key", "task", "label", "seed", "status", "overall", "seen", "missing")
    found = sorted(
        (
            {name: row[name] for name in names}
            | {
                "network": network_label(json.loads(row["model"])),
                "seconds": row["measured_wall_seconds"],
            }
            for row in update_results(Workspace(root).root, [manifest]).to_pylist()
            if row["manifest_digest"] == manifest.digest
        ),
        key=lambda row: (row["network"], row["task"], row["label"], row["seed"], row["key"]),
    )
    if as_json:
        print_json(found)
        return
    rows: list[list[object]] = []
    for row in found:
        scores = [row[n] for n in ("overall", "seen", "missing", "seconds")]
        shown = ["-" if value is None else f"{value:.1f}" for value in scores]
        rows.append([row["key"][:12], *(row[n] for n in names[1:5]), *shown, row["network"]])
    print_table(rows, ["key", "task", "method", "seed", "status", "overall", "seen", "missing",
                       "s", "network"])  # fmt: skip
