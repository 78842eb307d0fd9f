"""The pages of a site: which there are, how they are named, and how they are rendered."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmark.errors import UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.text import plural, printable
from leaderboard import gamma_star
from leaderboard.board import MEAN, POOLED, Board
from leaderboard.columns import column_of
from leaderboard.comparison import MIN_METHODS_OF_INTERVAL, Comparison
from leaderboard.conditions import TITLES, by_board, by_tuning
from leaderboard.predictions import counted_samples
from leaderboard.render import svg
from leaderboard.render.cells import INCOMPLETE, percent
from leaderboard.render.comparison import INTERVAL, tau_texts
from leaderboard.render.figures import Request, figure_bytes
from leaderboard.render.figures.inline import inline_svg
from leaderboard.render.figures.request import LogOf
from leaderboard.render.legend import column_legend, interval_legend, rank_line
from leaderboard.render.site.folder import page_name, write_folder
from leaderboard.render.site.methods import Definition, build_section, settings
from leaderboard.render.site.provenance import provenance_of
from leaderboard.render.site.ranking import AVERAGES, Table, as_points, build_ranking, number
from leaderboard.render.site.tasks import task_facts
from leaderboard.rows import Row, group_rows
from leaderboard.statistics import LEVEL

TEMPLATES = Path(__file__).parent / "templates"
HOME, COMPARISONS, FIGURES = "index.html", "comparisons.html", "figures.html"
# The headings of the page of figures, by the kind of figure.
HEADINGS = {
    "tradeoff": "Seen against missing accuracy",
    "ausuc": "Seen-unseen curves",
    "cost": "Accuracy against cost",
    "profile": "Performance profiles",
    "cd": "Critical difference",
    "partial": "Number of seen classes",
    "curves": "Training losses",
}
MAX_CD_METHODS = 60  # it has a line of text for every two methods
MAX_TEXT = 20_000  # characters of an untrusted text


def write_site(
    folder: Path,
    boards: Sequence[Board],
    definitions: Mapping[str, Definition],
    images: Mapping[str, bytes],
    log_of: LogOf | None = None,
) -> None:
    """Write the boards of a suite as a folder of pages.

    The same boards give the same bytes.

    Args:
        folder: absent, empty, or a site that this function wrote.
        boards: of one suite, the main one first.
        definitions: what is known of methods, by name.
        images: PNG files of the manifest that may be shown, by image id.
        log_of: reads the training log of a row's run; None where only rows are known.

    Raises:
        UsageError: there are no boards, or the folder has other files.
        OSError: a file cannot be written.
    """
    if not boards:
        raise UsageError("there are no results to show; run the suite first")
    site = _Site(boards, definitions, images, log_of)
    write_folder(folder, {name: text.encode() for name, text in site.pages()})


@dataclass(frozen=True)
class _Site:
    """The pages of some boards."""

    boards: Sequence[Board]
    definitions: Mapping[str, Definition]
    images: Mapping[str, bytes]
    log_of: LogOf | None

    @cached_property
    def environment(self) -> Environment:
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        script = (TEMPLATES / "script.js").read_text("utf-8")
        style = (TEMPLATES / "style.css").read_text("utf-8")
        first = self.boards[0]
        environment.globals |= {
            "script": Markup(script),
            "style": Markup(style),
            "policy": Markup(
                f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
                "img-src data:; base-uri 'none'; form-action 'none'"
            ),
            "suite": first.suite,
            "home": HOME,
            "comparisons_page": COMPARISONS if self.comparisons else "",
            "figures_page": FIGURES if self.figures else "",
            "level": percent(LEVEL),
            "mean": MEAN,
            "pooled": POOLED,
            "averages": AVERAGES,
            "number": number,
            "column_legend": column_legend,
            "interval_legend": interval_legend,
            "incomplete": INCOMPLETE,
            "bar_width": svg.BAR_WIDTH,
            "bar_height": svg.BAR_HEIGHT,
        }
        return environment

    @cached_property
    def methods(self) -> dict[str, str]:
        """The path of each method's page, by label."""
        labels = sorted({label for board in self.boards for label in board.labels})
        return {label: page_name("methods", label) for label in labels}

    @cached_property
    def tables(self) -> list[Table]:
        """The boards, with what every page looks up."""
        return list(map(Table.of_board, self.boards))

    @cached_property
    def figures(self) -> list[tuple[str, str, Markup]]:
        """Heading, caption and drawing of each figure that the main table allows."""
        drawings = []
        for kind, heading in HEADINGS.items():
            if kind == "cd" and len(self.methods) > MAX_CD_METHODS:
                continue
            if drawing := self.figure(kind):
                drawings.append((heading, *drawing))
        return drawings

    def figure(self, kind: str, **options: Any) -> tuple[str, Markup] | None:
        """Caption and drawing of a figure; None if the main table does not have what it shows."""
        request = Request(self.boards[0], log_of=self.log_of, **options)
        try:
            content, caption = figure_bytes(request, kind, "svg")
        except UsageError:
            return None
        return caption, Markup(inline_svg(content))

    def sensitivity(self, comparison: Comparison) -> Markup:
        """The drawing of a comparison of recipes, draws or shares; empty for one of tables."""
        for by, title in TITLES.items():
            if comparison.title.startswith(title) and (
                drawing := self.figure("sensitivity", by=by)
            ):
                return drawing[1]
        return Markup()

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Networks side by side, tuned methods beside their defaults, and the main table's."""
        main = self.boards[0]
        default = {board.name: board for board in self.boards if not board.is_tuned}
        network = main.context["network"] if main.is_main else None
        tuned = [
            by_tuning(f"Tuned settings: {board.name}", main, board)
            for board in self.boards
            if board.is_tuned and board.context["network"] == network
        ]
        shown = [by_board("Tables side by side", default), *tuned, *main.comparisons]
        return [comparison for comparison in shown if comparison is not None]

    def views(self, board: Board) -> dict[str, str]:
        """The path of each page of a board: by task, the mean and the pooled values first."""
        is_first = board is self.boards[0]
        prefix = "" if is_first else f"{board.name} "
        return {
            MEAN: HOME if is_first else page_name("tables", board.name),
            **{
                task: page_name("tasks", prefix + task)
                for task in (*([POOLED] if board.has_pooled else []), *board.suite.tasks)
            },
        }

    def pages(self) -> Iterator[tuple[str, str]]:
        """Path and text of every page."""
        for table in self.tables:
            for task, page in self.views(table.board).items():
                yield page, self.table_page(table, task, page)
        rows = [group_rows(board.rows, lambda row: row["label"]) for board in self.boards]
        for label, page in self.methods.items():
            yield page, self.method_page(label, page, rows)
        if self.comparisons:
            shown = [_comparison(each, self.sensitivity(each)) for each in self.comparisons]
            values = {"comparisons": shown, "pages": self.methods}
            yield COMPARISONS, self.render("comparisons.html.jinja", COMPARISONS, **values)
        if self.figures:
            yield FIGURES, self.render("figures.html.jinja", FIGURES, figures=self.figures)

    def render(self, template: str, page: str, **values: Any) -> str:
        """A page, with the path from it to the site's folder as ``root``."""
        root = "../" * page.count("/")
        return self.environment.get_template(template).render(root=root, page=page, **values)

    def table_page(self, table: Table, task: str, page: str) -> str:
        """The page of a table: the mean over tasks, their pooled test images, or one task."""
        board = table.board
        manifest = board.manifest
        assert manifest is not None
        is_home = task == MEAN
        return self.render(
            "table.html.jinja",
            page,
            board=board,
            boards=[(each.name, self.views(each)[MEAN]) for each in self.boards],
            task=task,
            views=self.views(board),
            ranking=build_ranking(table, task, self.methods),
            points=svg.scatter(
                as_points(table, task, self.from_page(page)),
                f"{table.both} of all methods",
                table.axes,
            ),
            strips=_strips(manifest) if is_home else {},
            rank_line=rank_line(board, task),
            gamma_star=gamma_star.LEGEND,
            counts=_counts(manifest, board.suite.tasks) if task in AVERAGES else {},
            tasks=manifest.tasks,
            manifest=manifest,
            facts=None if task in AVERAGES else task_facts(manifest, task, self.images),
        )

    def method_page(self, label: str, page: str, rows: Sequence[Mapping[str, list[Row]]]) -> str:
        """The page of a method, with its results in every table that has it."""
        method = label.partition("(")[0]
        definition = self.definitions.get(method)
        submission = self.boards[0].submissions.get(method)
        sections = []
        runs: list[Row] = []
        for table, by_label in zip(self.tables, rows, strict=True):
            if label in by_label:
                views = {task: f"../{path}" for task, path in self.views(table.board).items()}
                of_label, pages = by_label[label], self.from_page(page)
                sections.append(build_section(table, label, of_label, pages, views, self.log_of))
                runs += of_label
        return self.render(
            "method.html.jinja",
            page,
            label=label,
            method=method,
            is_oracle=any(row["track"] == "oracle" for row in runs),
            definition=definition,
            provenance=provenance_of(submission) if submission else None,
            base_page=self.methods.get(definition.base) if definition and definition.base else None,
            settings=settings(runs, definition),
            sections=sections,
        )

    def from_page(self, page: str) -> dict[str, str]:
        """The path of each method's page from another page."""
        root = "../" * page.count("/")
        return {label: root + path for label, path in self.methods.items()}


