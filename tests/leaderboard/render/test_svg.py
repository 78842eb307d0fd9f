"""The drawings of the site: where things are, and that every text is escaped."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from leaderboard.render import svg

HOSTILE = '"><script>&'


def parse(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<g>{markup}</g>")


class TestScale:
    def test_values_are_drawn_in_proportion_and_kept_on_the_axis(self) -> None:
        scale = svg.Scale(20, 60, 100, 300)
        assert [scale.at(value) for value in (20, 30, 60, 0, 99)] == [100, 150, 300, 100, 300]
        down = svg.Scale(0, 10, 200, 0)  # of a vertical axis
        assert [down.at(value) for value in (0, 2.5, 10)] == [200, 150, 0]

    @pytest.mark.parametrize(
        ("low", "high", "count", "ticks"),
        [
            (0, 100, 4, [0, 50, 100]),
            (0, 100, 5, [0, 20, 40, 60, 80, 100]),
            (10, 90, 3, [20, 40, 60, 80]),  # 50 alone says nothing about the distance
            (0.2, 0.55, 4, [0.2, 0.3, 0.4, 0.5]),
            (-40, 20, 3, [-40, -20, 0, 20]),
        ],
    )
    def test_ticks_are_round(self, low: float, high: float, count: int, ticks: list[float]) -> None:
        assert svg.Scale(low, high, 0, 100).ticks(count) == ticks

    @pytest.mark.parametrize("count", [3, 4, 5, 6])
    def test_every_axis_of_values_has_two_ticks_within_it(self, count: int) -> None:
        random = np.random.default_rng(0)
        for low, size in zip(random.normal(0, 50, 300), random.exponential(20, 300), strict=True):
            scale = svg.axis_of([float(low)], [float(low + size)])
            ticks = scale.ticks(count)
            assert 2 <= len(ticks) <= 2.5 * count
            assert scale.low - 1e-9 <= min(ticks)
            assert max(ticks) <= scale.high + 1e-9

    @pytest.mark.parametrize(
        ("lows", "highs", "ends"),
        [
            ([31.0], [74.0], (30, 80)),
            ([math.nan, 31.0], [74.0, math.inf], (30, 80)),
            ([5.0], [5.0], (5, 6)),
            ([], [], (0, 1)),
        ],
    )
    def test_an_axis_ends_at_round_values_around_all_that_are_finite(
        self, lows: list[float], highs: list[float], ends: tuple[float, float]
    ) -> None:
        scale = svg.axis_of(lows, highs)
        assert (scale.low, scale.high) == ends


class TestInterval:
    SCALE = svg.Scale(0, 100, 0, 100)

    def test_a_point_with_its_interval_and_the_reference(self) -> None:
        reference, interval, point = parse(svg.interval(self.SCALE, 50, 10, 20))
        assert reference.get("d") == f"M20 0V{svg.BAR_HEIGHT}"
        assert interval.get("d") == "M40 7H60"
        assert (point.get("cx"), point.get("cy")) == ("50", "7")

    def test_what_is_not_known_is_not_drawn(self) -> None:
        assert svg.interval(self.SCALE, math.nan, math.nan, math.nan) == ""
        (point,) = parse(svg.interval(self.SCALE, 50, math.nan, math.nan))
        assert point.tag == "circle"


class TestPlots:
    def test_every_finite_point_is_a_link_with_its_values(self) -> None:
        points = [
            svg.Point("a", "a.html", 10, 30, "ranked", named=True),
            svg.Point("b", "b.html", 50, 70, "oracle"),
            svg.Point("c", "c.html", math.nan, 70, "ranked", named=True),
        ]
        (plot,) = parse(svg.scatter(points, "title"))
        links = plot.findall("a")
        assert [link.get("href") for link in links] == ["a.html", "b.html"]
        assert ["".join(link.itertext()) for link in links] == [
            "a: seen 10.0, missing 30.0",
            "b: seen 50.0, missing 70.0",
        ]
        first, second = (link[0] for link in links)
        assert float(str(first.get("cx"))) < float(str(second.get("cx")))
        assert float(str(first.get("cy"))) > float(str(second.get("cy")))  # up is more
        assert [text.text for text in plot.findall("text[@class='name']")] == ["a"]

    def test_the_axes_say_which_accuracies_they_are(self) -> None:
        point = svg.Point("a", "a.html", 10, 30, "ranked", named=True)
        (plot,) = parse(svg.scatter([point], "title", ("macro seen", "macro missing")))
        assert [text.text for text in plot.findall("text[@class='axis']")] == [
            "macro seen accuracy, % →",
            "macro missing accuracy, % ↑",
        ]
        assert "".join(plot.findall("a")[0].itertext()) == "a: macro seen 10.0, macro missing 30.0"

    def test_nothing_to_show_is_nothing_and_not_an_axis_of_nothing(self) -> None:
        assert svg.scatter([svg.Point("a", "a.html", math.nan, 30, "ranked")], "title") == ""
        nothing = svg.Change("task", (20, math.nan), (60, math.nan))
        assert svg.changes([nothing], "title") == ""

    def test_names_never_cover_each_other(self) -> None:
        points = [
            svg.Point(f"method-{n}", "", 50 + n / 100, 50, "ranked", named=True) for n in range(30)
        ]
        points.append(svg.Point("far", "", 0, 0, "ranked", named=True))
        (plot,) = parse(svg.scatter(points, "title"))
        boxes = []
        for text in plot.findall("text[@class='name']"):
            width = svg.CHARACTER * len(text.text or "")
            x, y = float(str(text.get("x"))), float(str(text.get("y")))
            left = x - {"start": 0, "middle": width / 2, "end": width}[str(text.get("text-anchor"))]
            boxes.append((left, left + width, y))
        assert 1 < len(boxes) < len(points)  # those without room are left out
        for i, (left, right, y) in enumerate(boxes):
            assert left >= 44
            assert right <= svg.PLOT_WIDTH
            for other_left, other_right, other_y in boxes[:i]:
                assert right <= other_left or other_right <= left or abs(y - other_y) >= 12

    def test_a_change_goes_from_the_source_to_the_method(self) -> None:
        change = svg.Change("task", (20, 80), (60, 40))
        (plot,) = parse(svg.changes([change], "title"))
        x = svg.Scale(0, 100, svg.LABEL_WIDTH, svg.PLOT_WIDTH - 16).at
        for name, before, after in (("seen", 20, 80), ("missing", 60, 40)):
            path, hollow, filled = plot.findall(f"g[@class='{name}']/*")
            assert str(path.get("d")).startswith(f"M{x(before):g} ")
            assert str(path.get("d")).endswith(f"H{x(after):g}")
            assert hollow.get("cx") == f"{x(before):g}"
            assert filled.get("cx") == f"{x(after):g}"

    def test_the_labels_of_changes_have_the_room_that_they_need(self) -> None:
        label = "art_painting+cartoon+photo-sketch"
        (plot,) = parse(svg.changes([svg.Change(label, (20, 80), (60, 40))], "title"))
        (text,) = plot.findall("text[@class='name']")
        assert text.text == label
        assert float(str(text.get("x"))) >= svg.LABEL_CHARACTER * len(label)
        assert float(str(plot.findall("text")[0].get("x"))) > float(str(text.get("x")))  # of 0 %

    def test_without_a_source_a_change_is_a_dot(self) -> None:
        change = svg.Change("task", (math.nan, 80), (math.nan, math.nan))
        (plot,) = parse(svg.changes([change], "title"))
        assert [element.tag for element in plot.findall("g/*")] == ["circle"]

    def test_a_curve_of_many_steps_has_few_points_in_its_range(self) -> None:
        x = np.arange(0, 100_000, 10.0)
        falling = svg.Line("mean", x, 1 / (1 + x / 1000))
        short = svg.Line("one step", np.zeros(1), np.ones(1))
        (plot,) = parse(svg.curves([short], falling, "title"))
        (path,) = plot.findall("path[@class='mean']")
        points = [tuple(map(float, p)) for p in re.findall(r"([\d.]+) ([\d.]+)", path.attrib["d"])]
        assert svg.MAX_POINTS / 2 < len(points) <= svg.MAX_POINTS
        assert points == sorted(points)  # down the page: the loss falls
        assert plot.find("path[@class='task']") is None

    def test_bars_share_a_scale(self) -> None:
        widths = [parse(svg.bar(value, 40, "seen")).find("svg/rect") for value in (40, 10, 0)]
        assert [rect.get("width") for rect in widths if rect is not None] == ["160", "40", "0"]
        empty = parse(svg.bar(0, 0, "seen")).find("svg/rect")
        assert empty is not None
        assert empty.get("width") == "0"

    def test_a_strip_marks_every_class_once(self) -> None:
        kinds = ["seen", "seen", "missing", "excluded", "seen"]
        strip = parse(svg.strip(kinds))[0]
        assert strip.get("viewBox") == "0 0 5 1"
        marks = {}
        for path in strip:
            for start, width in re.findall(r"M(\d+) 0h(\d+)v1", path.attrib["d"]):
                marks |= {int(start) + i: path.get("class") for i in range(int(width))}
        assert [marks[i] for i in range(5)] == kinds

    def test_labels_are_escaped(self) -> None:
        line = svg.Line(HOSTILE, np.arange(2.0), np.arange(2.0))
        for plot in (
            svg.scatter([svg.Point(HOSTILE, HOSTILE, 1, 1, "ranked", named=True)], HOSTILE),
            svg.changes([svg.Change(HOSTILE, (1, 2), (1, 2))], HOSTILE),
            svg.curves([line], line, HOSTILE),
        ):
            root = parse(plot)  # which fails where markup is broken
            assert root.find(".//script") is None
            assert root[0].get("aria-label") == HOSTILE
            assert any(HOSTILE in (element.text or "") for element in root.iter())
