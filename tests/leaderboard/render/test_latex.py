"""The board as LaTeX: what is marked and left out, and that no label breaks or runs anything."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.records import NOT_APPLICABLE
from leaderboard.board import MEAN, Board
from leaderboard.filters import only
from leaderboard.render import FORMATS
from leaderboard.render.latex import latex_text, to_latex
from tests.leaderboard.grids import TASKS, build, failed, grid, macro_board

HOSTILE = (
    r"\write18{touch owned}",
    r"\input{/etc/passwd}",
    r"}\end{tabular}\end{table}\end{document}",
    r"^^5cinput{/etc/passwd}",
    "% gone & # $ _ ~ { [2pt]",
    "[3cm]",
    "*",
    "é中\U0001f600\u0301",
    "a--b ``c'' ?`d \"e <f> |g",
)
MARKED = "Bold: in overall accuracy, the methods of rank 1"
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
\input{board}
\ref{tab:icons}
\end{document}
"""


def rows_of(latex: str) -> dict[str, list[str]]:
    """Label to the cells of its row, without the rank."""
    body = latex.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    cells = [re.split(r"(?<!\\) & ", line) for line in body.splitlines() if " & " in line]
    headings = latex.partition(r"\toprule")[2].partition(r"\midrule")[0].split(" & ")
    label = [heading.strip() for heading in headings].index("method")
    return {row[label].strip(): row[label + 1 :] for row in cells}


def board_of(suite: Suite, icons: Manifest, *labels: str) -> list[Board]:
    rows = [row for i, name in enumerate(labels) for row in grid(icons, name, overall=40.0 + i)]
    return build(suite, icons, rows)


class TestMarks:
    def test_without_tests_the_best_are_those_that_are_equal_as_rounded(
        self, suite: Suite, icons: Manifest
    ) -> None:
        one = dataclasses.replace(suite, seeds=(0,))
        rows = grid(icons, "a", overall=60.04, missing=40.0) + grid(icons, "b", overall=60.0)
        rows += grid(icons, "source", overall=59.9) + grid(icons, "o", overall=99.0, track="oracle")
        table = rows_of(to_latex(build(one, icons, rows)))
        assert [table[name][0] for name in ("a", "b", "source", "o")] == [
            r"$\mathbf{60.0}$",
            r"$\mathbf{60.0}$",
            "$59.9$",
            "$99.0$",
        ]
        # Disruption: the smallest is the best. The seen accuracies are all equal.
        assert [table[name][3] for name in ("a", "b", "source")] == [
            "$10.0$",
            r"$\mathbf{0.0}$",
            r"$\mathbf{0.0}$",
        ]
        assert table["a"][1] == r"$\mathbf{50.0}$"

    def test_methods_of_rank_1_are_marked_in_overall_accuracy(
        self, suite: Suite, icons: Manifest
    ) -> None:
        rows = grid(icons, "source", overall=40.0)
        for label, base in (("a", 60.0), ("b", 59.0)):  # their difference varies, from -1 to 3
            of_label = grid(icons, label)
            for row in of_label:
                row["overall"] = base + (2.0 * row["seed"] if label == "a" else 2.0)
            rows += of_label
        (board,) = build(suite, icons, rows)
        cells = board.of_task(MEAN)
        assert {name: cells[name]["rank"] for name in ("a", "b")} == {"a": 1, "b": 1}
        assert cells["source"]["rank"] > 1
        table = rows_of(to_latex([board]))
        assert r"\mathbf" in table["a"][0]
        assert r"\mathbf" in table["b"][0]
        assert r"\mathbf" not in table["source"][0]
        assert r"{\tiny$\pm5.0$}" in table["a"][0]  # 4.303 * 2 / sqrt(3)
        assert f"{MARKED}; in other columns, the best method, and those equal" in to_latex([board])
        few = dataclasses.replace(suite, seeds=(0,))
        assert "Bold: the best method, and those equal" in to_latex(build(few, icons, rows))

    def test_the_caption_names_the_column_that_ranks(self, suite: Suite, icons: Manifest) -> None:
        macro = MARKED.replace("overall", "macro overall")
        assert macro in to_latex([macro_board(suite, icons)])

    def test_oracles_are_in_a_block_below_a_rule_and_never_marked(
        self, suite: Suite, icons: Manifest
    ) -> None:
        rows = grid(icons, "source") + grid(icons, "o", overall=99.0, track="oracle")
        text = to_latex(build(suite, icons, rows))
        *_, ranked, oracles = text.split(r"\midrule")
        assert "source" in ranked
        assert "o &" in oracles
        assert "mathbf" not in oracles
        assert "Oracles, below the line, are not ranked." in text


