"""Boards from Python: what a notebook shows, and the data frame."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from benchmark.errors import UsageError
from benchmark.records import RunRecord
from htbench import load_boards
from leaderboard.board import MEAN
from leaderboard.render import FORMATS

WriteRun = Callable[..., RunRecord]
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"


@pytest.fixture
def workspace(tmp_path: Path, write_run: WriteRun) -> Path:
    for task in ("outline-solid", "solid-outline"):
        write_run(tmp_path, "source", task, skill=0.5)
    write_run(tmp_path, "mine", config={"x": HOSTILE}, label=f"mine(x={HOSTILE})")
    error = {"kind": "exception", "message": HOSTILE, "traceback": "t"}
    write_run(tmp_path, "lwf", status="failed", error=error)
    return tmp_path


class Reader(HTMLParser):
    """Collects the tags, the attributes and the cells of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.rows: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag in ("td", "th"):
            self.rows[-1][-1] += data


def test_a_notebook_shows_the_table_of_the_markdown_with_everything_escaped(
    workspace: Path,
) -> None:
    (board,) = load_boards("icons", workspace, allow_partial=True)
    html = board._repr_html_()
    reader = Reader(html)
    tags = "div table caption thead tbody tr th td details summary ul li"
    assert reader.tags == set(tags.split())
    assert reader.attributes == {"class", "style"}
    assert "mathjax_ignore" in html.partition(">")[0]
    assert "&lt;script&gt;" in html
    headers, *rows = reader.rows
    assert {len(row) for row in rows} == {len(headers)}
    text = FORMATS["markdown"]([board]).partition("## outline-solid")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == len(reader.rows)
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == headers
    by_label = {row[headers.index("method")]: row for row in rows}
    assert f"mine(x={HOSTILE}) (1 of 5 tasks)" in by_label
    assert by_label["source (2 of 5 tasks)"][-1] == "512"


def test_the_frame_is_the_csv(workspace: Path, tmp_path: Path) -> None:
    (board,) = load_boards("icons", workspace)
    frame = board.to_frame()
    path = tmp_path / "board.csv"
    path.write_text(FORMATS["csv"]([board]))
    pd.testing.assert_frame_equal(frame, pd.read_csv(path), check_dtype=False)
    assert frame[frame["task"] == MEAN]["overall"].isna().all(), "no mean unless it is asked for"


def test_at_the_prompt_a_board_is_a_short_table(workspace: Path) -> None:
    (board,) = load_boards("icons", workspace)
    assert repr(board).splitlines()[0] == "icons"
    assert "No method has completed all tasks yet." not in repr(board), "one has failed"
    assert len(repr(board)) < 3000


def test_a_workspace_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no runs of suite icons"):
        load_boards("icons", tmp_path)
