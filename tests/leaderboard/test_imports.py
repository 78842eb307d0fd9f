"""Everything in the leaderboard can be imported without torch."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

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
