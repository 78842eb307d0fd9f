"""``make docs`` builds the pages without a warning, and they load nothing from the network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Attributes and style rules that make a browser fetch something. Plain links do not.
LOADS = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*?\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b[^>]*?\bhref=["']?(?:https?:)?//"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//|url\(["']?(?:https?:)?//"""
)


def test_the_site_builds_and_is_self_contained(tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ["--fail-on-warning", "--quiet", "-d", str(tmp_path / "doctrees")]
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(site)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert {"index.html", "plugin.html", "api.html"} <= {page.name for page in pages}
    loads = [(page.name, LOADS.findall(page.read_text("utf-8"))) for page in pages]
    assert [entry for entry in loads if entry[1]] == []
