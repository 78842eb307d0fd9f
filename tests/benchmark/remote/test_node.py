"""The folder of a node on its machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark.remote.node import Node


def test_a_node_removes_what_killed_ones_left_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray kills a node and its worker when their driver ends early."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    elsewhere = tmp_path / "htbench-node-another.host-x"  # the temporary folder may be shared
    elsewhere.mkdir()
    alive = Node()
    if not (killed := os.fork()):
        Node()
        os._exit(0)
    assert os.waitpid(killed, 0)[1] == 0
    assert len(list(tmp_path.iterdir())) == 3
    second = Node()
    ours = {alive._folder, second._folder}
    assert set(tmp_path.iterdir()) == {elsewhere, *ours}
    alive.stop()
    second.stop()
    assert list(tmp_path.iterdir()) == [elsewhere]
