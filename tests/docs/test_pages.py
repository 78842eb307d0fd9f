"""Pages link to files that exist, and README's numbers are those of the board."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]
MAX_README_BYTES = 8192


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_tests_that_security_names_exist() -> None:
    paths = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "SECURITY.md").read_text("utf-8"))
    assert len(paths) > 10
    assert [name for name in paths if not (ROOT / name).is_file()] == []


def test_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= MAX_README_BYTES


def test_the_excerpt_in_readme_is_from_the_board() -> None:
    board = _rows(ROOT / "docs" / "board.md", "board", "board")
    excerpt = _rows(ROOT / "README.md", "excerpt", "excerpt")
    assert len(excerpt) == 1 + 6
    columns = [board[0].index(heading) for heading in excerpt[0]]
    assert [row for row in excerpt if row not in [[r[c] for c in columns] for r in board]] == []


def _rows(page: Path, begin: str, end: str) -> list[list[str]]:
    """The cells of the table between two markers, without the line of dashes."""
    text = page.read_text("utf-8").partition(f"<!-- {begin}")[2].partition(f"<!-- end of {end}")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
