"""Search spaces: grids of a command line, and what a method declares."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.errors import MethodError, UsageError
from benchmark.manifest.rates import rate_of
from benchmark.methods.describe import Field, MethodDescription
from benchmark.tuning.space import (
    BUDGET,
    declared_settings,
    fields_of,
    settings_of,
)

FIELDS = (Field("alpha", "float", 0.5), Field("count", "int", 3), Field("fast", "bool", True))


def method(search: Any, track: str = "standard") -> MethodDescription:
    nothing: Any = SimpleNamespace()
    return MethodDescription(
        nothing, "mine", "", FIELDS, None, track, uses_features=False, own=nothing, search=search
    )


class TestDeclared:
    def test_an_empty_space_has_the_rate_factors(self) -> None:
        settings = declared_settings(method({}))
        assert settings == [{"rate-factor": f} for f in ("1", "1/3", "1/10")]
        assert [rate_of(s) for s in settings] == pytest.approx([1, 1 / 3, 0.1])
        assert [fields_of(s) for s in settings] == [{}] * 3

    def test_every_combination_with_the_defaults_first(self) -> None:
        settings = declared_settings(method({"alpha": (0.25, 0.5), "fast": (True, False)}))
        assert settings[0] == {"alpha": "0.5", "fast": "true", "rate-factor": "1"}
        assert len(settings) == 12
        assert len({tuple(s.items()) for s in settings}) == 12

    def test_a_larger_space_is_cut_to_the_budget(self) -> None:
        space = {"alpha": (0.1, 0.2, 0.5, 0.9), "count": (1, 2, 3)}
        settings = declared_settings(method(space))
        assert len(settings) == BUDGET == 12
        assert settings[0] == {"alpha": "0.5", "count": "3", "rate-factor": "1"}
        assert len({tuple(s.items()) for s in settings}) == 12

    def test_a_default_that_is_not_among_the_values_is_tried_too(self) -> None:
        settings = declared_settings(method({"alpha": (0.1, 0.9)}))
        assert settings[0] == {"alpha": "0.5", "rate-factor": "1"}
        assert len(settings) == 1 + 2 * 3

    def test_such_a_default_counts_in_the_budget(self) -> None:
        """The space is then cut like any larger one, not by leaving out its last setting."""
        settings = declared_settings(method({"count": (1, 2, 4, 5)}))
        assert len(settings) == BUDGET
        assert settings[0] == {"count": "3", "rate-factor": "1"}
        assert settings[-1] == {"count": "5", "rate-factor": "1/10"}

    def test_a_method_without_a_space_cannot_be_tuned_over_it(self) -> None:
        with pytest.raises(MethodError, match=r"mine declares no search space; .*--grid"):
            declared_settings(method(None))

    def test_an_oracle_is_not_told_to_give_a_grid(self) -> None:
        with pytest.raises(MethodError, match="mine cannot be tuned: it is an oracle"):
            declared_settings(method(None, track="oracle"))


class TestGrid:
    def test_the_rate_factor_is_like_a_field(self) -> None:
        settings = settings_of(["alpha=0.1,0.2", "rate-factor=1,1/3"], method(None))
        assert len(settings) == 4
        assert settings[1] == {"alpha": "0.1", "rate-factor": "1/3"}

    @pytest.mark.parametrize(
        "factor", ["0", "-1", "x", "1/0", "1e9", "nan", "1e400", "1e999999999", f"{10**400}/1"]
    )
    def test_a_wrong_rate_factor(self, factor: str) -> None:
        with pytest.raises(UsageError, match=rf"rate-factor={factor}: write a positive number"):
            settings_of([f"rate-factor={factor}"], method(None))