def _strips(manifest: Manifest) -> dict[str, Markup]:
    """Which classes are seen in each task, as a drawing."""
    strips = {}
    for task in manifest.tasks:
        groups = zip(manifest.seen_mask(task), manifest.missing_mask(task), strict=True)
        strips[task.id] = svg.strip(
            "seen" if seen else "missing" if missing else "excluded" for seen, missing in groups
        )
    return strips


def _counts(manifest: Manifest, tasks: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The numbers of test images of seen and missing classes, by task."""
    groups = {task: counted_samples(manifest, task).is_seen for task in tasks}
    return {task: (int(seen.sum()), int((~seen).sum())) for task, seen in groups.items()}


def _comparison(comparison: Comparison, figure: Markup) -> dict[str, Any]:
    """What the page of comparisons shows of one."""
    column = column_of(comparison.column)
    flipped, pairs = comparison.flips()
    lines = []
    for label, values in comparison.overall.items():
        is_oracle = label in comparison.oracles
        ranks = [""] * len(values) if is_oracle else list(map(str, comparison.ranks(label)))
        texts = [number(column, value) for value in values]
        spread = number(column, max(values) - min(values))
        lines.append((label, is_oracle, list(zip(texts, ranks, strict=True)), spread))
    return {
        "title": comparison.title,
        "conditions": comparison.conditions,
        "heading": column.heading,
        "taus": list(zip(comparison.conditions[1:], tau_texts(comparison), strict=True)),
        "interval": INTERVAL if len(comparison.ranked) >= MIN_METHODS_OF_INTERVAL else "",
        "figure": figure,
        "lines": lines,
        "flipped": flipped,
        "pairs": plural(pairs, "pair"),
        "incomplete": comparison.incomplete,
    }


def _shown(value: Any) -> Any:
    """What a template prints: markup as it is, any other text with nothing invisible in it."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(value, keep="\n", limit=MAX_TEXT)


def _hash(text: str) -> str:
    """The source expression of an inline script or style in a content security policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
