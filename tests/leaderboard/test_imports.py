"""What importing the leaderboard loads, and which names it offers."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import leaderboard


def test_no_module_loads_torch() -> None:
    modules = [m.name for m in pkgutil.walk_packages(leaderboard.__path__, "leaderboard.")]
    assert "leaderboard.render.markdown" in modules
    code = (
        f"import sys, {', '.join(modules)}\n"
        "assert not {'torch', 'torchvision', 'datasets'} & set(sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_import_is_light():
    code = (
        "import sys, leaderboard; assert 'numpy' not in sys.modules; leaderboard.score; "
        "assert not {'torch', 'pandas'} & set(sys.modules); assert 'score' in dir(leaderboard)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        leaderboard.scores  # noqa: B018
