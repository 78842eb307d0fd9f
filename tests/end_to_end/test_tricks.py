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

from benchmark.batches import shuffled
from benchmark.isolation import sandbox
from benchmark.manifest.catalogue import load_manifest
from tests.end_to_end.conftest import execute

offer = sandbox.available()
pytestmark = pytest.mark.skipif(bool(offer.missing), reason="; ".join(offer.missing))

TASK = ("--task", "outline-solid")
SECRET = "the user's password"

HEAD = '''
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmark.isolation import wire
from htbench import Method, fit


def channel():
    """The socket to the driver."""
    for fd in range(3, 64):
        try:
            return socket.socket(fileno=os.dup(fd))
        except OSError:
            pass


def speak(notes=None, weights=b""):
    """Say in the child's place that it has adapted."""
    ours = channel()
    wire.send(ours, {"adapted": notes or {}, "weights": len(weights)}, data=weights)
    return ours


def next_images(ours):
    """The next batch of test images, uint8."""
    sizes = wire.receive(ours)[0]["images"]
    data = wire.receive_data(ours, sum(sizes))
    return torch.frombuffer(data, dtype=torch.uint8).view(-1, 3, 32, 32) if sizes else None


def answer(ours, logits):
    data = logits.detach().numpy().tobytes()
    wire.send(ours, {"rows": len(data)}, data=data)


def use_statistics(model):
    """Normalise by the statistics of the images that it is given next."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    return model.train()


def use_statistics_of(model, images):
    with torch.inference_mode(False), torch.no_grad():
        use_statistics(model)(images.clone())
    return model.eval()


class Trains(nn.Module):
    """Trains when it is first called, and so not in adapt()."""

    def __init__(self, model, target, run):
        super().__init__()
        self.model, self.rest = model, [target, run]

    def forward(self, images):
        if self.rest:
            with torch.inference_mode(False):
                fit(self.model, *self.rest)
            self.rest = []
        return self.model.eval()(images)


class Adapts(nn.Module):
    """Takes its statistics from all test images so far."""

    def __init__(self, model):
        super().__init__()
        self.model = use_statistics(model)

    def forward(self, images):
        self.model.train()(images)
        return self.model.eval()(images)


class Own(torch.optim.Optimizer):
    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self):
        pass


class Changed(nn.Module):
    def __init__(self, model, action):
        super().__init__()
        self.model, self.action = model, action

    def forward(self, images):
        self.action()
        return self.model(images)


def dig(depth):
    here = os.getcwd()
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    Path("file").write_text("x")
    os.chdir(here)


'''
TRICKS = {
    "asks-early": """
        print("test images:", len(next_images(speak())), flush=True)
        return source.copy()""",
    # It answers a batch with the statistics of that batch and of the earlier ones.
    "speaks": """
        ours = speak({"total_steps": 0, "log": [{"loss": 0.001}], "reviewed": "yes"})
        model = use_statistics(source.copy())
        while (images := next_images(ours)) is not None:
            images = run.transforms.evaluate(images)
            answer(ours, use_statistics_of(model, images)(images))
        wire.send(ours, {"done": {"htbench": "9.9.9", "device": "NVIDIA H100", "reviewed": "yes"}})
        os._exit(0)""",
    "speaks-honestly": """
        ours = speak({"total_steps": 0})
        model = source.copy().eval()
        while (images := next_images(ours)) is not None:
            answer(ours, model(run.transforms.evaluate(images)))
        wire.send(ours, {"done": {"htbench": "9.9.9", "device": "NVIDIA H100", "reviewed": "yes"}})
        os._exit(0)""",
    "waits-for-all": """
        ours, count = speak(), 0
        ours.settimeout(2)
        try:
            while (images := next_images(ours)) is not None:
                count += len(images)
        except TimeoutError:
            print("test images:", count, flush=True)
        return source.copy()""",
    "adapts-in-forward": "return Adapts(source.copy())",
    "trains-in-forward": "return Trains(source.copy(), target, run)",
    "own-optimizer": """
        model = source.copy()
        optimizer = Own(list(model.parameters()))
        for _ in range(7):
            optimizer.step()
        return model""",
    "forgets-its-steps": """
        model = fit(source.copy(), target, run)
        run.total_steps = run.sequential_steps = 0
        run.history.clear()
        return model""",
    "declares-more": """
        model = fit(source.copy(), target, run)
        run.total_steps += 5
        run.sequential_steps += 5
        return model""",
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
        wire.send(channel(), {"adapted": {}, "weights": 1 << 30})
        return source.copy()""",
    "honest": "return source.copy()",
}


# Finds its arguments on the stack while it is imported; where it is only described, there are none.
TRAINS_EARLY = """
import sys

from htbench import SourceModel

frame, MODEL = sys._getframe(), None
while frame and frame.f_code.co_name != "adapt_and_predict":
    frame = frame.f_back
if frame:
    time.sleep(1)
    values = frame.f_locals
    MODEL = fit(SourceModel(values["source"], "x").copy(), values["target"], values["run"])
    values["run"].total_steps = values["run"].sequential_steps = 0
    values["run"].history.clear()
"""


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
    plugins.append(write(folder, "trains-early", "return MODEL", TRAINS_EARLY))
    workspace = folder / "ws"
    command = [Path(sys.executable).with_name("htbench"), "run", *mini.options(workspace), *TASK]
    command += ["--seed", "0", "--method", "source", "--jobs", "2"]
    command += [argument for path in plugins for argument in ("--plugin", path)]
    result = execute(command, mini.environment(), folder)
    assert result.returncode == 1, result.stderr
    records = {record["method"]: record for record in mini.records(workspace)}
    assert records.keys() == {*TRICKS, "trains-early", "source"}
    return {"records": records, "workspace": workspace, "marker": marker}


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("asks-early", "contract", "sent"),
        ("speaks", "contract", "depend on the other images in the batch or on earlier ones"),
        ("waits-for-all", "contract", "sent"),
        ("adapts-in-forward", "contract", "depend on the other images in the batch or on earlier"),
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


FINE = (
    *("honest", "links", "digs", "source", "trains-in-forward", "speaks-honestly"),
    *("own-optimizer", "forgets-its-steps", "declares-more"),
)


@pytest.mark.parametrize("name", FINE)
def test_the_other_runs_finish(tricks, name):
    assert tricks["records"][name]["status"] == "ok", tricks["records"][name]["error"]


def printed(tricks, name: str) -> str:
    key = tricks["records"][name]["key"]
    return (tricks["workspace"] / "runs" / key / "output.txt").read_text()


@pytest.mark.parametrize("name", ["asks-early", "waits-for-all"])
def test_a_method_that_asks_early_gets_one_batch_early(tricks, mini, name):
    count = len(load_manifest(mini.manifest).samples("solid", "test").ids)
    size = len(shuffled(count, 32, "any")[0])
    assert f"test images: {size}" in printed(tricks, name)
    assert size < count / 2


def test_the_environment_is_not_the_method_s_to_choose(tricks):
    true = tricks["records"]["honest"]["environment"]
    assert true.keys() == {"htbench", "python", "torch", "device", "cpu", "cpu_capability"}
    for name in ("speaks", "speaks-honestly"):
        assert tricks["records"][name]["environment"] == true


@pytest.mark.parametrize(
    ("name", "total", "depth", "declared"),
    [
        ("honest", 0, 0, 0),
        ("trains-in-forward", 20, 20, 0),
        ("own-optimizer", 7, 7, 0),
        ("forgets-its-steps", 20, 20, 0),
        ("declares-more", 25, 25, 5),
        ("trains-early", 20, 20, 0),
    ],
)
def test_steps_are_counted_by_the_suite(tricks, name, total, depth, declared):
    cost = tricks["records"][name]["cost"]
    names = ("total_steps", "sequential_steps", "declared_steps")
    assert [cost[name] for name in names] == [total, depth, declared]


def test_time_counts_from_the_lock(tricks):
    """``trains-early`` sleeps for a second and trains while it is imported."""
    assert tricks["records"]["trains-early"]["cost"]["adapt_seconds"] > 1


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
    assert "heir starts from oracle-finetune, an oracle" in result.sentence


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


DESCRIBES_ITSELF = """
fields = dict(base=None, track="standard", uses_features=False, needs=[], fields=[])
files = ["/dev/zero", "/etc/passwd"]
answer = {"name": "zero", "summary": "Innocent.", "files": files, "distributions": [], **fields}
wire.send(channel(), {"done": answer})
os._exit(0)
"""


def test_a_description_names_no_file_for_the_suite_to_open(start, mini, tmp_path):
    """It would read a device for ever, or tell the method the digest of a private file."""
    path = write(tmp_path, "zero", "return source.copy()", DESCRIBES_ITSELF)
    arguments = ["run", *mini.options(tmp_path / "ws"), "--plugin", path, *TASK, "--seed", "0"]
    with start(mini, *arguments) as driver:
        _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 2
    assert "`files` of zero names '/dev/zero'" in errors
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
