"""A run that fails is a result: it costs its own row only, and its row says why."""

from __future__ import annotations

import json
import os
import pty
from dataclasses import replace

import pytest

HEAD = """
import ctypes
import os
import sys
from dataclasses import replace
from dataclasses import dataclass

import torch
from torch import nn

from htbench import Method, fit


class Changed(nn.Module):
    \"\"\"A model whose logits go through a function.\"\"\"

    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, images):
        return self.change(self.model(images))


def depends_on_its_batch(logits):
    return nn.functional.batch_norm(logits, None, None, training=True)


class Rude(Exception):
    def __str__(self):
        raise RuntimeError("no words for it")


class Odd(Exception):
    def __init__(self, *, must):
        self.must = must


def deeper(n):
    return deeper(n + 1) + 1


"""
# name: (body of adapt, kind of the error, words of its message)
FAILING = {
    "raises": ("raise ValueError('no luck today')", "exception", ["ValueError: no luck today"]),
    "odd-exception": ("raise Odd(must=1)", "exception", ["Odd"]),
    "rude-exception": ("raise Rude", "exception", ["Rude"]),
    "imports": ("import nowhere_at_all", "exception", ["ModuleNotFoundError", "nowhere_at_all"]),
    "recursion": ("deeper(0)", "exception", ["RecursionError"]),
    "huge-message": ("raise ValueError('x' * 50_000_000)", "exception", ["ValueError: xxx"]),
    "escapes": (
        "print('\\x1b[2J\\x1b[31mprinted')\nraise ValueError('\\x1b]0;owned\\x07\\x1b[31mred')",
        "exception",
        ["ValueError", "red"],
    ),
    "surrogate": ("raise ValueError('\\udcff')", "exception", ["ValueError"]),
    "nan": (
        "return Changed(source.copy(), lambda z: z / 0 * 0)",
        "contract",
        ["NaN or infinite logits for 48 of 48 images"],
    ),
    "too-wide": (
        "return Changed(source.copy(), lambda z: torch.cat([z, z], dim=1))",
        "contract",
        ["(48, 24)", "must be (48, 12)"],
    ),
    "tuple": (
        "return Changed(source.copy(), lambda z: (z, z))",
        "contract",
        ["gives a tuple of 2 instead of a tensor of logits", "whose forward() returns only the"],
    ),
    "dict": (
        "return Changed(source.copy(), lambda z: {'logits': z})",
        "contract",
        ["gives a dict with logits instead of a tensor of logits", "(48, 12) for 48 images"],
    ),
    "dropout": (
        "return Changed(source.copy(), lambda z: nn.functional.dropout(z, 0.1, training=True))",
        "contract",
        ["depend on the other images in the batch", "draws no random numbers"],
    ),
    "no-module": ("return 'a model'", "contract", ["adapt() returned str", "torch.nn.Module"]),
    "nothing": ("fit(source.copy(), target, run)", "contract", ["adapt() returned NoneType"]),
    "batch-mates": (
        "return Changed(source.copy(), depends_on_its_batch)",
        "contract",
        ["depend on the other images in the batch"],
    ),
    "oracle-in-disguise": (
        "return fit(source.copy(), target.with_missing(), run)",
        "exception",
        ["data of missing classes is available only to built-in methods"],
    ),
    "half-a-step": (
        "run.total_steps += 1.5\nreturn source.copy()",
        "contract",
        ["run.total_steps is 1.5; it must be a whole number of steps"],
    ),
    "odd-history": (
        "run.history.append({'loss': 'low'})\nreturn source.copy()",
        "contract",
        ["loss in run.history is 'low'; it must be a number", "add rows with run.log"],
    ),
    "leaves": ("sys.exit('enough')", "contract", ["sys.exit('enough') was called"]),
    "exits": ("os._exit(0)", "died", ["exited with code 0", "before it returned a result"]),
    "segfault": ("ctypes.string_at(0)", "died", ["SIGSEGV"]),
}
DERIVED = {
    "of-a-failure": ("raises", "return run.base"),
    "of-no-weights": ("wrapped", "return run.base"),
}
WORKING = {
    "wrapped": "return Changed(source.copy(), lambda z: z + 1)",
    "fakes-a-record": """\
for name in ("run.json", "predictions.parquet", "results.parquet", "journal.jsonl"):
    for folder in (".", run.scratch, run.scratch.parent, run.scratch.parents[1] / "runs"):
        try:
            open(f"{folder}/{name}", "w").write('{"status": "ok", "overall": 100.0}')
        except OSError:
            print("refused")
return Changed(source.copy(), lambda z: z + 1)""",
    "leaves-many-files": """\
for number in range(20_000):
    open(run.scratch / str(number), "w").close()
return Changed(source.copy(), lambda z: z + 1)""",
    "logs-what-json-cannot-hold": """\
run.log(step=torch.tensor(1), loss=float("nan"), rate=torch.ones(1, 1))
run.log(loss=float("-inf"))
run.history.append({"loss": torch.tensor(2.0), "rate": float("inf")})
run.history.append({"loss": float("nan")})
run.notes.append(torch.tensor(3))
run.total_steps += torch.tensor(4)
run.sequential_steps = torch.tensor(4.0)
return Changed(source.copy(), lambda z: z + 1)""",
    "left-in-train-mode": "return fit(source.copy(), target, run).train()",
}


