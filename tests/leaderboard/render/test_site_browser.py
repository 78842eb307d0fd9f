"""The site in a real browser, from disk: it works, asks for nothing, runs no text of a plugin.

Skipped where Chromium or playwright is not installed. The accessibility tests also need axe-core:
`make axe` downloads it, or ``HTBENCH_AXE`` is the path of its ``axe.min.js``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.render.site.folder import page_name
from tests.leaderboard.grids import build
from tests.leaderboard.render.sites import boards_of, hostile_boards, scored, write

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
ROOT = Path(__file__).parents[3]
AXE = Path(os.environ.get("HTBENCH_AXE", ROOT / ".venv/axe/package/axe.min.js"))
PAGES = {
    "home": "index.html",
    "task": page_name("tasks", "outline-solid"),
    "method": page_name("methods", "wise-ft"),
    "comparisons": "comparisons.html",
    "figures": "figures.html",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, icons: Manifest, suite: Suite) -> Path:
    return write(tmp_path_factory.mktemp("site") / "site", boards_of(icons, suite))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # Chromium refuses to sandbox pages of root, as in containers.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that may log nothing and request nothing but files of the site."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: messages.append(request.url))
    yield page
    context.close()
    assert [m for m in messages if not m.startswith(("file:", "data:", "blob:"))] == []


def names(page: Any) -> list[str]:
    return list(page.locator("#ranking tbody tr:visible th a").all_inner_texts())


ORDER = ["wise-ft", "mine(a=1)", "finetune", "source", "oracle-finetune"]


def test_sort_filter_metric_and_costs(page: Any, site: Path) -> None:
    page.goto(f"file://{site}/index.html")
    assert names(page) == ORDER
    page.get_by_role("button", name="missing").click()
    assert page.locator('th[data-key="missing"]').get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="missing").click()
    assert names(page) == [*reversed(ORDER[:-1]), ORDER[-1]]  # the oracle stays below
    assert page.url.endswith("#sort=missing&dir=ascending")
    page.get_by_label("Filter").fill("FINE")
    assert names(page) == ["finetune", "oracle-finetune"]
    assert page.get_by_role("status").inner_text() == "2 of 5 methods"
    page.get_by_label("Metric").select_option("seen")
    drawn = page.locator("#ranking tbody svg:visible")
    assert {svg.get_attribute("data-m") for svg in drawn.all()} == {"seen"}
    assert not page.get_by_role("button", name="steps").is_visible()
    page.get_by_label("costs").check()
    assert page.get_by_role("button", name="steps").is_visible()


@pytest.mark.parametrize("state", ["", "#sort=rank", "#sort=seen&dir=ascending", "#filter=t"])
def test_the_shading_changes_with_the_rank(page: Any, site: Path, state: str) -> None:
    page.goto(f"file://{site}/index.html{state}")
    rows = page.locator("#ranking tbody:not(.oracles) tr:visible")
    of_rows = [
        (row.locator(".rank").inner_text(), row.evaluate("row => row.classList.contains('tie1')"))
        for row in rows.all()
    ]
    assert [is_dark for _, is_dark in of_rows] == [i % 2 == 1 for i in range(len(of_rows))]
    assert len({rank for rank, _ in of_rows}) == len(of_rows) > 1


def test_csv_has_what_is_on_screen(page: Any, site: Path) -> None:
    page.goto(f"file://{site}/index.html#sort=seen&dir=ascending&filter=e")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    head, *lines = Path(download.value.path()).read_text().splitlines()
    assert head.startswith("rank,method,overall,overall_half,seen,seen_half,missing,")
    assert "total_steps" not in head
    assert [line.split(",")[1] for line in lines] == [
        "source",
        "finetune",
        "mine(a=1)",
        "wise-ft",
        "oracle-finetune",
    ]
    assert lines[0].split(",")[2:4] == ["40.1", "0.248414"]


def test_a_link_opens_a_task_in_its_state(page: Any, site: Path) -> None:
    page.goto(f"file://{site}/index.html#task=outline-solid&sort=method")
    page.wait_for_url(f"file://{site}/{PAGES['task']}#sort=method")
    # A run of ``broken`` failed on another task.
    assert names(page) == ["broken", *sorted(ORDER[:-1]), ORDER[-1]]
    page.locator("#task").select_option(label="mean over tasks")
    page.wait_for_url(f"file://{site}/index.html#sort=method")


def test_keyboard_alone(page: Any, site: Path) -> None:
    page.goto(f"file://{site}/index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "method":
            break
    page.keyboard.press("Enter")
    assert names(page) == [*sorted(ORDER[:-1]), ORDER[-1]]
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "wise-ft":
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"file://{site}/{PAGES['method']}")
    assert page.get_by_role("heading", level=1).inner_text() == "wise-ft"


def test_the_focus_is_not_cut(page: Any, site: Path) -> None:
    page.goto(f"file://{site}/index.html")
    page.keyboard.press("Tab")  # so that the focus is shown
    for button in page.locator("#ranking thead button:visible").all():
        button.focus()
        around = button.evaluate(
            "e => parseFloat(getComputedStyle(e).outlineWidth) +"
            " parseFloat(getComputedStyle(e).outlineOffset)"
        )
        assert around <= 0  # the region that scrolls ends where the buttons end


@pytest.mark.parametrize("width", [390, 800, 1400])
def test_no_name_is_cut(
    browser: Any, tmp_path: Path, icons: Manifest, suite: Suite, width: int
) -> None:
    settings = ",".join(f"setting_{number}=0.{number}" for number in range(9))
    labels = ("lolsgd-frozen-classifier", "a-method-with-a-very-long-name", f"mine({settings})")
    rows = [row for label in labels for row in scored(icons, label, 50.0)]
    folder = write(tmp_path / "site", build(suite, icons, rows))
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(f"file://{folder}/index.html")
    cells = page.locator("#ranking tbody th")
    assert cells.count() == len(labels)
    for cell in cells.all():
        assert cell.evaluate("e => e.scrollWidth <= e.clientWidth")
        assert cell.bounding_box()["width"] <= width / 2
    context.close()


def test_print_has_all_columns_and_their_meaning(browser: Any, site: Path) -> None:
    paper = 957  # pixels: Chromium lays out a page of A4 at least 4/3 as wide as it is
    context = browser.new_context(viewport={"width": paper, "height": 1000})
    page = context.new_page()
    page.emulate_media(media="print")
    page.goto(f"file://{site}/{PAGES['method']}")
    for table in page.locator("table:visible").all():
        box = table.bounding_box()
        assert box["x"] + box["width"] <= paper + 1, table.inner_text()[:80]
    page.goto(f"file://{site}/index.html")
    # Chromium leaves out buttons where it repeats the headings on the next page.
    assert page.locator("#ranking thead button").first.evaluate(
        "e => getComputedStyle(e).display"
    ) == ("contents")
    legend = page.locator(".legend dd").first
    assert legend.evaluate("e => e.checkVisibility({contentVisibilityAuto: true})")
    assert legend.bounding_box()["height"] > 0
    context.close()


def test_the_theme_is_kept_from_page_to_page(page: Any, site: Path) -> None:
    page.goto(f"file://{site}/index.html")
    page.get_by_role("button", name="Dark").click()
    page.goto(f"file://{site}/{PAGES['method']}")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.get_by_role("button", name="Light").is_visible()


def test_nothing_of_a_hostile_run_is_executed(
    page: Any, tmp_path: Path, icons: Manifest, suite: Suite
) -> None:
    folder = write(tmp_path / "site", hostile_boards(icons, suite))
    for path in sorted(folder.rglob("*.html")):
        page.goto(f"file://{path}")
        assert page.evaluate("window.hacked === undefined"), path


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed; run `make axe`")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_accessibility(browser: Any, site: Path, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    for name, path in PAGES.items():
        page.goto(f"file://{site}/{path}")
        page.evaluate(AXE.read_text("utf-8"))
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert [(name, violation["id"]) for violation in result["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    context.close()
