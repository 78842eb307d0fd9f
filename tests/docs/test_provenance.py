"""The table of papers and public code has every method and is what `make board` writes."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from benchmark.citations import read_citations
from benchmark.methods.find import builtin_methods
from leaderboard.gamma_star import NAME as GAMMA_STAR

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def boards() -> ModuleType:
    spec = importlib.util.spec_from_file_location("boards", DOCS / "boards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_has_every_method_and_known_entries() -> None:
    entries = tomllib.loads((DOCS / "provenance.toml").read_text("utf-8"))
    assert set(entries) == {*builtin_methods(), GAMMA_STAR}
    assert {key for entry in entries.values() for key in entry} == {"code", "equal", "choice"}


def test_what_is_unconfirmed_is_marked_in_both_tables() -> None:
    entries = tomllib.loads((DOCS / "provenance.toml").read_text("utf-8"))
    unconfirmed = set(read_citations()["unconfirmed"]["methods"])
    assert unconfirmed == {
        name for name, entry in entries.items() if entry.get("equal", "").endswith("unconfirmed")
    }
    rows = {
        line.split("|")[1].strip(): line.split("|")[3].strip()
        for line in (DOCS / "methods.md").read_text("utf-8").splitlines()
        if line.startswith("| ") and line.count("|") == 8
    }
    assert unconfirmed == {
        name for name, paper in rows.items() if re.match(r"\[after .+; htbench's form\]\(", paper)
    }


def test_the_page_has_the_table(boards: ModuleType) -> None:
    text = (DOCS / "methods.md").read_text("utf-8")
    assert text.count("<!-- table: provenance -->\n" + boards.table("provenance")) == 1, (
        "make board"
    )


def test_a_row_links_the_paper_and_the_code(boards: ModuleType) -> None:
    rows = boards.table("provenance").splitlines()
    (row,) = [line for line in rows if line.startswith("| ldifs ")]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    repository = "omegafragger/ldifs_code"
    assert cells[1] == "[Mukhoti et al., TMLR 2024](https://arxiv.org/abs/2308.13320)"
    assert cells[2] == f"[{repository}](https://github.com/{repository}) loss/ldifs.py"
    (row,) = [line for line in rows if line.startswith("| source ")]
    assert [cell.strip() for cell in row.split("|")[3:-1]] == ["-", "the source model itself", "-"]
