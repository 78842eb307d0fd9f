"""No method reaches a label: a hunter that is told where all of them are comes back with nothing.

Run by the real command, from the checkout and from an installed wheel. What a method can do to its
own run (test images early, a made-up log) is tested too: it costs the run, or gives no label.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmark.folders import packaged_manifests
from benchmark.images.store import store as images_store
from benchmark.isolation import sandbox
from benchmark.manifest.read import read_manifest
from tests.end_to_end.conftest import Mini

offer = sandbox.available()
pytestmark = pytest.mark.skipif(bool(offer.missing), reason="; ".join(offer.missing))

CHECKOUT = Path(__file__).resolve().parents[2]
HUNTER = Path(__file__).with_name("hunter.py")
TASK = ("--task", "outline-solid")
SECRET = "the user's password"
IMAGE = 3 * 32 * 32


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


# --- what there is to be found -----------------------------------------------------------------


class Truth:
    """The labels of the slice, which only a process that runs no method may know."""

    def __init__(self, mini) -> None:
        self.manifest = read_manifest(mini.manifest)
        task = self.manifest.task("outline-solid")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HTBENCH_DATA", str(mini.data))
            self.folder = images_store.store_folder(self.manifest, task.target)
        self.index = json.loads((self.folder / "index.json").read_text())
        test = self.manifest.samples(task.target, "test")
        self.labels = dict(zip(test.ids, test.labels.tolist(), strict=True))
        self.ids = [i for ids in self.index["train"].values() for i in ids] + self.index["test"]
        self.missing = np.flatnonzero(~self.manifest.seen_mask(task)).tolist()

    def in_the_order_of(self, ids) -> list[int]:
        return [self.labels[i] for i in ids]

    def images(self, name: str) -> list[bytes]:
        data = (self.folder / name).read_bytes()
        return [data[i : i + IMAGE] for i in range(0, len(data), IMAGE)]

    def known(self) -> dict:
        """What the hunter recognises: digests, from which nothing can be computed."""
        orders = (self.index["test"], sorted(self.labels), list(self.labels))
        missing = [image for c in self.missing for image in self.images(f"train-{c}.u8")]
        return {
            "ids": [digest(i.encode()) for i in self.ids],
            "labels": [digest(json.dumps(self.in_the_order_of(o)).encode()) for o in orders],
            "missing": [digest(image) for image in missing],
            "test": [digest(image) for image in self.images("test.u8")],
            "count": len(self.labels),
        }


@contextlib.contextmanager
def listening(folder: Path) -> Iterator[tuple[dict, list[str]]]:
    """Sockets that wait to be connected to; the list fills with those that were."""
    folder.mkdir()
    reached: list[str] = []
    abstract = f"htbench-test-{os.getpid()}"
    servers = {
        "tcp": socket.create_server(("127.0.0.1", 0)),
        "unix": socket.socket(socket.AF_UNIX),
        "abstract": socket.socket(socket.AF_UNIX),
    }
    servers["unix"].bind(str(folder / "s"))
    servers["abstract"].bind("\0" + abstract)

    def accept(name: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                servers[name].accept()[0].close()
                reached.append(name)

    threads = [threading.Thread(target=accept, args=[name]) for name in servers]
    for server in servers.values():
        server.listen()
    for thread in threads:
        thread.start()
    port = servers["tcp"].getsockname()[1]
    try:
        yield {"port": port, "unix": str(folder / "s"), "abstract": abstract}, reached
    finally:
        for server in servers.values():
            server.shutdown(socket.SHUT_RDWR)
            server.close()
        for thread in threads:
            thread.join()


def places(mini, truth: Truth, workspace: Path, home: Path) -> dict:
    """Every file and folder that a method must not reach."""
    run = next(workspace.glob("runs/*"))
    package = packaged_manifests() / "icons" / "1.0"
    data, store = mini.data, truth.folder
    (home / "secret.txt").write_text(SECRET)
    return {
        "files": {
            "images of the manifest": mini.manifest / "images.parquet",
            "manifest": mini.manifest / "manifest.toml",
            "shipped images": package / "images.parquet",
            "shipped manifest": package / "manifest.toml",
            "test images": store / "test.u8",
            "index of the store": store / "index.json",
            "missing class": store / f"train-{truth.missing[0]}.u8",
            "seen class": store / "train-0.u8",
            "source model": next(data.glob("sources/*/model.safetensors")),
            "predictions": run / "predictions.parquet",
            "record": run / "run.json",
            "results": workspace / "results.parquet",
            "journal": workspace / "journal.jsonl",
            "a private file": home / "secret.txt",
        },
        "readable": {"code that computes": CHECKOUT / "benchmark" / "training.py"},
        "folders": {
            "workspace": workspace,
            "runs": workspace / "runs",
            "in hand": workspace / "tmp",
            "data": data,
            "store": store,
            "manifest folder": mini.manifest,
            "shipped manifests": packaged_manifests(),
            "home": home,
        },
    }


def armed(folder: Path, known: dict) -> Path:
    """The hunter's file, told what it is to look for."""
    text = HUNTER.read_text()
    told = json.dumps(json.dumps(known, default=os.fspath))
    path = folder / "hunter.py"
    path.write_text(text.replace('json.loads("{}")', f"json.loads({told})"))
    return path


