"""The tables of README and docs are what `make board` writes from the published results."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from benchmark.errors import UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def boards() -> ModuleType:
    spec = importlib.util.spec_from_file_location("boards", ROOT / "docs" / "boards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "tables"),
    [("README.md", 1), ("docs/board.md", 12), ("docs/methods.md", 2)],
)
def test_a_page_is_what_it_would_be_rewritten_to(
    boards: ModuleType, page: str, tables: int
) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert len(boards.TABLE.findall(text)) == tables
    assert boards.rewritten(text) == text, "run `make board`"


def test_every_page_with_a_table_is_rewritten(boards: ModuleType) -> None:
    pages = {page for page in ROOT.rglob("*.md") if "<!-- table:" in page.read_text("utf-8")}
    assert {page for page in pages if ".venv" not in page.parts} <= set(boards.PAGES)


def test_an_excerpt_has_the_rows_and_columns_of_the_board(boards: ModuleType) -> None:
    excerpt = boards.table("excerpt", "icons", "source", "finetune").splitlines()
    whole = boards.table("mean", "icons").splitlines()
    assert [line.split("|")[2].strip() for line in excerpt[2:]] in (
        ["source", "finetune"],
        ["finetune", "source"],
    )
    for line in excerpt[2:]:
        name, overall = (cell.strip() for cell in line.split("|")[1:3])
        assert any(
            [cell.strip() for cell in row.split("|")[1:3]] == [name, overall] for row in whole
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nope",), "there is no table 'nope'"),
        (("mean", "office-home"), "no results are published for suite office-home"),
    ],
)
def test_wrong_markers(boards: ModuleType, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        boards.table(*words)
