"""``make docs`` builds the pages without a warning; they load only files, and fit the window."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
# Attributes and style rules that make a browser fetch something. Plain links do not.
LOADS = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*?\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b[^>]*?\bhref=["']?(?:https?:)?//"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//|url\(["']?(?:https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    options = ["--fail-on-warning", "--quiet", "-d", str(folder / "doctrees")]
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(folder / "site")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    return folder / "site"


def test_the_site_builds_and_is_self_contained(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert {"index.html", "plugin.html", "api.html"} <= {page.name for page in pages}
    loads = [(page.name, LOADS.findall(page.read_text("utf-8"))) for page in pages]
    assert [entry for entry in loads if entry[1]] == []


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [400, 768, 1100, 1600])
def test_no_page_is_wider_than_the_window(site: Path, width: int) -> None:
    """Wide tables and lines of code scroll by themselves."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        # Chromium refuses to sandbox pages of root, as in containers.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page(viewport={"width": width, "height": 900})
        wide = {}
        for file in sorted(site.rglob("*.html")):
            page.goto(f"file://{file}")
            pixels = page.evaluate("document.documentElement.scrollWidth")
            if pixels > width:
                wide[str(file.relative_to(site))] = pixels
        browser.close()
    assert wide == {}