def contents(*folders: Path) -> dict[str, tuple[int, str]]:
    """Every file in some folders: when it was changed, and its digest."""
    return {
        str(path): (path.stat().st_mtime_ns, digest(path.read_bytes()))
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def alone(mini, finished, tmp_path_factory) -> Mini:
    """The slice with a data folder in which no other test changes anything meanwhile."""
    data = tmp_path_factory.mktemp("alone") / "data"
    return replace(mini, data=shutil.copytree(mini.data, data))


@pytest.fixture(scope="module")
def truth(alone) -> Truth:
    return Truth(alone)


# --- the hunt -----------------------------------------------------------------------------------


class Hunt:
    """One command with the hunter, and what became of everything around it."""

    def __init__(self, mini, finished, truth, folder: Path, python: Path) -> None:
        self.workspace, home = finished.copy(folder / "workspace"), folder / "home"
        home.mkdir()
        # The hunter's own folder may be read as Python files only; it lies in the user's home.
        environment = {**mini.environment(), "HTBENCH_TEST_PASSWORD": SECRET}
        if python != Path(sys.executable):
            environment.pop("PYTHONPATH", None)  # the wheel's code, not the checkout's
        around = [mini.manifest, mini.data, packaged_manifests() / "icons", home]
        with listening(folder / "sockets") as (sockets, self.reached), self.bystander() as pid:
            known = {
                **truth.known(),
                **places(mini, truth, self.workspace, home),
                **sockets,
                "processes": {"bystander": pid, "test": os.getpid()},
                "secret": SECRET,
            }
            plugin = armed(home, known)
            self.runs_before = contents(self.workspace / "runs")
            self.before = contents(*around)
            self.said = subprocess.run(
                [python, "-P", "-m", "htbench", "run", "--suite", mini.suite,
                 "--workspace", self.workspace, "--plugin", plugin, *TASK,
                 "--isolation", "required", "--jobs", "2"],
                env=environment,
                capture_output=True, text=True, check=False, cwd=home, timeout=300,
            )  # fmt: skip
        self.after = contents(*around)
        self.records = [r for r in mini.records(self.workspace) if r["method"] == "hunter"]
        self.rows = [r for r in mini.rows(self.workspace) if r["method"] == "hunter"]
        self.data = mini.data

    @staticmethod
    @contextlib.contextmanager
    def bystander() -> Iterator[int]:
        """A process of the same user."""
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            yield process.pid
            process.kill()

    def lines(self) -> list[str]:
        """What the hunter printed in its runs."""
        outputs = [self.workspace / "runs" / r["key"] / "output.txt" for r in self.records]
        return [line for path in outputs for line in path.read_text().splitlines()]


@pytest.fixture(scope="module", params=["checkout", "wheel"])
def hunt(request, alone, finished, truth, tmp_path_factory) -> Hunt:
    wheel = request.param == "wheel"
    python = request.getfixturevalue("wheel_python") if wheel else Path(sys.executable)
    return Hunt(alone, finished, truth, tmp_path_factory.mktemp(request.param), python)


def findings(lines: list[str]) -> list[str]:
    """``stage|kind name: FOUND ...`` of every attempt that came to something."""
    split = [line.split("|", 2) for line in lines if line.count("|") >= 2]
    return [
        f"{stage}|{kind} {part}"
        for stage, kind, parts in split
        for part in parts.split("; ")
        if "FOUND" in part
    ]


def test_the_hunter_is_run_and_ends_well(hunt):
    assert hunt.said.returncode == 0, hunt.said.stderr
    assert [(r["status"], r["seed"]) for r in sorted(hunt.records, key=lambda r: r["seed"])] == [
        ("ok", 0),
        ("ok", 1),
    ]
    for stage in ("import", "adapt", "forward"):
        assert hunt.lines().count(f"{stage}|hunt|ended") == 2


def test_it_finds_nothing_when_it_is_imported_or_adapts(hunt):
    assert not [f for f in findings(hunt.lines()) if not f.startswith("forward|")]
    assert {r["log"][0]["found"] for r in hunt.records} == {0.0}
    assert min(r["log"][0]["attempts"] for r in hunt.records) > 500


def test_its_model_sees_the_test_images_and_nothing_else(hunt):
    found = [f for f in findings(hunt.lines()) if f.startswith("forward|")]
    pattern = r"forward\|descriptor (\d+) \(file\) (pread|map): FOUND "
    matched = [re.match(pattern, f) for f in found]
    assert all(matched), found
    assert len({m[1] for m in matched if m}) == 1, "one file: the test images"


def test_it_finds_nothing_when_it_is_described(hunt):
    answers = [json.loads(p.read_text()) for p in hunt.data.glob("methods/*.json")]
    said = [a["answer"]["summary"] for a in answers if a["answer"]["name"] == "hunter"]
    assert said
    assert all(re.fullmatch(r"Attempts: \d{3}, found: ", text) for text in said), said


def test_a_process_holds_four_descriptors_and_none_can_be_opened_again(hunt):
    held = re.compile(r"(import|adapt)\|descriptor (\d+) \((\w+)\)\|(.*)")
    found = [m.groups() for m in map(held.match, hunt.lines()) if m]
    for stage in ("import", "adapt"):
        kinds = {int(fd): kind for at, fd, kind, _ in found if at == stage}
        assert len([fd for at, fd, _, _ in found if at == stage]) == 2 * len(kinds)
        assert sorted(kinds.values()) == ["device", "file", "file", "socket"]
        assert {fd: kinds[fd] for fd in (0, 1, 2)} == {0: "device", 1: "file", 2: "file"}
    tries = [tried for _, _, kind, tried in found if kind == "file"]
    assert set(tries) == {"pread: EBADF; map: EACCES; open again: EACCES"}
    tries = [tried for _, _, kind, tried in found if kind == "socket"]
    assert set(tries) == {"receive: EAGAIN; open again: ENXIO"}


def test_nobody_was_reached_and_nothing_was_changed(hunt):
    assert hunt.reached == []
    changed = {
        p for p in hunt.before.keys() | hunt.after if hunt.before.get(p) != hunt.after.get(p)
    }
    new = {str(p) for p in hunt.data.glob("methods/*.json")}
    assert changed <= new, "its own description is all that is kept of it"
    runs = contents(hunt.workspace / "runs")
    assert {p: runs[p] for p in hunt.runs_before} == hunt.runs_before, (
        "other runs stand as they did"
    )
    assert list((hunt.workspace / "tmp").iterdir()) == []


def test_the_rows_say_what_was_in_force(hunt):
    assert len(hunt.rows) == 2
    for record in hunt.records:
        assert set(sandbox.FULL_ISOLATION) <= set(record["isolation"])
        assert sandbox.landlock_fact(offer.landlock) in record["isolation"]
    for row in hunt.rows:
        assert set(sandbox.FULL_ISOLATION) <= set(json.loads(row["isolation"]))


def test_without_a_lock_the_same_hunt_succeeds(alone, finished, truth, tmp_path):
    """Otherwise the tests above would show only that the hunter is a bad one."""
    workspace, home = finished.copy(tmp_path / "workspace"), tmp_path / "home"
    home.mkdir()
    copy = shutil.copytree(alone.data, tmp_path / "data")
    with listening(tmp_path / "sockets") as (sockets, reached), Hunt.bystander() as pid:
        here = places(alone, truth, workspace, home)
        here["files"] = {
            name: tmp_path / "data" / path.relative_to(alone.data)
            if path.is_relative_to(alone.data)
            else path
            for name, path in here["files"].items()
            if not name.startswith("shipped") and "manifest" not in name
        }
        known = {**truth.known(), **here, **sockets, "processes": {"bystander": pid}}
        known |= {"readable": {}, "secret": SECRET}
        known["folders"] = {"workspace": workspace, "data": copy, "home": home}
        path = armed(home, known | {"control": True})
        code = f"""
            import json, sys
            ids = json.load(open({str(truth.folder / "index.json")!r}))["test"]
            labels = {truth.in_the_order_of(truth.index["test"])}
            sys.path.insert(0, {str(home)!r})
            source = open({str(path)!r}).read().replace('hunt("import")', 'hunt("control")')
            exec(compile(source, "hunter", "exec"), {{"__name__": "hunter"}})
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "HTBENCH_TEST_PASSWORD": SECRET},
            capture_output=True, text=True, check=False, cwd=home, timeout=300,
        )  # fmt: skip
    found = [line.partition(": FOUND")[0] for line in findings(done.stdout.splitlines())]
    expected = [
        *(f"{file} {way}" for file in here["files"]
          for way in ("read", "by a path descriptor", "by a symbolic link", "append")),
        *(f"{folder} {way}" for folder in known["folders"] for way in ("list", "create")),
        *(f"process bystander {way}" for way in ("environ", "maps", "fd", "signal", "memory")),
        "processes list", "processes near", "processes fork", "processes subprocess",
        "network tcp", "network unix", "network abstract", "network pair",
        "environment secrets", "import leaderboard", "import packaged files", "import manifest",
        "memory ids", "memory labels", "memory heap",
    ]  # fmt: skip
    assert [e for e in expected if f"control|{e}" not in found] == [], done.stdout + done.stderr
    assert set(reached) >= {"tcp", "unix", "abstract"}


# --- the test images ----------------------------------------------------------------------------


def test_the_order_of_the_test_images_tells_nothing_of_their_labels(truth):
    images = truth.images("test.u8")
    hashes = [hashlib.sha256(image).hexdigest() for image in images]
    assert hashes == sorted(hashes)
    labels = truth.in_the_order_of(truth.index["test"])

    def repeats(order: list[int]) -> int:
        """How often an image has the label of the one before it."""
        return sum(a == b for a, b in pairwise(order))

    rng = np.random.default_rng(0)
    by_chance = [repeats(rng.permutation(labels).tolist()) for _ in range(1000)]
    assert min(by_chance) <= repeats(labels) <= max(by_chance)
    assert repeats(sorted(labels)) > 2 * max(by_chance), "the manifest's order would"
    ranks = abs(np.corrcoef(np.arange(len(labels)), labels)[0, 1])
    assert ranks < 0.25


# --- tricks -------------------------------------------------------------------------------------

HEAD = """
import fcntl
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from htbench import Method
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
    # Deeper than Python recurses, but not than a path may be long, which is a failure of its own.
    "digs": "dig(1500)\nreturn source.copy()",
    "digs-and-waits": "dig(2048)\ntime.sleep(20)\nreturn source.copy()",
    "links": """
        for name in ("linked.py", "linked_code.py"):
            try:
                print(name, "read", len(Path(__file__).with_name(name).read_bytes()))
            except OSError as error:
                print(name, "refused", error.errno)
        return source.copy()""",
    "imports-late": "import beside\nreturn source.copy()",
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
    shadows = ("json", "safetensors", "torch", "numpy", "benchmark", "baselines", "leaderboard",
               "data_manifests", "click", "pyarrow", "sitecustomize")  # fmt: skip
    for name in shadows:
        text = f"open({str(marker)!r}, 'w').close()\nraise SystemExit('shadowed')\n"
        (folder / f"{name}.py").write_text(text)
    (folder / "beside.py").write_text("x = 1\n")
    (folder / "linked.py").symlink_to(mini.manifest / "images.parquet")
    (folder / "linked_code.py").symlink_to(folder.parent / "elsewhere.txt")
    (folder.parent / "elsewhere.txt").write_text(SECRET)
    plugins = [write(folder, name, body) for name, body in TRICKS.items()]
    workspace = folder / "ws"
    said = subprocess.run(
        [Path(sys.executable).with_name("htbench"), "run", "--suite", mini.suite,
         "--workspace", workspace, *TASK, "--seed", "0", "--method", "source", "--jobs", "2",
         *(argument for path in plugins for argument in ("--plugin", path))],
        env=mini.environment(), capture_output=True, text=True, check=False, cwd=folder,
        timeout=300,
    )  # fmt: skip
    assert said.returncode == 1, said.stderr
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
        ("imports-late", "contract", "beside.py is not part of the run's key"),
        ("fat-weights", "contract", "1073741824 bytes of weights"),
    ],
)
def test_a_trick_costs_the_run_and_no_other(tricks, name, kind, words):
    record = tricks["records"][name]
    assert record["status"] == "failed"
    assert kind in record["error"]["kind"]
    assert words in record["error"]["message"]


