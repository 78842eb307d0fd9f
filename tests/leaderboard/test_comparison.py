"""Methods under several recipes, draws of the seen classes, and numbers of seen classes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.files import digest_json
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.board import MEAN, build_boards
from leaderboard.comparison import Comparison, compare, tau_interval
from leaderboard.conditions import by_board, by_draw, by_share, by_tuning, with_comparisons
from leaderboard.render import FORMATS
from leaderboard.render.comparison import comparison_markdown, tau_text, tau_texts
from leaderboard.rows import SCHEMA
from tests.leaderboard.grids import build, grid, row

PROPERTY = settings(deadline=None, database=None, max_examples=50)


def comparison(*, oracles: tuple[str, ...] = (), **conditions: dict[str, float]) -> Comparison:
    result = compare("Title", conditions, set(oracles), "overall")
    assert result is not None
    return result


ONE = {"a": 50.0, "b": 40.0, "c": 30.0}
SWAPPED = {"a": 40.0, "b": 50.0, "c": 30.0}


class TestCompare:
    def test_ranks_taus_and_flips_of_a_case_done_by_hand(self) -> None:
        result = comparison(one=ONE, two=SWAPPED)
        assert list(result.overall) == ["a", "b", "c"]
        assert [result.ranks(label) for label in "abc"] == [(1, 2), (2, 1), (3, 3)]
        assert result.taus() == pytest.approx((1 / 3,))  # 2 pairs agree and 1 does not
        assert result.flips() == (1, 3)

    def test_a_tau_that_is_not_known_or_about_0_is_shown_as_such(self) -> None:
        alone = comparison(one={"a": 1.0, "b": 2.0}, two={"a": 1.0, "b": 2.0}, oracles=("b",))
        assert tau_texts(alone) == ["-"]
        assert [tau_text(tau) for tau in (math.nan, -0.001, -0.25)] == ["-", "0.00", "-0.25"]

    def test_equal_values_share_a_rank_and_are_not_a_flip(self) -> None:
        result = comparison(one=ONE, two={"a": 40.0, "b": 40.0, "c": 30.0})
        assert [result.ranks(label) for label in "abc"] == [(1, 1), (2, 1), (3, 3)]
        assert result.flips() == (0, 3)

    def test_an_oracle_has_no_rank_and_takes_none(self) -> None:
        result = comparison(
            one={**ONE, "best": 90.0}, two={**SWAPPED, "best": 10.0}, oracles=("best",)
        )
        assert list(result.overall)[-1] == "best"
        assert result.ranks("a") == (1, 2)
        assert result.flips() == (1, 3)

    def test_a_method_without_a_value_is_named_and_not_compared(self) -> None:
        result = comparison(one={**ONE, "d": 99.0}, two=SWAPPED)
        assert result.incomplete == ("d",)
        assert "d" not in result.overall
        assert "runs are missing, failed or not applicable: d" in comparison_markdown(result)

    @pytest.mark.parametrize("conditions", [{}, {"one": ONE}, {"one": ONE, "two": {"a": 1.0}}])
    def test_nothing_to_compare(self, conditions: dict[str, dict[str, float]]) -> None:
        assert compare("Title", conditions, set(), "overall") is None

    def test_a_method_beside_oracles_only_has_no_tau(self) -> None:
        result = comparison(one=ONE, two=SWAPPED, oracles=("a", "b"))
        assert math.isnan(*result.taus())
        assert result.flips() == (0, 0)

    def test_values_that_differ_by_rounding_are_tied(self) -> None:
        a, b = (0.1 + 0.2) + 0.3, 0.1 + (0.2 + 0.3)
        result = comparison(one={"a": a, "b": b, "c": 0.0}, two={"a": b, "b": a, "c": 0.0})
        assert a > b
        assert (result.ranks("a"), result.ranks("b")) == ((1, 1), (1, 1))
        assert result.flips() == (0, 3)
        assert result.taus() == pytest.approx((1.0,))

    @PROPERTY
    @given(
        st.integers(2, 7).flatmap(
            lambda n: st.lists(
                st.lists(st.integers(0, 5).map(float), min_size=n, max_size=n),
                min_size=2,
                max_size=4,
            )
        )
    )
    def test_against_a_naive_loop(self, values: list[list[float]]) -> None:
        conditions = {
            f"condition {i}": {f"method {j}": value for j, value in enumerate(of_condition)}
            for i, of_condition in enumerate(values)
        }
        result = comparison(**conditions)
        pairs = list(itertools.combinations(range(len(values[0])), 2))
        flips = 0
        for a, b in pairs:
            orders = {of[a] > of[b] for of in values if of[a] != of[b]}
            flips += len(orders) == 2
        assert result.flips() == (flips, len(pairs))
        for other, tau in zip(values[1:], result.taus(), strict=True):
            assert tau == pytest.approx(naive_tau(values[0], other, pairs), nan_ok=True)
        for j in range(len(values[0])):
            ranks = tuple(1 + sum(v > of[j] for v in of) for of in values)
            assert result.ranks(f"method {j}") == ranks


class TestInterval:
    def test_of_a_case_done_by_hand(self) -> None:
        # atanh(0.5) = 0.549306, sqrt(0.437 / 20) = 0.147817, 1.959964 of it = 0.289716
        assert tau_interval(0.5, 24) == pytest.approx(
            (math.tanh(0.259590), math.tanh(0.839022)), abs=1e-5
        )

    def test_covers_the_tau_of_a_bivariate_normal(self) -> None:
        """Greiner's relation: tau = 2 / pi * arcsin(rho)."""
        from scipy.stats import kendalltau

        rng, rho, inside = np.random.default_rng(0), 0.7, 0
        truth = 2 / math.pi * math.asin(rho)
        for _ in range(400):
            x, noise = rng.standard_normal((2, 30))
            y = rho * x + math.sqrt(1 - rho**2) * noise
            low, high = tau_interval(float(kendalltau(x, y).statistic), 30)
            inside += low <= truth <= high
        assert 0.92 <= inside / 400 <= 0.98

    @pytest.mark.parametrize(("tau", "methods"), [(0.5, 9), (math.nan, 30)])
    def test_unknown(self, tau: float, methods: int) -> None:
        assert all(map(math.isnan, tau_interval(tau, methods)))