class TestWhatIsShown:
    def test_a_method_without_a_mean_is_named_in_the_caption(
        self, suite: Suite, icons: Manifest
    ) -> None:
        rows = grid(icons, "source") + grid(icons, "part")[:-1]
        rows += [*grid(icons, "mine")[1:], failed(icons, "mine", TASKS[0], 0)]
        refused = {"status": NOT_APPLICABLE, "error_message": "m"}
        rows += [failed(icons, "bn", task, 0) | refused for task in TASKS]
        text = to_latex(build(suite, icons, rows))
        why = "because runs are missing, failed or not applicable"
        assert f"Not shown, {why}: bn, mine, part." in text
        assert set(rows_of(text)) == {"source"}

    def test_a_part_of_the_methods_is_said_to_be_one(self, suite: Suite, icons: Manifest) -> None:
        boards = board_of(suite, icons, "source", "finetune", "mine")
        line = "Shown: 1 of 3 methods; ranks are among all of them."
        assert line in to_latex(only(boards, ["source"], ()))
        assert "Shown" not in to_latex(boards)

    def test_one_task_is_shown_by_itself_and_costs_on_request(
        self, suite: Suite, icons: Manifest
    ) -> None:
        one = dataclasses.replace(suite, tasks=TASKS[:1])
        (board,) = build(one, icons, grid(icons, "source", total_steps=120))
        text = to_latex([dataclasses.replace(board, optional_columns=("total_steps",))])
        assert r"\label{tab:icons-outline-solid}" in text
        assert "mean over" not in text
        assert "$120$" in text
        assert "$120$" not in to_latex([board])

    def test_steps_that_a_method_declares_are_marked(self, suite: Suite, icons: Manifest) -> None:
        rows = grid(icons, "mine", total_steps=120, declared_steps=20) + grid(icons, "other")
        (board,) = build(suite, icons, rows)
        text = to_latex([dataclasses.replace(board, optional_columns=("total_steps",))])
        assert {name: cells[-1] for name, cells in rows_of(text).items()} == {
            "mine": r"$120$* \\",
            "other": r"$100$ \\",
        }

    def test_labels_of_several_tables_differ(self, suite: Suite, icons: Manifest) -> None:
        rows = grid(icons, "source", source_digest="a") + grid(icons, "source", source_digest="b")
        text = to_latex(build(suite, icons, rows))
        assert re.findall(r"\\label{(.*?)}", text) == ["tab:icons", "tab:icons-table-2"]

    def test_no_board_no_table(self) -> None:
        assert to_latex([]) == ""


class TestUntrustedText:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_only_commands_of_the_escape_are_left(self, text: str) -> None:
        escaped = latex_text(text)
        assert escaped.isascii()
        known = r"\\(?:[&%$#_{}]|pm|(?:textbackslash|textasciitilde|textasciicircum|textless"
        known += r"|textgreater|textbar|char96|char34|ldots){})"
        rest = re.sub(known, "", escaped).replace("{[}", "").replace("{*}", "").replace("{}", "")
        assert not set(rest) & set("\\&%$#_{}~^\n")

    @pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
    def test_a_document_with_the_table_compiles(
        self, suite: Suite, icons: Manifest, tmp_path: Path
    ) -> None:
        labels = ["source", "finetune", *(f"m{i}(x={text})" for i, text in enumerate(HOSTILE))]
        labels += [text for text in HOSTILE if "\n" not in text]
        rows = [row for i, name in enumerate(labels) for row in grid(icons, name, overall=40.0 + i)]
        rows += grid(icons, "[oracle]", overall=99.0, track="oracle")
        rows += grid(icons, r"\failed")[1:]
        named = dataclasses.replace(suite, title=f"50 % of {HOSTILE[0]} \\par")
        (tmp_path / "board.tex").write_text(FORMATS["latex"](build(named, icons, rows)))
        (tmp_path / "paper.tex").write_text(DOCUMENT)
        process = subprocess.run(
            [
                "pdflatex",
                "-no-shell-escape",
                "-halt-on-error",
                "-interaction=nonstopmode",
                "-recorder",
                "paper.tex",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        assert process.returncode == 0, process.stdout[-2000:]
        assert (tmp_path / "paper.pdf").is_file()
        assert not (tmp_path / "owned").exists()
        assert "/etc/passwd" not in (tmp_path / "paper.fls").read_text()
