"""The board as text: rounded for people, exact for machines, with markup escaped."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, load_suite
from benchmark.records import RunRecord
from benchmark.text import shortened
from leaderboard.board import MEAN, Board, build_boards
from leaderboard.columns import table_columns
from leaderboard.render import FORMATS
from leaderboard.results import update_results
from tests.leaderboard.grids import build, grid
from tests.leaderboard.runs import FAILED

WriteRun = Callable[..., RunRecord]
TASKS = ("outline-solid", "solid-outline", "outline+solid-color")
WIDTH = 1 + len(table_columns()) - 2  # cells of a row: no run has a gap or pred s


@pytest.fixture(scope="module")
def suite() -> Suite:
    methods = ("source", "finetune", "frozen-classifier", "lolsgd")
    return dataclasses.replace(load_suite("icons"), tasks=TASKS, methods=methods)


@pytest.fixture
def boards(tmp_path: Path, suite: Suite, icons: Manifest, write_run: WriteRun) -> list[Board]:
    """Whole, partial, failed and oracle cells, and a second table."""
    for task in TASKS:
        for seed in range(3):
            write_run(tmp_path, "source", task, seed, skill=0.5)
            write_run(tmp_path, "upper-bound", task, seed, skill=3.0, track="oracle")
    write_run(tmp_path, "finetune", TASKS[0], 0, skill=2.0)
    write_run(tmp_path, "finetune", TASKS[0], 1, skill=2.0)
    error = {"kind": "exception", "message": "no memory", "traceback": "long"}
    write_run(tmp_path, "lolsgd", TASKS[0], 0, status="failed", error=error)
    write_run(tmp_path, "finetune", made={"source": "f" * 64}, finished=1.0)
    return build_boards(suite, icons, update_results(tmp_path, [icons]))


def tables(markdown: str) -> dict[str, list[list[str]]]:
    """Heading to rows of cells, as a reader of GitHub Markdown would split them."""
    rows: dict[str, list[list[str]]] = {}
    heading = ""
    for line in markdown.splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        if line.startswith("|"):
            cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
            rows.setdefault(heading, []).append(cells)
    return rows


class TestMarkdown:
    def test_sections(self, boards: list[Board]) -> None:
        text = FORMATS["markdown"](boards)
        headings = [line for line in text.splitlines() if line.startswith("#")]
        assert headings == [
            "# Leaderboard: icons",
            "## Unweighted mean over 3 tasks",
            "## Test images of 3 tasks pooled (n_seen = 938, n_missing = 991)",
            "## outline-solid (n_seen = 344, n_missing = 376)",
            "## solid-outline (n_seen = 439, n_missing = 461)",
            "## outline+solid-color (n_seen = 155, n_missing = 154)",
            "# Leaderboard: icons, table 2",
            "## Unweighted mean over 3 tasks",
            "## outline-solid (n_seen = 344, n_missing = 376)",
            "## solid-outline",
            "## outline+solid-color",
            "## Not in the tables",
        ]
        problems = text.partition("## Not in the tables\n\n")[2]
        assert problems.startswith("- icons: failed: lolsgd on outline-solid, seed 0: no memory\n")
        assert "\n- icons, table 2: not run: source, frozen-classifier, lolsgd\n" in problems
        assert "- source models: outline " in text
        assert text.endswith("\n")

    def test_every_row_has_every_column(self, boards: list[Board]) -> None:
        for board in boards:
            for rows in tables(FORMATS["markdown"]([board])).values():
                assert rows[0] == ["method", *(c.heading for c in board.shown_columns)]
                assert {len(row) for row in rows} == {len(rows[0])}

    def test_columns_without_any_value_are_left_out_and_named(self, boards: list[Board]) -> None:
        text = FORMATS["markdown"](boards[:1])
        assert "\n- not shown: gap, pred s, because no method has a value\n" in text
        assert "\n- gap: " not in text
        asked = dataclasses.replace(boards[0], optional_columns=("gap_closed",))
        text = FORMATS["markdown"]([asked])
        assert "\n- not shown: pred s, because no method has a value\n" in text
        assert all("gap" in rows[0] for rows in tables(text).values())

    def test_cells(self, boards: list[Board]) -> None:
        rows = tables(FORMATS["markdown"](boards[:1]))[
            "outline-solid (n_seen = 344, n_missing = 376)"
        ]
        by_name = {row[0]: row[1:] for row in rows[2:]}
        assert list(by_name) == [
            "source",
            "finetune (2 of 3 seeds)",
            "lolsgd (failed)",
            "upper-bound (oracle)",
            "gamma-star (2 of 3 seeds) (oracle)",
        ]
        for name, cells in by_name.items():
            number = r"-?\d+\.\d"
            if name == "lolsgd (failed)":
                assert cells == ["-"] * (WIDTH - 1)
                continue
            half = r"( ± \d+\.\d)" + ("?" if "seeds" in name else "")
            assert all(re.fullmatch(number + half, c) for c in cells[:5])
            assert re.fullmatch(r"0\.\d{3}( ± \d+\.\d{3})?", cells[5])
            assert cells[6:] == ["200", "100", "2.0", "512"]
        assert by_name["source"][3] == "0.0 ± 0.0"  # not -0.0

    def test_intervals_and_ranks_are_explained_where_there_are_some(
        self, suite: Suite, icons: Manifest
    ) -> None:
        rows = grid(icons, "source")
        one_seed = [row for row in rows if row["seed"] == 0]
        for shown, explained in ((rows, True), (one_seed, False)):
            text = FORMATS["markdown"](build(suite, icons, shown))
            assert ("±" in text) is explained
            assert ("\n- rank: 1 + the number of methods" in text) is explained

    def test_steps_that_a_method_declares_are_marked(
        self, tmp_path: Path, suite: Suite, icons: Manifest, write_run: WriteRun
    ) -> None:
        cost = {"total_steps": 120, "sequential_steps": 120, "finished": 1.0}
        write_run(tmp_path, "mine", TASKS[0], cost={**cost, "declared_steps": 20})
        write_run(tmp_path, "other", TASKS[0], cost={**cost, "declared_steps": 0})
        write_run(tmp_path, "mine", TASKS[1], **FAILED)
        (board,) = build_boards(suite, icons, update_results(tmp_path, [icons]))
        text = FORMATS["markdown"]([board])
        (rows,) = [rows for name, rows in tables(text).items() if name.startswith(TASKS[0])]
        steps = rows[0].index("steps")
        steps_of = {row[0].split(" ")[0]: row[steps] for row in rows[2:]}
        assert steps_of == {"mine": "120*", "other": "120"}
        (rows,) = [rows for name, rows in tables(text).items() if name.startswith(TASKS[1])]
        assert {row[rows[0].index("steps")] for row in rows[2:]} == {"-"}
        note = "20 of 120 steps are declared by the method, not counted by htbench"
        assert board.notes == (f"mine on {TASKS[0]}, seed 0: {note}",)

    def test_the_mean_of_an_unfinished_grid_is_not_shown(self, boards: list[Board]) -> None:
        text = FORMATS["markdown"](boards[:1])
        rows = tables(text)["Unweighted mean over 3 tasks"]
        by_name = {row[0]: row[1:] for row in rows[2:]}
        assert not any(name.startswith("finetune") for name in by_name)
        mean = text.partition("## outline-solid")[0]
        assert "\nNot shown: 2 methods without all runs.\n" in mean
        assert by_name["lolsgd (failed)"] == ["-"] * (WIDTH - 1)

    def test_the_table_of_a_task_is_ranked_by_that_task(
        self, suite: Suite, icons: Manifest
    ) -> None:
        rows = grid(icons, "even") + grid(icons, "uneven")
        scores = {("uneven", TASKS[1]): 90.0, ("uneven", TASKS[2]): 0.0}
        for row in rows:
            row["overall"] = scores.get((row["label"], row["task"]), 50.0)
        text = FORMATS["markdown"](build(suite, icons, rows))
        orders = [
            [row[rows[0].index("method")] for row in rows[2:]] for rows in tables(text).values()
        ]
        assert orders == [
            ["even", "uneven"],  # the mean
            ["even", "uneven"],  # pooled
            ["even", "uneven"],
            ["uneven", "even"],
            ["even", "uneven"],
        ]

    def test_problems(self, boards: list[Board]) -> None:
        text = FORMATS["markdown"](boards[:1])
        assert "- failed: lolsgd on outline-solid, seed 0: no memory\n" in text
        assert "- not run: frozen-classifier\n" in text
        absent = "outline-solid, seed 2; solid-outline, outline+solid-color, seeds 0-2"
        assert f"- not run: finetune on {absent}\n" in text

    def test_one_task_has_no_mean(
        self, tmp_path: Path, suite: Suite, icons: Manifest, write_run: WriteRun
    ) -> None:
        write_run(tmp_path, "source")
        one = dataclasses.replace(suite, tasks=(TASKS[0],), seeds=(0,), methods=("source",))
        text = FORMATS["markdown"](build_boards(one, icons, update_results(tmp_path, [icons])))
        assert "mean over" not in text
        assert "Not in the table" not in text
        assert "±" not in text.partition("## outline-solid")[2]

    @pytest.mark.parametrize(
        ("words", "shown"),
        [
            ("\x1b[31mred\x1b[0m", "�\\[31mred�\\[0m"),
            ("\x1b]8;;http://x\x07link\x1b]8;;\x07", "�\\]8;;http://x�link�\\]8;;�"),
            ("one\ntwo", None),
            ("\rover", "�over"),
            ("a|b", r"a\|b"),
            ("`code`", r"\`code\`"),
            ("<img src=x>", r"\<img src=x\>"),
            ("![x](http://x)", r"!\[x\](http://x)"),
            ("**bold**", r"\*\*bold\*\*"),
            ("Foo.__init__() of a_name", r"Foo.\_\_init\_\_() of a_name"),
            (r"a\|b", r"a\\\|b"),
            ("\u202eright to left", "�right to left"),
            ("x" * 300, "x" * 300),
            ("x" * 600, shortened("x" * 600, 400)),
        ],
    )
    def test_markup_and_control_characters_are_shown_as_they_are(
        self,
        tmp_path: Path,
        suite: Suite,
        icons: Manifest,
        write_run: WriteRun,
        words: str,
        shown: str | None,
    ) -> None:
        error = {"kind": "exception", "message": words, "traceback": words}
        write_run(tmp_path, "lolsgd", status="failed", error=error)
        write_run(tmp_path, "mine", config={"x": words}, label=f"mine(x={words})")
        built = build_boards(suite, icons, update_results(tmp_path, [icons]))
        text = FORMATS["markdown"](built)
        assert all(c.isprintable() or c == "\n" for c in text)
        for rows in tables(text).values():
            assert {len(row) for row in rows} == {len(rows[0])}
        if shown is None:
            assert "seed 0: one\n" in text
            assert "mine(x=one�two)" in text
        else:
            assert f"seed 0: {shown}\n" in text
            if len(words) < 200:
                assert f"| mine(x={shown})" in text
        for name in ("csv", "json"):
            assert all(c.isprintable() or c == "\n" for c in FORMATS[name](built))

    def test_the_title_of_a_suite_is_shown_as_it_is(self, suite: Suite, icons: Manifest) -> None:
        titled = dataclasses.replace(suite, title="a_b *c* [d] <e>")
        text = FORMATS["markdown"](build(titled, icons, grid(icons, "mine")))
        assert text.splitlines()[2] == r"a_b \*c\* \[d\] \<e\>"


class TestData:
    def test_csv(self, boards: list[Board]) -> None:
        lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](boards))))
        assert list(lines[0])[:7] == [
            *("table", "label", "track", "task", "tasks", "seeds", "state"),
        ]
        assert len(lines) == 5 * (3 + 2) + 2 * (3 + 1)
        first = lines[0]
        cell = boards[0].of_task(TASKS[0])["source"]
        assert (first["table"], first["label"], first["task"]) == ("icons", "source", TASKS[0])
        assert float(first["overall"]) == cell["overall"]  # unrounded
        failed = next(line for line in lines if line["label"] == "lolsgd")
        assert (failed["state"], failed["overall"]) == ("failed", "")
        assert [line["table"] for line in lines].count("icons, table 2") == 2 * 4

    def test_json(self, boards: list[Board], icons: Manifest) -> None:
        first, second = json.loads(FORMATS["json"](boards), parse_constant=pytest.fail)
        assert (first["table"], second["table"]) == ("icons", "icons, table 2")
        assert first["suite"] == "icons"
        assert first["tasks"] == list(TASKS)
        assert first["seeds"] == [0, 1, 2]
        assert first["manifest"] == f"icons@2.0 ({icons.digest[:12]})"
        assert first["counts"][TASKS[0]] == {"n_seen": 344, "n_missing": 376}
        assert first["problems"] == list(boards[0].problems)
        cells: dict[tuple[str, str], Any] = {(c["label"], c["task"]): c for c in first["cells"]}
        assert cells["source", MEAN]["overall"] == boards[0].of_task(MEAN)["source"]["overall"]
        assert cells["lolsgd", TASKS[0]]["overall"] is None
        assert cells["finetune", TASKS[0]]["seeds"] == 2

    def test_methods_are_in_the_order_of_the_board(self, boards: list[Board]) -> None:
        for name in ("csv", "json"):
            text = FORMATS[name](boards[:1])
            at = [text.index(f"{label}") for label in ("source", "finetune", "lolsgd")]
            assert at == sorted(at)

    def test_nothing(self) -> None:
        assert FORMATS["csv"]([]) == ""
        assert json.loads(FORMATS["json"]([])) == []
        assert FORMATS["markdown"]([]) == ""
