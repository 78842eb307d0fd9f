"""Writes the tables and figures of README.md and docs/ from the published results: `make board`.

A page has a table between the lines ``<!-- table: NAME ... -->`` and ``<!-- end of table -->``,
where NAME and what follows it are one of:

    mean SUITE                    the suite's mean over tasks
    excerpt SUITE METHOD ...      some rows and columns of it
    methods SUITE                 all methods, with their papers and means
    provenance                    all methods, with their papers and what agrees with public code
    comparison SUITE NUMBER       a comparison that the suite's results allow, counted from 1
    suites SUITE SUITE ...        the order of methods on several suites
    tuning SUITE TUNED            the order of methods at their defaults and tuned
    accuracies SUITE SUITE ...    overall, seen and missing accuracy on suites that differ in their
                                  recipe: the references, and the three best methods of each
    published                     which results are published, and what made them
    columns                       the columns of a table, and their names in files
    file-columns                  the other columns of CSV, JSON and Parquet files
    submission-checks             the checks of a submission
    gpu-hours SUITE ...           what suites cost in GPU hours, from published speeds; also of a
                                  recipe, such as iwildcam@1.1

`python docs/boards.py --site DIR` also writes the board of ``icons-full`` as a folder of pages.
`python docs/boards.py publish SUITE ... --workspace DIR --command TEXT` publishes results of a
workspace first (with `--add` also runs that are published already, so that a suite can be run in
parts), and `python docs/boards.py predictions SUITE --workspace DIR` the predictions of
published results.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from benchmark.citations import read_citations, short_reference
from benchmark.errors import HTBenchError, UsageError
from benchmark.files import write_file
from benchmark.gpu_hours import PUBLISHED, hours, images_of_runs, images_of_source
from benchmark.manifest.suite import Suite, load_suite, manifest_of
from benchmark.methods.find import builtin_methods, reference_first
from benchmark.records import verified_predictions
from benchmark.runs.workspace import Workspace
from benchmark.text import plural
from htbench.methods import describe_methods, markdown_table, method_entries
from htbench.published_boards import published_board
from htbench.site import write_boards_site
from leaderboard import columns, gamma_star
from leaderboard.board import MEAN, Board
from leaderboard.comparison import Comparison
from leaderboard.conditions import by_board, by_tuning
from leaderboard.outcome_files import WorkspaceOutcomes
from leaderboard.published import publish, read_published, relative_costs
from leaderboard.published_predictions import publish_predictions
from leaderboard.render.cells import literal, pipe_table
from leaderboard.render.comparison import comparison_markdown
from leaderboard.render.figures import figure_bytes
from leaderboard.render.figures.request import Request
from leaderboard.render.legend import mean_heading
from leaderboard.render.markdown import board_table
from leaderboard.results import update_results
from leaderboard.rows import Row
from leaderboard.submission.checks import CHECKS

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TABLE = re.compile(r"(<!-- table: ([^\n]+) -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)
PACKAGES = ("htbench", "benchmark", "baselines", "leaderboard/*.py", "data_manifests")
# The figures of the documentation: the suite and the kind of figure.
FIGURES = {
    "tradeoff.svg": ("icons-full", "tradeoff"),
    "partial.svg": ("icons-partial", "partial"),
}
SITE_SUITE = "icons-full"  # whose board is written as pages
FACTS = ("command", "commit", "machine")
EXCERPT = ("rank", "method", "overall", "seen", "missing", "disr.", "H")
ACCURACIES = ("method", "overall", "seen", "missing")
REFERENCES = ("source", "bn-stats", "finetune", "oracle-finetune")  # of the table of accuracies
BEST = 3  # methods that it also shows


def _mean(suite: str) -> str:
    board = _board(suite)
    return f"**{mean_heading(board)}**\n\n{board_table(board, MEAN)}"


def _excerpt(suite: str, *methods: str) -> str:
    rows = _cells(_board(suite))
    chosen = [[row[heading] for heading in EXCERPT] for row in rows if _method(row) in methods]
    return pipe_table(EXCERPT, chosen, left=2)


def _cells(board: Board) -> list[dict[str, str]]:
    """The rows of a board's table of means, by heading, in its order: oracles last."""
    lines = board_table(board, MEAN).splitlines()
    headings, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [dict(zip(headings, row, strict=True)) for row in rows]


def _method(row: Mapping[str, str]) -> str:
    """The method of a row, without the remark that it is an oracle."""
    return row["method"].split(" ")[0]


def _methods(suite: str) -> str:
    descriptions = describe_methods(None)
    return markdown_table(
        method_entries(descriptions, derived=True), load_suite(suite), [_board(suite)]
    )