@pytest.mark.parametrize("name", ["honest", "links", "digs", "source"])
def test_the_others_are_done(tricks, name):
    assert tricks["records"][name]["status"] == "ok", tricks["records"][name]["error"]


def printed(tricks, name: str) -> str:
    key = tricks["records"][name]["key"]
    return (tricks["workspace"] / "runs" / key / "output.txt").read_text()


def test_who_asks_early_gets_images_early_and_no_label(tricks, truth):
    """It could as well look at them in ``forward``: its process predicts."""
    assert f"test images: {len(truth.labels)}" in printed(tricks, "asks-early")


def test_a_link_beside_a_method_opens_nothing(tricks):
    assert printed(tricks, "links").split("\n")[:2] == [
        "linked.py refused 13",
        "linked_code.py refused 13",
    ]


def test_nothing_is_shadowed_by_a_file_beside_a_method(tricks):
    assert not tricks["marker"].exists()


def test_nothing_is_left_in_hand(tricks):
    assert list((tricks["workspace"] / "tmp").iterdir()) == []


# --- methods that are not even begun --------------------------------------------------------------


def test_no_method_starts_from_one_that_has_seen_the_missing_classes(htbench, mini, tmp_path):
    path = write(tmp_path, "heir", "return run.base")
    path.write_text(path.read_text().replace("name = ", 'base = "oracle-finetune"\n    name = '))
    said = htbench("run", "--suite", mini.suite, "--workspace", tmp_path / "ws",
                   "--plugin", path, "--dry-run")  # fmt: skip
    assert "heir starts from oracle-finetune, an upper bound" in said.sentence


