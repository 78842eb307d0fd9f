"""The place in a method's own files is the last one that a traceback passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.methods.places import place_in

TRACEBACK = """Traceback (most recent call last):
  File "/suite/benchmark/child/main.py", line 50, in main
    answer = work()
  File "/home/a/my_method.py", line 14, in adapt
    return helper()
  File "/home/a/lib/helper.py", line 3, in helper
    x
  File "/suite/benchmark/training.py", line 9, in fit
    raise
  File "/venv/site-packages/torch/hub.py", line 881, in load
    raise
NameError: name 'x' is not defined
"""


@pytest.mark.parametrize(
    ("files", "place"),
    [
        (["/home/a/my_method.py"], "my_method.py:14 in adapt"),
        (["/home/a/my_method.py", "/home/a/lib/helper.py"], "helper.py:3 in helper"),
        (["/home/a/my_method.py", "/home/a/hub.py"], "my_method.py:14 in adapt"),  # not torch's
        (["method.py"], None),  # the end of another name
        (["/home/a/other.py"], None),
        ([], None),
    ],
)
def test_the_last_own_line(files: list[str], place: str | None) -> None:
    assert place_in(TRACEBACK, map(Path, files)) == place


def test_a_long_text_of_a_method_is_no_trouble() -> None:
    assert place_in('  File "' * 100_000, [Path("a.py")]) is None
    assert place_in("", [Path("a.py")]) is None