def naive_tau(x: list[float], y: list[float], pairs: list[tuple[int, int]]) -> float:
    """tau-b: pairs that agree minus pairs that do not, over the root of the untied pairs."""
    balance = untied_x = untied_y = 0
    for a, b in pairs:
        dx, dy = (x[a] > x[b]) - (x[a] < x[b]), (y[a] > y[b]) - (y[a] < y[b])
        balance += dx * dy
        untied_x += dx != 0
        untied_y += dy != 0
    return balance / math.sqrt(untied_x * untied_y) if untied_x and untied_y else math.nan


def with_tasks(icons: Manifest, *tasks: tuple[str, str, str, int]) -> Manifest:
    """The icons with other tasks: id, source, target and number of seen classes."""
    entries = [
        {"id": name, "sources": [source], "target": target, "seen": list(icons.classes[:count])}
        for name, source, target, count in tasks
    ]
    return dataclasses.replace(icons, document={**icons.document, "tasks": entries})


def rows_of(manifest: Manifest, label: str, overall: dict[str, float]) -> list[dict[str, Any]]:
    return [
        row(
            manifest,
            label,
            task,
            seed,
            overall=value,
            source_digest=f"checkpoint of {manifest.task(task).sources}",
        )
        for task, value in overall.items()
        for seed in range(3)
    ]


DRAWS = (
    ("os", "outline", "solid", 32),
    ("os.2", "outline", "solid", 32),
    ("so", "solid", "outline", 32),
    ("so.2", "solid", "outline", 32),
)


