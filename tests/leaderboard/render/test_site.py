"""The site as files: what is in it, what it replaces, and that no text of a plugin is markup."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from scipy.stats import kendalltau

from benchmark.errors import UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.records import RunRecord
from leaderboard.board import build_boards
from leaderboard.comparison import compare
from leaderboard.outcome_files import WorkspaceOutcomes
from leaderboard.partial import with_partial_means
from leaderboard.predictions import counted_samples
from leaderboard.render.site import write_site
from leaderboard.render.site.folder import page_name, write_folder
from leaderboard.results import update_results
from leaderboard.rows import Row
from tests.leaderboard.grids import TASKS, build, grid, row
from tests.leaderboard.render.sites import HOSTILE, SCORES, boards_of, hostile_boards, write

WriteRun = Callable[..., RunRecord]


class Page(HTMLParser):
    """The tags, links, ids and text of a page, and the rows of its tables."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.bodies: dict[str, list[str]] = {}
        self.rows: list[list[str]] = []
        self._open = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""
        if tag == "table":
            self.rows.append([])

    def handle_data(self, data: str) -> None:
        self.bodies.setdefault(self._open, []).append(data)
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] += data.strip()

    def values(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, icons: Manifest, suite: Suite) -> Path:
    return write(tmp_path_factory.mktemp("site") / "site", boards_of(icons, suite))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, icons: Manifest, suite: Suite) -> Path:
    return write(tmp_path_factory.mktemp("hostile") / "site", hostile_boards(icons, suite))


