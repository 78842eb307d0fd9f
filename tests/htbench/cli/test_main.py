"""The `htbench` process as a whole."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 1000, flush=True))  # runs last
assert gc.get_freeze_count() == 0
from htbench.cli.main import main
main(["--version"])
"""


def test_its_end_looks_for_no_garbage() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE], check=True, capture_output=True, text=True, timeout=100
    )
    version, is_frozen = ended.stdout.splitlines()
    assert version.startswith("htbench")
    assert is_frozen == "True"