class TestOfABoard:
    def test_draws_are_averaged_over_pairs(self, suite: Suite, icons: Manifest) -> None:
        manifest = with_tasks(icons, *DRAWS)
        suite = dataclasses.replace(suite, tasks=("os", "os.2", "so", "so.2"))
        rows = rows_of(manifest, "a", {"os": 50.0, "os.2": 20.0, "so": 60.0, "so.2": 30.0})
        rows += rows_of(manifest, "b", {"os": 40.0, "os.2": 40.0, "so": 40.0, "so.2": 40.0})
        (board,) = build(suite, manifest, rows)
        result = by_draw(board, manifest)
        assert result is not None
        assert result.conditions == ("draw 1", "draw 2")
        assert result.overall == {"a": (55.0, 25.0), "b": (40.0, 40.0)}
        assert result.flips() == (1, 1)
        assert by_share(board, manifest) is None

    def test_a_pair_with_fewer_draws_is_not_compared(self, suite: Suite, icons: Manifest) -> None:
        manifest = with_tasks(icons, *DRAWS[:3])
        suite = dataclasses.replace(suite, tasks=("os", "os.2", "so"))
        rows = [
            r for label in "ab" for r in rows_of(manifest, label, dict.fromkeys(suite.tasks, 50.0))
        ]
        (board,) = build(suite, manifest, rows)
        assert by_draw(board, manifest) is None

    def test_shares_of_seen_classes(self, suite: Suite, icons: Manifest) -> None:
        manifest = with_tasks(
            icons,
            ("os.48", "outline", "solid", 48),
            ("os.8", "outline", "solid", 8),
            ("os.8b", "outline", "solid", 8),
        )
        suite = dataclasses.replace(suite, tasks=("os.48", "os.8", "os.8b"))
        rows = rows_of(manifest, "a", {"os.48": 70.0, "os.8": 20.0, "os.8b": 30.0})
        rows += rows_of(manifest, "b", {"os.48": 60.0, "os.8": 40.0, "os.8b": 40.0})
        (board,) = build(suite, manifest, rows)
        result = by_share(board, manifest)
        assert result is not None
        assert result.conditions == ("8 of 65 seen", "48 of 65 seen")
        assert result.overall == {"b": (40.0, 60.0), "a": (25.0, 70.0)}

    def test_numbers_with_other_mixtures_of_pairs_are_not_compared(
        self, suite: Suite, icons: Manifest
    ) -> None:
        """The mean of a method that depends on the pair alone would change with the number."""
        tasks = (
            *DRAWS,
            ("os.8", "outline", "solid", 8),
            ("so.8", "solid", "outline", 8),
        )
        manifest = with_tasks(icons, *tasks)
        for left_out, is_compared in (("", True), ("so.2", False)):
            names = tuple(name for name, *_ in tasks if name != left_out)
            values = {name: 50.0 if name.startswith("os") else 20.0 for name in names}
            rows = [r for label in "ab" for r in rows_of(manifest, label, values)]
            (board,) = build(dataclasses.replace(suite, tasks=names), manifest, rows)
            result = by_share(board, manifest)
            assert (result is not None) == is_compared
            if result is not None:
                assert result.overall == {"a": (35.0, 35.0), "b": (35.0, 35.0)}

    def test_recipes(self, suite: Suite, icons: Manifest) -> None:
        default = build(
            suite, icons, [*grid(icons, "a", overall=60.0), *grid(icons, "b", overall=50.0)]
        )
        hot = build(suite, icons, grid(icons, "a", overall=30.0) + grid(icons, "b", overall=40.0))
        result = by_board("Other recipes", {"default": default[0], "hot": hot[0]})
        assert result is not None
        assert result.overall == {"a": (60.0, 30.0), "b": (50.0, 40.0)}
        text = comparison_markdown(result)
        assert "| a      |    60.0 |    1 | 30.0 |    2 | 45.0 |  30.0 |" in text
        assert "Kendall's tau-b with the order under default: hot -1.00 (2 ranked methods)" in text
        assert "1 of 1 pair of methods change their order" in text

    def test_tuned_methods_beside_their_defaults(self, suite: Suite, icons: Manifest) -> None:
        rows = grid(icons, "a", overall=60.0) + grid(icons, "b", overall=50.0)
        (default,) = build(suite, icons, rows)
        search = json.dumps({"by": "x", "folds": 2, "steps": 1, "chosen": {}, "tried": []})
        rows = [
            {**row, "label": "b(tuned)", "search": search} for row in grid(icons, "b", overall=70.0)
        ]
        rows += grid(icons, "a", overall=60.0)  # without a search space
        boards = build(dataclasses.replace(suite, tuned=True), icons, rows)
        result = by_tuning("Tuning", default, boards[0])
        assert result is not None
        assert result.overall == {"a": (60.0, 60.0), "b": (50.0, 70.0)}

    def test_runs_of_other_recipes_are_compared_and_not_in_the_tables(
        self, suite: Suite, icons: Manifest
    ) -> None:
        recipes = {"hot": {"head_lr": 1.0}, "long": {"steps": 400}}
        manifest = dataclasses.replace(icons, document={**icons.document, "recipes": recipes})
        rows = []
        for name, (a, b) in {"default": (60.0, 50.0), "hot": (30.0, 40.0)}.items():
            digest = digest_json(manifest.recipe_of(name))
            rows += grid(manifest, "a", overall=a, recipe_digest=digest)
            rows += grid(manifest, "b", overall=b, recipe_digest=digest)
        results = pa.Table.from_pylist(rows, schema=SCHEMA)
        boards = build_boards(suite, manifest, results)
        assert [board.cells["overall"].max() for board in boards] == [60.0]
        (board,) = with_comparisons(boards, suite, manifest, results)
        (comparison,) = board.comparisons
        assert comparison.conditions == ("default", "hot")
        assert comparison.overall == {"a": (60.0, 30.0), "b": (50.0, 40.0)}
        text = FORMATS["markdown"]([board])
        assert "## Other recipes\n\n| method | default | rank |  hot | rank |" in text
        (table,) = json.loads(FORMATS["json"]([board]))
        assert table["comparisons"][0]["kendall_tau"] == {"hot": -1.0}
        hot = dataclasses.replace(suite, recipe="hot")
        boards = build_boards(hot, manifest.with_recipe("hot"), results)
        (board,) = with_comparisons(boards, hot, manifest.with_recipe("hot"), results)
        assert board.values[board.values["task"] == MEAN]["overall"].max() == 40.0
        assert board.comparisons == ()

    def test_partial_runs_are_incomplete(self, suite: Suite, icons: Manifest) -> None:
        manifest = with_tasks(icons, *DRAWS)
        suite = dataclasses.replace(suite, tasks=("os", "os.2", "so", "so.2"))
        rows = [
            r for label in "abc" for r in rows_of(manifest, label, dict.fromkeys(suite.tasks, 50.0))
        ]
        (board,) = build(suite, manifest, rows[:-1])
        result = by_draw(board, manifest)
        assert result is not None
        assert result.incomplete == ("c",)
