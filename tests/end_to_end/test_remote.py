"""A node's worker process carries out the runs of a suite as ``htbench run`` does."""

from __future__ import annotations

import json

import pytest

from benchmark.records import PREDICTIONS_FILE
from benchmark.remote.node import Node
from leaderboard.gamma_star import DERIVED
from tests.end_to_end.lane import wait_until


@pytest.fixture
def node(monkeypatch, mini, tmp_path):
    monkeypatch.setenv("HTBENCH_DATA", str(mini.data))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    node = Node()
    yield node
    node.stop()
    assert not list(tmp_path.glob("htbench-node-*"))


def test_a_chain_has_the_bytes_of_a_local_run(mini, finished, node):
    options = {"suite": str(mini.suite), "seeds": [0], "derived": dict(DERIVED)}
    keys = {row["key"] for row in finished.runs() if row["task"] == "outline-solid"}
    # Nothing is needed for runs that are not asked for, such as those that are finished.
    answer = node.start(options, [*keys, "0" * 64], 2)
    of_seed = {row["key"] for row in finished.runs() if row["seed"] == 0}
    assert set(answer["keys"]) == keys & of_seed
    # calibrated-alg starts from finetune: its base is carried out with it.
    base, one = (
        finished.row(method=method, task="outline-solid", seed=0)["key"]
        for method in ("finetune", "calibrated-alg")
    )
    assert node.run([base, one]) == {"id": 0, "statuses": {base: "ok", one: "ok"}}
    for key in (base, one):
        local = (finished.workspace / "runs" / key / PREDICTIONS_FILE).read_bytes()
        assert node.read(key, PREDICTIONS_FILE, 0, 1 << 30) == local
        assert json.loads(node.read(key, "run.json", 0, 1 << 20))["isolation"]
    node.forget([base])
    assert node.read(base, PREDICTIONS_FILE, 0, 1) is None
    assert node.run(["0" * 64])["error"]
    # As if the node were killed: the worker's standard input closes.
    node._process.stdin.close()
    wait_until(lambda: node._process.poll() is not None, "the end of the worker")
    assert not node._folder.exists()


def test_a_plan_that_cannot_be_made_is_refused(mini, node):
    answer = node.start({"suite": str(mini.suite), "tasks": ["nowhere"]}, [], 1)
    assert "--task nowhere is not in suite mini" in answer["refused"]