def write(folder, name, body, base=None):
    indented = "\n".join(f"        {line}" for line in body.splitlines())
    path = folder / f"{name.replace('-', '_')}.py"
    path.write_text(
        f'{HEAD}@dataclass(frozen=True)\nclass Mine(Method):\n    """A method of a test."""\n\n'
        f"    name = {name!r}\n    base = {base!r}\n\n"
        f"    def adapt(self, source, target, run):\n{indented}\n"
    )
    return path


class Night:
    """The outcome of one command with many bad methods."""

    def __init__(self, mini, workspace, result):
        self.workspace, self.result = workspace, result
        self.records = {r["label"]: r for r in mini.records(workspace)}
        self.rows = {r["label"]: r for r in mini.rows(workspace)}


@pytest.fixture(scope="module")
def night(mini, finished, tmp_path_factory):
    """All of them in one command, among methods that work."""
    folder = tmp_path_factory.mktemp("failing")
    files = [write(folder, name, body) for name, (body, _, _) in FAILING.items()]
    files += [write(folder, name, body) for name, body in WORKING.items()]
    files += [write(folder, name, body, base) for name, (base, body) in DERIVED.items()]
    workspace = folder / "ws"
    arguments = [a for file in files for a in ("--plugin", file)]
    result = mini.run(
        workspace,
        "--task",
        "outline-solid",
        "--seed",
        "0",
        "--method",
        "source",
        "--method",
        "calibrated-alg",
        *arguments,
    )
    return Night(mini, workspace, result)


