"""Tricks that a method can play on its own run cost that run, or give no label.

For example: it asks for test images early, sends a made-up log, or lies where it must not look.
"""

from __future__ import annotations

import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.isolation import sandbox
from benchmark.manifest.catalogue import load_manifest
from tests.end_to_end.conftest import execute

offer = sandbox.available()
pytestmark = pytest.mark.skipif(bool(offer.missing), reason="; ".join(offer.missing))

TASK = ("--task", "outline-solid")
SECRET = "the user's password"

HEAD = """
import fcntl
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from benchmark.isolation import wire
from htbench import Method


def channel():
    \"\"\"The socket to the driver.\"\"\"
    for fd in range(3, 64):
        try:
            return socket.socket(fileno=os.dup(fd))
        except OSError:
            pass


class Changed(nn.Module):
    def __init__(self, model, action):
        super().__init__()
        self.model, self.action = model, action

    def forward(self, images):
        self.action()
        return self.model(images)


def weights():
    \"\"\"The last descriptor that can be written to.\"\"\"
    return max(fd for fd in range(64) if is_writable(fd))


def is_writable(fd):
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    except OSError:
        return False


def dig(depth):
    here = os.getcwd()
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    Path("file").write_text("x")
    os.chdir(here)


"""
TRICKS = {
    "asks-early": """
        wire.send(channel(), {"adapted": {}})
        message, fds = wire.receive(channel())
        images = os.pread(fds[0], 1 << 30, 0)
        print("test images:", len(images) // 3072, flush=True)
        return source.copy()""",
    "huge-numbers": """
        wire.send(channel(), {"progress": [10**400, 1]})
        return source.copy()""",
    "says-no-words": """
        wire.send(channel(), {"failed": {"kind": ["x"], "message": "\\ud800\\x1b[2J"}})
        time.sleep(60)""",
    # Deeper than Python recurses, but not than a path may be long, which is another failure.
    "digs": "dig(1500)\nreturn source.copy()",
    "digs-and-waits": "dig(2048)\ntime.sleep(20)\nreturn source.copy()",
    "links": """
        for name in ("linked.py", "linked_code.py"):
            try:
                print(name, "read", len(Path(__file__).with_name(name).read_bytes()))
            except OSError as error:
                print(name, "refused", error.errno)
        return source.copy()""",
    "finds-late": "__import__('be' + 'side')\nreturn source.copy()",
    "fat-weights": """
        return Changed(source.copy(), lambda: os.ftruncate(weights(), 1 << 30))""",
    "honest": "return source.copy()",
}


def write(folder: Path, name: str, body: str, lines: str = "") -> Path:
    path = folder / f"{name.replace('-', '_')}.py"
    body = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
    path.write_text(
        f"{HEAD}{lines}\n@dataclass(frozen=True)\nclass Mine(Method):\n"
        f'    """A method of a test."""\n\n    name = {name!r}\n\n'
        f"    def adapt(self, source, target, run):\n{body}\n"
    )
    return path


@pytest.fixture(scope="module")
def tricks(mini, finished, tmp_path_factory) -> dict:
    """One command, called in a folder of files that are named like what the suite imports."""
    folder = tmp_path_factory.mktemp("tricks")
    marker = folder / "shadowed"
    shadows = (
        "json",
        "safetensors",
        "torch",
        "numpy",
        "benchmark",
        "baselines",
        "leaderboard",
        "data_manifests",
        "click",
        "pyarrow",
        "sitecustomize",
    )
    for name in shadows:
        text = f"open({str(marker)!r}, 'w').close()\nraise SystemExit('shadowed')\n"
        (folder / f"{name}.py").write_text(text)
    (folder / "beside.py").write_text("x = 1\n")
    (folder / "linked.py").symlink_to(mini.manifest / "images.parquet")
    (folder / "linked_code.py").symlink_to(folder.parent / "elsewhere.txt")
    (folder.parent / "elsewhere.txt").write_text(SECRET)
    plugins = [write(folder, name, body) for name, body in TRICKS.items()]
    workspace = folder / "ws"
    command = [Path(sys.executable).with_name("htbench"), "run", *mini.options(workspace), *TASK]
    command += ["--seed", "0", "--method", "source", "--jobs", "2"]
    command += [argument for path in plugins for argument in ("--plugin", path)]
    result = execute(command, mini.environment(), folder)
    assert result.returncode == 1, result.stderr
    records = {record["method"]: record for record in mini.records(workspace)}
    assert records.keys() == {*TRICKS, "source"}
    return {"records": records, "workspace": workspace, "marker": marker}


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("asks-early", "contract", "sent"),
        ("huge-numbers", "contract", "sent"),
        ("says-no-words", "", "\N{REPLACEMENT CHARACTER}"),
        ("digs-and-waits", "limit", "cannot be read"),
        ("finds-late", "exception", "write `import beside` in the"),
        ("fat-weights", "contract", "1073741824 bytes of weights"),
    ],
)
def test_a_trick_costs_the_run_and_no_other(tricks, name, kind, words):
    record = tricks["records"][name]
    assert record["status"] == "failed"
    assert kind in record["error"]["kind"]
    assert words in record["error"]["message"]