def _provenance() -> str:
    """What agrees with the papers and their code, from docs/provenance.toml."""
    entries = tomllib.loads((ROOT / "docs" / "provenance.toml").read_text("utf-8"))
    papers = {**read_citations()["methods"], **gamma_star.PAPERS}
    rows = []
    for name in sorted(entries, key=reference_first):
        entry = entries[name]
        paper, link = short_reference(papers[name][0])
        repository, _, path = entry.get("code", "").partition(" ")
        code = f"[{repository}](https://github.com/{repository}) {path}".strip()
        rows.append(
            [
                name,
                f"[{paper}]({link})" if link else paper,
                code if repository else "-",
                entry.get("equal", "-"),
                entry.get("choice", "-"),
            ]
        )
    headers = ["method", "paper", "public code", "what is equal", "what is htbench's choice"]
    return pipe_table(headers, rows, left=5)


def _comparison(suite: str, number: str) -> str:
    return _body(_board(suite).comparisons[int(number) - 1])


def _suites(*suites: str) -> str:
    comparison = by_board("Suites", {suite: _board(suite) for suite in suites})
    if comparison is None:
        raise UsageError(f"the suites {', '.join(suites)} have fewer than two methods in common")
    return _body(comparison)


def _tuning(suite: str, tuned: str) -> str:
    of_tuned = load_suite(tuned)
    default = published_board(replace(load_suite(suite), seeds=of_tuned.seeds))
    comparison = by_tuning("Tuning", default, _board(tuned))
    if comparison is None:
        raise UsageError(f"the suites {suite} and {tuned} have fewer than two methods in common")
    return _body(comparison)


def _accuracies(*suites: str) -> str:
    loaded = [load_suite(suite) for suite in suites]
    seeds = tuple(sorted(set.intersection(*(set(suite.seeds) for suite in loaded))))
    chosen = []
    for suite in loaded:
        rows = _cells(published_board(replace(suite, seeds=seeds)))
        best = [_method(row) for row in rows if _method(row) not in REFERENCES][:BEST]
        chosen += [
            [suite.recipe, *(row[heading] for heading in ACCURACIES)]
            for row in rows
            if _method(row) in (*best, *REFERENCES)
        ]
    return pipe_table(["recipe", *ACCURACIES], chosen, left=2)


def _body(comparison: Comparison) -> str:
    """A comparison without its heading, which the page has."""
    return comparison_markdown(comparison).split("\n", 2)[2].strip()


def _published() -> str:
    rows = [
        [literal(p.suite), str(p.results.num_rows), *(literal(p.facts[name]) for name in FACTS)]
        for p in read_published()
    ]
    return pipe_table(["suite", "rows", *FACTS], rows, left=1)


def _columns() -> str:
    rows = [
        [c.heading, f"`{c.key}`", f"{literal(c.legend)}{' (optional)' if c.optional else ''}"]
        for c in columns.COLUMNS
    ]
    return pipe_table(["heading", "name in files", "meaning"], rows, left=3)


def _file_columns() -> str:
    rows = [
        ["`table`", columns.TABLE],
        *([f"`{name}`", meaning] for name, meaning in columns.CELL.items()),
        *([f"`NAME{suffix}`", meaning] for suffix, meaning in columns.SUFFIXES.items()),
        ["`rank`", columns.RANK],
    ]
    return pipe_table(["name", "meaning"], rows, left=2)


def _submission_checks() -> str:
    rows = [[f"`{check.name}`", check.purpose] for check in CHECKS]
    return pipe_table(["check", "a submission passes with"], rows, left=2)


def _gpu_hours(*suites: str) -> str:
    headers = ["suite", "runs", "source models", "million images", *(s.name for s in PUBLISHED)]
    rows = []
    for name in suites:
        runs, sources, images = (_recipe_cost if "@" in name else _suite_cost)(name)
        each = [f"{hours(images, speed):.0f}" for speed in PUBLISHED]
        rows.append([f"`{name}`", str(runs), str(sources), f"{images / 1e6:.0f}", *each])
    return pipe_table(headers, rows, left=1)


def _suite_cost(name: str) -> tuple[int, int, float]:
    """Runs, source models and training images of a suite."""
    suite = load_suite(name)
    manifest, costs = manifest_of(suite), relative_costs()
    tasks = [manifest.task(task) for task in suite.tasks]
    runs = [(t, m) for t in tasks for m in suite.methods for _ in suite.seeds]
    sources = len({task.sources for task in tasks}) * manifest.source_seeds
    images = images_of_runs(manifest, runs, costs) + sources * images_of_source(manifest)
    return len(runs), sources, images


def _recipe_cost(reference: str) -> tuple[int, int, float]:
    """The same of a recipe's suite for the most tasks that it can have, without predictions."""
    folder = ROOT / "data_manifests" / Path(*reference.split("@"))
    document = tomllib.loads((folder / "recipe.toml").read_text("utf-8"))
    locations = (folder / "locations.csv").read_text("utf-8").splitlines()[1:]
    tasks = sum(document["rule"]["target"] in row.split(",")[1].split() for row in locations)
    methods, costs, seeds = builtin_methods(), relative_costs(), len(document["suite"]["seeds"])
    steps = [
        document[name]["steps"] * document[name]["batch_size"] for name in ("recipe", "source")
    ]
    images = tasks * seeds * steps[0] * sum(costs.get(name, 1.0) for name in methods) + steps[1]
    return tasks * seeds * len(methods), 1, images