def test_the_command_continues_and_exits_with_status_1(night):
    count = len(FAILING) + len(DERIVED)
    assert night.result.returncode == 1
    assert f"{count} of {count + len(WORKING) + 3} runs failed" in night.result.stderr
    assert "Traceback" not in night.result.stderr
    good = ["source", "finetune", "gamma-star", "calibrated-alg", *WORKING]
    assert {n for n, r in night.rows.items() if r["status"] == "ok"} == set(good)
    assert {n for n, r in night.rows.items() if r["status"] == "failed"} == {*FAILING, *DERIVED}
    assert list((night.workspace / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", FAILING)
def test_the_record_and_the_row_say_why(night, name):
    _, kind, words = FAILING[name]
    record, row = night.records[name], night.rows[name]
    assert record["status"] == "failed"
    assert record["error"]["kind"] == kind
    for word in words:
        assert word in record["error"]["message"]
    assert len(record["error"]["message"]) <= 20_000
    assert record["predictions_sha256"] is None
    folder = night.workspace / "runs" / record["key"]
    assert not (folder / "predictions.parquet").exists()
    assert (row["error_kind"], row["overall"]) == (kind, None)
    assert row["error_message"] == record["error"]["message"].encode(errors="replace").decode()
    if kind == "exception":
        assert "in adapt" in record["error"]["traceback"]
        assert f"{name.replace('-', '_')}.py" in record["error"]["traceback"]
        assert row["error_traceback"]


def test_a_line_of_progress_says_where_a_run_failed_and_how_to_learn_more(night):
    key = night.records["raises"]["key"][:12]
    code = (night.workspace.parent / "raises.py").read_text().splitlines()
    line = 1 + code.index("        raise ValueError('no luck today')")
    assert (
        f"raises outline-solid seed 0: failed: raises.py:{line} in adapt: ValueError: no luck "
        f"today; details: htbench show {key} --workspace {night.workspace}\n"
    ) in night.result.stderr
    assert "printed" not in night.result.stderr  # what runs print is shown for a single one


@pytest.mark.parametrize("name", [*FAILING, *DERIVED])
def test_the_board_names_the_cell_and_the_reason(night, name):
    board = (night.workspace / "leaderboard.md").read_text()
    assert f"| {name} (failed) " in board
    for text in (board, night.result.stdout):
        assert f"- failed: {name} on outline-solid, seed 0: " in text


@pytest.mark.parametrize("name", DERIVED)
def test_a_method_whose_base_gives_no_weights_is_a_failed_row(night, name):
    base, _ = DERIVED[name]
    error = night.records[name]["error"]
    assert error["kind"] == "base"
    says = {
        "raises": "its base run (raises outline-solid seed 0) failed",
        "wrapped": "it starts from wrapped, whose adapted model is not an htbench.Classifier and "
        "so cannot be started from; choose another base",
    }
    assert error["message"] == says[base]


def test_a_failed_base_fails_no_method_of_another_base(night, finished):
    row = night.rows["calibrated-alg"]
    alone = finished.row(label="calibrated-alg", task="outline-solid", seed=0)
    assert row["predictions_sha256"] == alone["predictions_sha256"]


def test_a_model_left_in_train_mode_is_put_into_evaluation_mode(night, finished):
    row = night.rows["left-in-train-mode"]
    alone = finished.row(label="finetune", task="outline-solid", seed=0)
    assert row["predictions_sha256"] == alone["predictions_sha256"]


def test_a_log_leaves_out_what_json_cannot_hold(night):
    record = night.records["logs-what-json-cannot-hold"]
    assert record["log"] == [{"step": 1.0, "rate": 1.0}, {"loss": 2.0}]
    assert record["notes"] == ["tensor(3)"]
    assert (record["cost"]["total_steps"], record["cost"]["sequential_steps"]) == (4, 4)
    output = (night.workspace / "runs" / record["key"] / "output.txt").read_text()
    for value in ("nan", "-inf"):
        assert f"UserWarning: run.log leaves out loss, which is {value}\n" in output


@pytest.mark.parametrize("name", ["fakes-a-record", "leaves-many-files"])
def test_files_that_a_run_writes_change_nothing(night, name):
    """The row is that of a method with the same predictions; `night` finds no file left over."""
    row, record = night.rows[name], night.records[name]
    assert row["predictions_sha256"] == night.rows["wrapped"]["predictions_sha256"]
    assert row["overall"] == night.rows["wrapped"]["overall"]
    folder = night.workspace / "runs" / record["key"]
    assert {path.name for path in folder.iterdir()} == {
        *("code", "output.txt", "predictions.parquet", "run.json")
    } - ({"output.txt"} if name == "leaves-many-files" else set())
    if name == "fakes-a-record":
        assert (folder / "output.txt").read_text().count("refused") >= 4


def test_printed_text_is_kept_beside_the_record_and_never_reaches_the_screen(night):
    record = night.records["escapes"]
    output = night.workspace / "runs" / record["key"] / "output.txt"
    assert output.read_bytes() == b"\x1b[2J\x1b[31mprinted\n"
    for text in (night.result.stdout, night.result.stderr):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "printed" not in text


def test_a_failed_run_is_tried_again_by_the_next_call(htbench, mini, night, tmp_path):
    result = htbench(
        "run",
        *mini.options(night.workspace),
        "--dry-run",
        "--plugin",
        night.workspace.parent / "raises.py",
        "--seed",
        "0",
        "--method",
        "source",
        "--task",
        "outline-solid",
        "--json",
    )
    assert {r["method"]: r["state"] for r in json.loads(result.stdout)} == {
        "source": "done",
        "raises": "to run",
    }


def test_escapes_of_a_method_do_not_reach_a_terminal(start, mini, finished, tmp_path):
    path = write(tmp_path, "escapes", "raise ValueError('\\x1b]0;owned\\x07 and \\x1b[2Jred')")
    master, screen = pty.openpty()
    arguments = ["run", *mini.options(tmp_path / "ws"), "--plugin", path, "--task", "outline-solid"]
    variables = {"TERM": "xterm", "COLUMNS": "200"}
    with start(mini, *arguments, variables=variables, screen=screen) as process:
        os.close(screen)
        screen_bytes = b""
        while chunk := _read(master):
            screen_bytes += chunk
    os.close(master)
    assert process.returncode == 1
    assert b"red" in screen_bytes
    assert b"\x1b]0;owned" not in screen_bytes
    assert b"\x1b[2J" not in screen_bytes


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # the other end is closed
        return b""


# --- limits ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(mini, finished, command, tmp_path_factory):
    """A method that never ends and one that takes ever more memory, beside one that works."""
    folder = tmp_path_factory.mktemp("limited")
    endless = write(folder, "endless", "import time\nwhile True:\n    time.sleep(0.01)")
    hog = write(folder, "hog", "held = []\nwhile True:\n    held.append(b'x' * (4 << 20))")
    workspace = folder / "ws"
    result = command(
        mini,
        "run",
        *mini.options(workspace),
        "--plugin",
        endless,
        "--plugin",
        hog,
        "--method",
        "finetune",
        "--task",
        "outline-solid",
        "--seed",
        "0",
        "--time-limit",
        "5",
        "--memory-limit",
        "1.5",
    )
    return Night(mini, workspace, result)


def test_limits_end_a_run_and_no_other(limited):
    assert limited.result.returncode == 1, limited.result.stderr
    assert {n: r["status"] for n, r in limited.rows.items()} == {
        "finetune": "ok",
        "gamma-star": "ok",
        "endless": "failed",
        "hog": "failed",
    }


def test_a_run_over_its_time_says_so(limited):
    error = limited.records["endless"]["error"]
    assert error["kind"] == "limit"
    assert "the time limit of 5 s; to raise it, use --time-limit SECONDS" in error["message"]
    assert 5 <= limited.records["endless"]["cost"]["wall_seconds"] < 30
    assert (
        f"- failed: endless on outline-solid, seed 0: {error['message']}" in limited.result.stdout
    )


def test_a_run_over_its_memory_says_so(limited):
    error = limited.records["hog"]["error"]
    assert error["kind"] == "limit"
    assert "MiB of memory; the limit is 1536 MiB" in error["message"]
    assert limited.records["hog"]["cost"]["peak_memory"] > 1.5 * 2**30


def test_limits_of_a_run_are_not_those_of_its_source_model(start, mini, tmp_path):
    patient = replace(mini, data=tmp_path / "data")
    with start(patient, "list", "methods") as driver:  # the limit would end this, too
        driver.communicate(timeout=120)
    with start(
        patient,
        "run",
        *mini.options(tmp_path / "ws"),
        "--method",
        "finetune",
        "--task",
        "outline-solid",
        "--seed",
        "0",
        "--time-limit",
        "0.1",
    ) as driver:
        _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 1, errors
    (record,) = mini.records(tmp_path / "ws")
    assert "exceeded the time limit of 0.1 s" in record["error"]["message"]