@pytest.mark.parametrize("name", ["honest", "links", "digs", "source"])
def test_the_other_runs_finish(tricks, name):
    assert tricks["records"][name]["status"] == "ok", tricks["records"][name]["error"]


def printed(tricks, name: str) -> str:
    key = tricks["records"][name]["key"]
    return (tricks["workspace"] / "runs" / key / "output.txt").read_text()


def test_a_method_that_asks_early_gets_images_early_and_no_label(tricks, mini):
    """It could as well look at them in ``forward``: its process predicts."""
    count = len(load_manifest(mini.manifest).samples("solid", "test").ids)
    assert f"test images: {count}" in printed(tricks, "asks-early")


def test_a_link_beside_a_method_opens_nothing(tricks):
    assert printed(tricks, "links").split("\n")[:2] == [
        "linked.py refused 13",
        "linked_code.py refused 13",
    ]


def test_nothing_is_shadowed_by_a_file_beside_a_method(tricks):
    assert not tricks["marker"].exists()


def test_no_temporary_files_are_left(tricks):
    assert list((tricks["workspace"] / "tmp").iterdir()) == []


# --- methods that never start ---------------------------------------------------------------------


def test_no_method_starts_from_one_that_has_seen_the_missing_classes(htbench, mini, tmp_path):
    path = write(tmp_path, "heir", "return run.base")
    path.write_text(path.read_text().replace("name = ", 'base = "oracle-finetune"\n    name = '))
    result = htbench("run", *mini.options(tmp_path / "ws"), "--plugin", path, "--dry-run")
    assert "heir starts from oracle-finetune, an upper bound" in result.sentence


@pytest.mark.parametrize("place", ["workspace", "data", "manifest"])
def test_a_method_may_not_lie_where_methods_must_not_look(start, mini, tmp_path, place):
    alone = replace(mini, data=tmp_path / "data")
    workspace = tmp_path / "ws"
    folder = {
        "workspace": workspace,
        "data": alone.data / "sources",
        "manifest": alone.manifest,
    }[place]
    folder.mkdir(parents=True, exist_ok=True)
    path = write(folder, "inside", "return source.copy()")
    try:
        with start(
            alone, "run", *alone.options(workspace), "--plugin", path, *TASK, "--seed", "0"
        ) as driver:
            _, errors = driver.communicate(timeout=120)
    finally:
        path.unlink()
    assert driver.returncode == 2
    assert "which runs must not read" in errors
    assert "Traceback" not in errors


# --- a method's file that changes while it is used ----------------------------------------------


def test_editing_a_method_during_a_run_gives_no_wrong_result(start, mini, finished, tmp_path):
    path = write(tmp_path, "edited", "time.sleep(1)\nreturn source.copy()")
    workspace = tmp_path / "ws"
    arguments = ["run", *mini.options(workspace), "--plugin", path, *TASK, "--jobs", "1"]
    with start(mini, *arguments) as driver:
        while "\n" not in (first := driver.errors()):  # a line when the first run has ended
            assert driver.poll() is None
            time.sleep(0.01)
        path.write_text(path.read_text() + "# one more line\n")
        driver.communicate(timeout=120)
    assert "seed 0" in first
    assert driver.returncode == 1
    by_seed = {r["seed"]: r for r in mini.records(workspace)}
    assert by_seed[0]["status"] == "ok"
    assert by_seed[1]["status"] == "failed"
    message = by_seed[1]["error"]["message"]
    assert "edited.py is not among the files recorded in the run's key" in message
    assert "edited after the command started" in message
    with start(mini, *arguments) as again:
        again.communicate(timeout=120)
    assert again.returncode == 0, again.errors()
    keys = {r["key"] for r in mini.records(workspace)}
    assert len(keys) == 4, "the new code has its own keys"