@pytest.mark.parametrize("place", ["workspace", "data", "manifest"])
def test_a_method_may_not_lie_where_methods_must_not_look(start, alone, tmp_path, place):
    workspace = tmp_path / "ws"
    folder = {
        "workspace": workspace,
        "data": alone.data / "sources",
        "manifest": alone.manifest,
    }[place]
    folder.mkdir(exist_ok=True)
    path = write(folder, "inside", "return source.copy()")
    try:
        with start(alone, "run", "--suite", alone.suite, "--workspace", workspace,
                   "--plugin", path, *TASK, "--seed", "0") as driver:  # fmt: skip
            _, said = driver.communicate(timeout=120)
    finally:
        path.unlink()
    assert driver.returncode == 2
    assert "inside.py': it is in" in said
    assert "Traceback" not in said


# --- a method's file that changes while it is used ----------------------------------------------


def test_a_file_that_is_edited_meanwhile_gives_no_wrong_run(start, mini, finished, tmp_path):
    path = write(tmp_path, "edited", "time.sleep(1)\nreturn source.copy()")
    workspace = tmp_path / "ws"
    arguments = ["run", "--suite", mini.suite, "--workspace", workspace, "--plugin", path, *TASK,
                 "--jobs", "1"]  # fmt: skip
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
    assert "edited.py is not part of the run's key: it was edited" in by_seed[1]["error"]["message"]
    with start(mini, *arguments) as again:
        again.communicate(timeout=120)
    assert again.returncode == 0, again.errors()
    keys = {r["key"] for r in mini.records(workspace)}
    assert len(keys) == 4, "the new code has keys of its own"
