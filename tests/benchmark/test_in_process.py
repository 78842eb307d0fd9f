"""Methods that are imported into the current process."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.in_process import load
from benchmark.methods.code import collect_code
from benchmark.methods.find import file_source
from benchmark.methods.resolve import resolve
from benchmark.session import Session

HELPER = """
from __future__ import annotations

from dataclasses import dataclass

from htbench import Method


@dataclass(frozen=True)
class Base(Method):
    alpha: float = 0.25
"""
PLUGIN = """
from __future__ import annotations

from dataclasses import dataclass

from my_helper import Base


@dataclass(frozen=True)
class Mine(Base):
    \"\"\"Does nothing.\"\"\"

    name = "mine"

    def adapt(self, source, target, run):
        return source.copy()
"""


@pytest.mark.parametrize("file", ["my_helper.py", "mine.py"])
def test_a_file_that_was_changed_is_imported_again(
    tmp_path: Path, own_data: Path, file: str
) -> None:
    """As in a notebook: what a run uses must not be the class of an earlier version either."""
    (tmp_path / "my_helper.py").write_text(HELPER)
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    (before,) = load([], [str(plugin)])
    assert before.description.configure({}) == {"alpha": 0.25}
    changed = (tmp_path / file).read_text()
    if file == "my_helper.py":
        changed = changed.replace("0.25", "0.75")
    else:
        changed = changed.replace('name = "mine"', 'name = "mine"\n    alpha: float = 0.75')
    (tmp_path / file).write_text(changed)
    (after,) = load([], [str(plugin)])
    assert after.description.configure({}) == {"alpha": 0.75}
    assert after.method.alpha == 0.75  # type: ignore[attr-defined]
    with Session() as session:
        (described,) = resolve([], [str(plugin)], session.describe)
    assert described.configure({}) == {"alpha": 0.75}


def test_what_this_process_has_imported_before_describes_no_run(
    tmp_path: Path, own_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that the user's own code imported may be of an earlier version of its file."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_other_helper.py").write_text(HELPER)
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.replace("my_helper", "my_other_helper"))
    __import__("my_other_helper")
    (tmp_path / "my_other_helper.py").write_text(HELPER.replace("0.25", "0.75"))
    load([], [str(plugin)])
    with Session() as session:
        (described,) = resolve([], [str(plugin)], session.describe)
    assert described.configure({}) == {"alpha": 0.75}


def test_a_helper_of_another_method_is_not_taken(tmp_path: Path, own_data: Path) -> None:
    """Two methods in two folders may have helpers of one name."""
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my_helper.py").write_text(HELPER)
        (tmp_path / folder / "mine.py").write_text(PLUGIN)
    load([], [str(tmp_path / "one" / "mine.py")])
    code = collect_code(file_source(str(tmp_path / "other" / "mine.py")))
    assert {file.path.parent.name for file in code.files} == {"other"}
