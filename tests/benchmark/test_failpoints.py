"""A process stops at the point that the environment names, and at no other."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from benchmark.failpoints import POINTS, VARIABLE
from benchmark.folders import PACKAGE, ROOT

CODE = """
from benchmark.failpoints import reach
for _ in range(2):
    reach("run-claimed")
    reach("record-written")
print("end")
"""


def start(setting: str | None) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    if setting is not None:
        environment[VARIABLE] = setting
    return subprocess.Popen(
        [sys.executable, "-c", CODE], env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("setting", "status"),
    [
        (None, 0),
        ("model-adapted=kill", 0),
        ("record-written=kill", -signal.SIGKILL),
        ("record-written@2=kill", -signal.SIGKILL),
        ("record-written@3=kill", 0),
    ],
)
def test_kill(setting: str | None, status: int) -> None:
    with start(setting) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert out == ("end\n" if status == 0 else "")


def test_stop() -> None:
    with start("run-claimed=stop") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "end\n")


def test_every_point_is_reached_at_one_place() -> None:
    packages = (PACKAGE, ROOT / "leaderboard")
    text = "".join(path.read_text("utf-8") for p in packages for path in sorted(p.rglob("*.py")))
    assert set(re.findall(r'reach\("([a-z-]+)"\)', text)) == set(POINTS)
