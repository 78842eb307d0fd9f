"""Pages link to files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]
RESULTS = ROOT / "performance" / "RESULTS.md"
MAX_README_BYTES = 8192


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and Sphinx make them."""
    text = page.read_text("utf-8")
    for included in re.findall(r"```{include} (\S+)", text):
        text += (page.parent / included).read_text("utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text("utf-8")):
        file = page.parent / target if target else page
        if file.suffix == ".md":
            assert anchor in anchors(file), f"{target}#{anchor}"


def test_the_tests_that_security_names_exist() -> None:
    paths = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "SECURITY.md").read_text("utf-8"))
    assert len(paths) > 10
    assert [name for name in paths if not (ROOT / name).is_file()] == []


def test_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= MAX_README_BYTES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_figures_of_the_measurements_are_in_one_place(page: Path) -> None:
    """Pages said what RESULTS.md had said of an older commit; they name the file instead."""
    measured = re.findall(r"^`.*python (performance/\w+\.py)", RESULTS.read_text("utf-8"), re.M)
    assert len(measured) > 5
    assert [script for script in measured if script in page.read_text("utf-8")] == []


def test_the_files_of_measurements_that_pages_name_exist() -> None:
    names = {n for p in PAGES for n in re.findall(r"`(performance/\w+\.md)`", p.read_text("utf-8"))}
    assert "performance/RESULTS.md" in names
    assert [name for name in names if not (ROOT / name).is_file()] == []
