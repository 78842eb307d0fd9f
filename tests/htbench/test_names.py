"""The names that ``htbench`` exports."""

from __future__ import annotations

import pytest

import htbench


def test_every_public_name_resolves_and_is_documented() -> None:
    assert {"Method", "fit", "load_manifest", "load_results", "open_task", "run_suite"} <= set(
        htbench.__all__
    )
    for name in htbench.__all__:
        assert callable(getattr(htbench, name)), name
        assert getattr(htbench, name).__doc__, name
    assert set(htbench.__all__) <= set(dir(htbench))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        htbench.nope  # noqa: B018