TABLES: dict[str, Callable[..., str]] = {
    "mean": _mean,
    "excerpt": _excerpt,
    "methods": _methods,
    "provenance": _provenance,
    "comparison": _comparison,
    "suites": _suites,
    "tuning": _tuning,
    "accuracies": _accuracies,
    "published": _published,
    "columns": _columns,
    "file-columns": _file_columns,
    "submission-checks": _submission_checks,
    "gpu-hours": _gpu_hours,
}


def _board(name: str) -> Board:
    """The main board of a suite from the published results.

    Raises:
        UsageError: nothing is published for the suite.
    """
    return published_board(load_suite(name))


def main() -> None:
    """Rewrite the pages, or publish results first."""
    parser = argparse.ArgumentParser(description="Write the tables of README.md and docs/.")
    parser.add_argument("--check", action="store_true", help="only report pages that differ")
    parser.add_argument("--site", type=Path, help="also write the board as pages to this folder")
    commands = parser.add_subparsers(dest="command_name")
    publishing = commands.add_parser("publish", help="publish the results of a workspace")
    publishing.add_argument("suites", nargs="+")
    publishing.add_argument("--workspace", type=Path, default=Path("workspace"))
    publishing.add_argument("--command", required=True, help="the command that made the runs")
    publishing.add_argument(
        "--add", action="store_true", help="use published rows for runs that the workspace misses"
    )
    of_predictions = commands.add_parser("predictions", help="publish the predictions of a suite")
    of_predictions.add_argument("suite")
    of_predictions.add_argument("--workspace", type=Path, default=Path("workspace"))
    arguments = parser.parse_args()
    if arguments.command_name == "predictions":
        _publish_predictions(arguments.suite, Workspace(arguments.workspace))
    if arguments.command_name == "publish":
        for name in arguments.suites:
            _publish(load_suite(name), arguments.workspace, arguments.command, add=arguments.add)
    if not arguments.check:
        for name, (suite, kind) in FIGURES.items():
            content, _ = figure_bytes(Request(_board(suite)), kind, "svg")
            write_file(ROOT / "docs" / "figures" / name, content)
    if arguments.site is not None:
        write_boards_site(arguments.site, [_board(SITE_SUITE)])
        print(f"wrote {arguments.site}; open {arguments.site / 'index.html'} in a browser")
    stale = [page for page in PAGES if (text := page.read_text("utf-8")) != rewritten(text)]
    for page in stale:
        if not arguments.check:
            write_file(page, rewritten(page.read_text("utf-8")).encode())
        print(("differs: " if arguments.check else "wrote ") + str(page.relative_to(ROOT)))
    sys.exit(1 if arguments.check and stale else 0)


def rewritten(text: str) -> str:
    """A page's text with its tables written again."""
    return TABLE.sub(lambda match: f"{match[1]}{table(*match[2].split())}\n{match[4]}", text)


def table(name: str, *words: str) -> str:
    """The text of a table; see the top of this file.

    Raises:
        UsageError: there is no such table.
    """
    if name not in TABLES:
        raise UsageError(f"there is no table {name!r}; there are: {', '.join(TABLES)}")
    return TABLES[name](*words)


def _publish(suite: Suite, workspace: Path, command: str, *, add: bool) -> None:
    """Publish the results of a suite.

    Raises:
        UsageError: runs are missing, or files that are not committed may have changed them.
    """
    if changes := _git("status", "--porcelain", "--", *PACKAGES):
        raise UsageError(f"commit these changes first, so that a commit says what ran:\n{changes}")
    facts = {"command": command, "commit": _git("rev-parse", "HEAD")[:12], "machine": _machine()}
    manifest = manifest_of(suite)
    results = update_results(workspace, [manifest])
    outcomes = WorkspaceOutcomes(workspace, manifest)
    earlier = read_published() if add else ()
    published = publish(suite, manifest, results, facts, outcomes=outcomes, earlier=earlier)
    print(f"published {plural(published.results.num_rows, 'row')} of {suite.name}")


def _publish_predictions(suite: str, workspace: Workspace) -> None:
    def file_of(row: Row) -> Path:
        return verified_predictions(workspace.folder(row["key"]), row["predictions_sha256"])

    path = publish_predictions(suite, _board(suite).rows, file_of)
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def _machine() -> str:
    """The processor, the number of cores and the system, such as ``... x 2 cores, Linux``."""
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = names[0] if names else platform.machine()
    return f"{processor}, {plural(os.cpu_count() or 1, 'core')}, {platform.system()}"


if __name__ == "__main__":
    try:
        main()
    except HTBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