def pages(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.html"))


class TestPages:
    def test_there_is_a_page_for_each_table_task_and_method(self, site: Path) -> None:
        names = [path.relative_to(site).as_posix() for path in pages(site)]
        assert {name.partition("/")[0] for name in names} == {
            "comparisons.html",
            "figures.html",
            "index.html",
            "methods",
            "tables",
            "tasks",
        }
        assert sum(name.startswith("tables/") for name in names) == 1
        assert sum(name.startswith("tasks/") for name in names) == (3 + 1) * 2, (
            "of the tasks, and of their pooled images"
        )
        assert sum(name.startswith("methods/") for name in names) == 7

    def test_the_page_of_pooled_images_has_their_number_and_no_split(
        self, site: Path, icons: Manifest, suite: Suite
    ) -> None:
        (path, *_) = [path for path in pages(site) if path.stem.startswith("pooled")]
        text = path.read_text("utf-8")
        assert "<h1>Pooled test images</h1>" in text
        seen = sum(int(counted_samples(icons, task).is_seen.sum()) for task in suite.tasks)
        assert f"<dt>test images, seen</dt><dd>{seen:,}</dd>" in text
        assert 'id="split"' not in text
        assert '<option value="../tasks/' in text
        assert " selected>pooled test images</option>" in text
        link = f'In the table of <a href="tasks/{path.name}">pooled test images</a>, every image'
        assert link in (site / "index.html").read_text("utf-8")

    def test_one_run_shows_what_is_known_and_no_more(
        self, tmp_path: Path, suite: Suite, icons: Manifest
    ) -> None:
        scores = {"overall": 40.0, "seen": 60.0, "missing": 20.0}
        folder = write(
            tmp_path / "site", build(suite, icons, [row(icons, "finetune", TASKS[0], **scores)])
        )
        home = (folder / "index.html").read_text("utf-8")
        assert 'class="plot scatter"' not in home
        assert 'id="plot"' not in home
        (of_task,) = [line for line in Page(folder / "index.html").rows if line[:1] == [TASKS[1]]]
        seen = counted_samples(icons, TASKS[1]).is_seen
        assert of_task[-2:] == [str(seen.sum()), str((~seen).sum())]
        method = folder / page_name("methods", "finetune")
        text = method.read_text("utf-8")
        assert 'class="plot changes"' in text
        assert 'class="plot scatter"' not in text
        lines = {line[0]: line for line in Page(method).rows if line[1:] and not line[1]}
        assert list(lines) == [
            "mean over tasksruns are missing",
            f"{TASKS[0]}1 of 3 seeds",
            f"{TASKS[1]}runs are missing",
            f"{TASKS[2]}runs are missing",
        ]
        (headings,) = [line for line in Page(method).rows if line[:2] == ["task", "rank"]]
        assert headings[1:7] == ["rank", "overall", "seen", "missing", "H", "AUSUC"]
        legend = "<dt>not shown</dt><dd>disr., gap, because no method has a value</dd>"
        for page in (home, text):
            assert legend in page

    def test_a_partial_mean_says_which_part_it_covers(
        self, tmp_path: Path, suite: Suite, icons: Manifest
    ) -> None:
        rows = [row(icons, "finetune", task, seed) for task in TASKS[:2] for seed in range(3)]
        (board,) = build(suite, icons, rows)
        folder = write(tmp_path / "site", [with_partial_means(board)])
        home = (folder / "index.html").read_text("utf-8")
        assert '<span class="badge">2 of 3 tasks</span>' in home
        method = Page(folder / page_name("methods", "finetune"))
        assert [line[0] for line in method.rows if line[:1] == ["mean over tasks2 of 3 tasks"]]

    def test_a_page_of_a_method_says_what_the_columns_mean(self, site: Path) -> None:
        text = (site / page_name("methods", "wise-ft")).read_text("utf-8")
        legends = text.count("<dt>AUSUC</dt><dd>area under the seen-unseen accuracy curve")
        assert legends == text.count('<h2 id="results') > 0

    def test_every_link_leads_to_a_page_or_an_anchor_that_exists(self, site: Path) -> None:
        for path in pages(site):
            page = Page(path)
            targets = page.values("href") + [v for v in page.values("value") if ".html" in v]
            for target in targets:
                parts = urlsplit(target)
                if parts.scheme in ("https", "data"):
                    continue
                assert not parts.scheme
                linked = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
                assert linked.is_relative_to(site.resolve())
                assert linked.is_file(), f"{path}: {target}"
                if parts.fragment:
                    assert parts.fragment in Page(linked).values("id"), f"{path}: {target}"

    def test_methods_are_in_order_with_values_and_intervals(self, site: Path) -> None:
        rows = {row[1]: row for row in Page(site / "index.html").rows if len(row) > 8}
        assert [name for name in rows if name != "method"] == [
            "wise-ft",
            "mine(a=1)",
            "finetune",
            "source",
            "oracle-finetune",
        ]
        assert rows["wise-ft"][0] == "1"
        assert rows["oracle-finetune"][0] == ""  # no rank
        # Seeds differ by 0.1: 4.303 * 0.1 / sqrt(3) = 0.25 around 55.1.
        assert rows["wise-ft"][3] == "55.1±0.2"
        assert rows["wise-ft"][6].startswith("−15.0")  # disruption, with a true minus sign

    def test_oracles_are_in_a_part_of_the_table_that_is_never_ranked(self, site: Path) -> None:
        text = (site / "index.html").read_text("utf-8")
        ranked, oracles = re.findall(r"<tbody.*?</tbody>", text.partition('id="ranking"')[2], re.S)[
            :2
        ]
        assert "oracle-finetune" in oracles
        assert "oracle-finetune" not in ranked

    def test_a_method_with_a_failed_run_is_named_below_the_table(self, site: Path) -> None:
        text = (site / "index.html").read_text("utf-8")
        table, _, below = text.partition('id="ranking"')[2].partition("</table>")
        assert ">broken<" not in table
        assert re.search(r"Not in this table, because a run failed \(1\).*?>broken<", below, re.S)

    def test_default_and_tuned_are_two_tables_side_by_side(self, site: Path) -> None:
        (tuned,) = site.glob("tables/*.html")
        assert "71.6" not in (site / "index.html").read_text("utf-8")
        assert "71.6" in tuned.read_text("utf-8")
        assert '<h2 id="c1">Tuned settings: icons, tuned</h2>' in (
            site / "comparisons.html"
        ).read_text("utf-8")
        rows = {row[0]: row for row in Page(site / "comparisons.html").rows if row}
        assert rows["finetune"][1:] == ["50.1", "3", "71.6", "1", "21.5"]

    def test_a_method_page_has_its_definition_and_its_runs(self, site: Path) -> None:
        page = Page(site / page_name("methods", "wise-ft"))
        text = " ".join(data for bodies in page.bodies.values() for data in bodies)
        assert "Interpolate weights." in text
        assert "Wortsman et al., CVPR 2022" in text
        assert "https://arxiv.org/abs/2109.01903" in page.values("href")
        assert f"../{page_name('methods', 'finetune')}" in page.values("href")
        runs = [row for row in page.rows if len(row) == 12][1:]
        assert [row[:3] for row in runs[:3]] == [
            ["outline-solid", str(seed), "ok"] for seed in range(3)
        ]
        assert len([row for row in runs if row[2] == "ok"]) == 9 * 2  # in both tables
        assert all(row[8].startswith("wise-ft ") for row in runs if row[2] == "ok")

    def test_a_task_page_counts_the_images_of_its_classes(
        self, site: Path, icons: Manifest
    ) -> None:
        page = Page(site / page_name("tasks", "outline-solid"))
        task = icons.task("outline-solid")
        rows = {row[0]: row for row in page.rows if len(row) in (3, 5)}
        name = task.seen[0]
        label = icons.classes.index(name)
        counts = [
            str((icons.samples("solid", split).labels == label).sum())
            for split in ("train", "test")
        ]
        assert [rows[name][1], rows[name][3]] == counts
        missing = next(c for c in icons.classes if c not in task.seen)
        label = icons.classes.index(missing)
        assert rows[missing][1] == str((icons.samples("solid", "test").labels == label).sum())

    def test_the_home_page_draws_which_classes_each_task_sees(
        self, site: Path, icons: Manifest
    ) -> None:
        text = (site / "index.html").read_text("utf-8")
        strip = re.search(r'outline-solid</a></th>.*?<svg class="strip".*?</svg>', text, re.S)
        assert strip
        seen = re.search(r'class="seen" d="(.*?)"', strip[0])
        assert seen
        drawn = re.findall(r"M(\d+) 0h(\d+)v1", seen[1])
        marked = {int(x) + i for x, width in drawn for i in range(int(width))}
        assert {icons.classes[index] for index in marked} == set(icons.task("outline-solid").seen)

    def test_a_method_page_draws_the_mean_of_its_logs(
        self, tmp_path: Path, icons: Manifest, suite: Suite
    ) -> None:
        def log_of(row: Row) -> list[dict[str, float]]:
            loss = 4.0 if row["seed"] == 0 else 1.0
            return [{"step": step, "loss": loss} for step in (0, 10)]

        boards = build(suite, icons, grid(icons, "a") + grid(icons, "source"))
        write_site(tmp_path / "site", boards, {}, {}, log_of)
        text = (tmp_path / "site" / page_name("methods", "a")).read_text("utf-8")
        curves = text[text.index('<svg class="plot curves"') :].partition("</svg>")[0]
        assert len(re.findall('class="task"', curves)) == len(suite.tasks)
        # The mean is 2, on an axis from 0 at y = 206 to the top of the plot at y = 24.
        heights = dict(re.findall(r'y="([\d.]+)" text-anchor="end">(\d+)<', curves))
        at = {int(name): float(y) - 4 for y, name in heights.items()}
        (path,) = re.findall(r'class="mean" d="M([\d. L]+)"', curves)
        assert [float(point.split()[1]) for point in path.split("L")] == [at[2], at[2]]

    def test_without_logs_no_losses_are_drawn(self, site: Path) -> None:
        assert "Training loss" not in (site / page_name("methods", "wise-ft")).read_text("utf-8")
        assert "Training losses" not in (site / "figures.html").read_text("utf-8")

    def test_a_comparison_has_its_tau_with_an_interval_and_a_drawing(
        self, tmp_path: Path, icons: Manifest, suite: Suite
    ) -> None:
        labels = [f"m{n:02d}" for n in range(24)]
        first = {label: float(n) for n, label in enumerate(labels)}
        second = {label: float(n // 2) for n, label in enumerate(labels)}  # tied in pairs
        compared = compare("Other recipes", {"default": first, "hot": second}, set(), "overall")
        assert compared is not None
        (board,) = build(suite, icons, grid(icons, "m00"))
        write_site(tmp_path / "site", [replace(board, comparisons=(compared,))], {}, {})
        text = (tmp_path / "site" / "comparisons.html").read_text("utf-8")
        tau = kendalltau(list(first.values()), list(second.values())).statistic
        low, high = (
            math.tanh(math.atanh(tau) + sign * 1.959964 * math.sqrt(0.437 / 20)) for sign in (-1, 1)
        )
        assert f"hot {tau:.2f} ({low:.2f} to {high:.2f})" in text
        assert 'aria-label="Other recipes, drawn"' in text

    def test_accuracy_by_class_comes_from_the_outcomes(
        self, tmp_path: Path, icons: Manifest, suite: Suite, write_run: WriteRun
    ) -> None:
        for skill, task in zip((100.0, -100.0, 100.0), suite.tasks, strict=True):
            for seed in suite.seeds:
                write_run(tmp_path, "source", task, seed, skill=skill)
        results = update_results(tmp_path, [icons])
        outcomes = WorkspaceOutcomes(tmp_path, icons)
        write_site(tmp_path / "site", build_boards(suite, icons, results, (), outcomes), {}, {})
        rows = Page(tmp_path / "site" / page_name("methods", "source")).rows
        by_class = [row for row in rows if row and row[0] in icons.classes]
        assert len(by_class) == len(icons.classes)
        assert {tuple(row[1:]) for row in by_class} == {("100", "0", "100")}
        # The board has pooled values too, which are not those of a class.
        assert ["class", *suite.tasks] in rows


class TestFolder:
    def test_the_same_boards_give_the_same_bytes(
        self, tmp_path: Path, site: Path, icons: Manifest, suite: Suite
    ) -> None:
        again = write(tmp_path / "again", boards_of(icons, suite))
        names = [path.relative_to(site) for path in site.rglob("*") if path.is_file()]
        assert names
        assert all((again / name).read_bytes() == (site / name).read_bytes() for name in names)

    def test_a_site_replaces_an_older_one_as_a_whole(self, tmp_path: Path) -> None:
        folder = tmp_path / "site"
        write_folder(folder, {"index.html": b"old", "methods/gone.html": b"old"})
        write_folder(folder, {"index.html": b"new"})
        assert json.loads((folder / "site.json").read_text())["files"] == ["index.html"]
        assert sorted(path.name for path in folder.rglob("*")) == ["index.html", "site.json"]
        assert (folder / "index.html").read_bytes() == b"new"
        assert [path.name for path in tmp_path.iterdir()] == ["site"]

    @pytest.mark.parametrize("name", ["notes.txt", "methods/mine.html", "index.html"])
    def test_a_folder_with_other_files_is_refused(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "site"
        if name != "index.html":  # with index.html there is no list of files
            write_folder(folder, {"index.html": b"ours"})
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        with pytest.raises(UsageError, match=f"{re.escape(repr(name))}; choose a new folder"):
            write_folder(folder, {"index.html": b"new"})
        assert path.read_text() == "mine"

    def test_a_site_that_fails_leaves_the_old_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "site"
        write_folder(folder, {"index.html": b"old"})

        def full(path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            write_folder(folder, {"index.html": b"new"})
        assert (folder / "index.html").read_bytes() == b"old"
        assert [path.name for path in tmp_path.iterdir()] == ["site"]

    @pytest.mark.parametrize("name", [*HOSTILE, "", "x" * 300, "é", *SCORES])
    def test_names_of_pages_are_plain_and_short(self, name: str) -> None:
        assert re.fullmatch(
            r"methods/([a-z0-9-]{1,40}-)?[0-9a-f]{8}\.html", page_name("methods", name)
        )

    def test_similar_names_have_different_pages(self) -> None:
        assert len({page_name("methods", name) for name in ("a(x=1)", "a(x 1)", "A(x=1)")}) == 3


class TestUntrustedText:
    def test_no_text_of_a_run_becomes_markup(self, site: Path, hostile: Path) -> None:
        allowed = {tag for path in pages(site) for tag, _ in Page(path).tags} | {"pre", "li", "ul"}
        for path in pages(hostile):
            page = Page(path)
            assert {tag for tag, _ in page.tags} <= allowed, path
            for tag, attributes in page.tags:
                assert not any(name.startswith("on") or name == "style" for name in attributes)
                for name in ("href", "src", "value"):
                    link = attributes.get(name) or ""
                    assert "javascript:" not in link, (path, tag)
                    assert ".." not in link.removeprefix("../"), (path, tag)

    def test_hostile_text_is_shown_as_it_is(self, hostile: Path) -> None:
        text = " ".join(
            data for path in pages(hostile) for of in Page(path).bodies.values() for data in of
        )
        assert "m0<script>window.hacked=1</script>" in text
        assert "{{ 7 * 7 }}" in text
        assert "49" not in re.findall(r"m7(\S+)", text)

    def test_invisible_characters_are_replaced(self, hostile: Path) -> None:
        for path in pages(hostile):
            assert all(c.isprintable() or c == "\n" for c in path.read_text("utf-8")), path

    def test_the_policy_allows_the_style_and_the_script_and_nothing_else(
        self, hostile: Path
    ) -> None:
        for path in pages(hostile):
            page = Page(path)
            (policy,) = (a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
            rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
            assert rules == {
                "default-src": "'none'",
                "script-src": f"'{digest(page.bodies['script'])}'",
                "style-src": f"'{digest(page.bodies['style'])}'",
                "img-src": "data:",
                "base-uri": "'none'",
                "form-action": "'none'",
            }


def digest(parts: list[Any]) -> str:
    sha = hashlib.sha256("".join(parts).encode()).digest()
    return f"sha256-{base64.b64encode(sha).decode()}"
