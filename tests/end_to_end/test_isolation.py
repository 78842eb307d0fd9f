"""No method reaches a label: a hunter that knows where all of them are finds none.

Run by the real command, from the checkout and from an installed wheel.
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
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmark.folders import packaged_manifests
from benchmark.images.store import store as images_store
from benchmark.isolation import sandbox
from benchmark.isolation.facts import FULL_ISOLATION, landlock_fact
from benchmark.manifest.read import read_manifest
from tests.end_to_end.conftest import Mini, execute

offer = sandbox.available()
pytestmark = pytest.mark.skipif(bool(offer.missing), reason="; ".join(offer.missing))

CHECKOUT = Path(__file__).resolve().parents[2]
HUNTER = Path(__file__).with_name("hunter")
TASK = ("--task", "outline-solid")
SECRET = "the user's password"
IMAGE = 3 * 32 * 32


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


# --- what there is to find ----------------------------------------------------------------------


class Truth:
    """The labels of the slice; only a process that runs no method may know them."""

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
    """Listening sockets; the list collects the names of those that were connected to."""
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
    package = packaged_manifests() / "icons" / "2.0"
    data, store = mini.data, truth.folder
    (home / "secret.txt").write_text(SECRET)
    return {
        "files": {
            "images of the manifest": mini.manifest / "images.parquet",
            "manifest": mini.manifest / "manifest.toml",
            "shipped images": package / "images.parquet",
            "shipped manifest": package / "manifest.toml",
            "shipped source model": package / "checkpoints" / "solid-0.safetensors",
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
            "temporary": workspace / "tmp",
            "data": data,
            "store": store,
            "manifest folder": mini.manifest,
            "shipped manifests": packaged_manifests(),
            "home": home,
        },
    }


def armed(folder: Path, facts: dict) -> Path:
    """Copy the hunter into a folder, with the facts that it may use; the path of its plugin."""
    for path in HUNTER.glob("*.py"):
        shutil.copy(path, folder)
    module = folder / "hunter_attempts.py"
    literal = json.dumps(json.dumps(facts, default=os.fspath))
    module.write_text(module.read_text().replace('json.loads("{}")', f"json.loads({literal})"))
    return folder / "hunter.py"


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
    """The slice with a data folder in which no other test changes anything at the same time."""
    data = tmp_path_factory.mktemp("alone") / "data"
    return replace(mini, data=shutil.copytree(mini.data, data))


@pytest.fixture(scope="module")
def truth(alone) -> Truth:
    return Truth(alone)


# --- the hunt -----------------------------------------------------------------------------------


class Hunt:
    """One command with the hunter, and the state of everything around it before and after."""

    def __init__(self, mini, finished, truth, folder: Path, python: Path) -> None:
        self.workspace, home = finished.copy(folder / "workspace"), folder / "home"
        home.mkdir()
        # The hunter's own folder may be read as Python files only; it lies in the user's home.
        environment = {**mini.environment(), "HTBENCH_TEST_PASSWORD": SECRET}
        if python != Path(sys.executable):
            environment.pop("PYTHONPATH", None)  # the wheel's code, not the checkout's
        around = [mini.manifest, mini.data, packaged_manifests() / "icons", home]
        with listening(folder / "sockets") as (sockets, self.reached), self.bystander() as pid:
            facts = {
                **truth.known(),
                **places(mini, truth, self.workspace, home),
                **sockets,
                "processes": {"bystander": pid, "test": os.getpid()},
                "secret": SECRET,
            }
            plugin = armed(home, facts)
            self.runs_before = contents(self.workspace / "runs")
            self.before = contents(*around)
            command = [python, "-P", "-m", "htbench", "run", *mini.options(self.workspace)]
            command += ["--plugin", plugin, *TASK, "--isolation", "required", "--jobs", "2"]
            self.result = execute(command, environment, home)
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
    """``stage|kind name: FOUND ...`` of every attempt that succeeded."""
    split = [line.split("|", 2) for line in lines if line.count("|") >= 2]
    return [
        f"{stage}|{kind} {part}"
        for stage, kind, parts in split
        for part in parts.split("; ")
        if "FOUND" in part
    ]


def test_the_hunter_runs_and_succeeds(hunt):
    assert hunt.result.returncode == 0, hunt.result.stderr
    assert [(r["status"], r["seed"]) for r in sorted(hunt.records, key=lambda r: r["seed"])] == [
        ("ok", 0),
        ("ok", 1),
    ]
    for stage in ("import", "adapt", "forward"):
        assert hunt.lines().count(f"{stage}|hunt|ended") == 2


def test_it_finds_nothing_when_it_is_imported_adapts_or_predicts(hunt):
    """While it predicts, it is given a batch of test images; no descriptor leads to the others."""
    assert findings(hunt.lines()) == []
    assert {r["log"][0]["found"] for r in hunt.records} == {0.0}
    assert min(r["log"][0]["attempts"] for r in hunt.records) > 500


def test_it_finds_nothing_when_it_is_described(hunt):
    answers = [json.loads(p.read_text()) for p in hunt.data.glob("methods/*.json")]
    summaries = [a["answer"]["summary"] for a in answers if a["answer"]["name"] == "hunter"]
    assert summaries
    assert all(re.fullmatch(r"Attempts: \d{3}, found: ", text) for text in summaries), summaries


def test_a_process_holds_four_descriptors_and_none_can_be_opened_again(hunt):
    pattern = re.compile(r"(import|adapt)\|descriptor (\d+) \((\w+)\)\|(.*)")
    descriptors = [m.groups() for m in map(pattern.match, hunt.lines()) if m]
    for stage in ("import", "adapt"):
        kinds = {int(fd): kind for at, fd, kind, _ in descriptors if at == stage}
        assert len([fd for at, fd, _, _ in descriptors if at == stage]) == 2 * len(kinds)
        assert sorted(kinds.values()) == ["device", "file", "file", "socket"]
        assert {fd: kinds[fd] for fd in (0, 1, 2)} == {0: "device", 1: "file", 2: "file"}
    tries = [outcome for _, _, kind, outcome in descriptors if kind == "file"]
    assert set(tries) == {"pread: EBADF; map: EACCES; open again: EACCES"}
    tries = [outcome for _, _, kind, outcome in descriptors if kind == "socket"]
    assert set(tries) == {"receive: EAGAIN; open again: ENXIO"}


def test_no_listener_was_reached_and_no_file_was_changed(hunt):
    assert hunt.reached == []
    differences = {
        p for p in hunt.before.keys() | hunt.after if hunt.before.get(p) != hunt.after.get(p)
    }
    new = {str(p) for p in hunt.data.glob("methods/*.json")}
    assert differences <= new, "its own description is all that is kept of it"
    runs = contents(hunt.workspace / "runs")
    assert {p: runs[p] for p in hunt.runs_before} == hunt.runs_before, "other runs are unchanged"
    assert list((hunt.workspace / "tmp").iterdir()) == []


def test_the_rows_say_what_was_in_force(hunt):
    assert len(hunt.rows) == 2
    for record in hunt.records:
        assert set(FULL_ISOLATION) <= set(record["isolation"])
        assert landlock_fact(offer.landlock) in record["isolation"]
    for row in hunt.rows:
        assert set(FULL_ISOLATION) <= set(json.loads(row["isolation"]))


def test_without_a_lock_the_same_hunt_succeeds(alone, finished, truth, tmp_path):
    """Otherwise the tests above would only show that the hunter is bad at hunting."""
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
        facts = {**truth.known(), **here, **sockets, "processes": {"bystander": pid}}
        facts |= {"readable": {}, "secret": SECRET}
        facts["folders"] = {"workspace": workspace, "data": copy, "home": home}
        path = armed(home, facts | {"control": True})
        code = f"""
            import json, sys
            ids = json.load(open({str(truth.folder / "index.json")!r}))["test"]
            labels = {truth.in_the_order_of(truth.index["test"])}
            sys.path.insert(0, {str(home)!r})
            source = open({str(path)!r}).read().replace('hunt("import")', 'hunt("control")')
            exec(compile(source, "hunter", "exec"), {{"__name__": "hunter"}})
        """
        environment = {**os.environ, "HTBENCH_TEST_PASSWORD": SECRET}
        result = execute([sys.executable, "-c", textwrap.dedent(code)], environment, home)
    successes = [line.partition(": FOUND")[0] for line in findings(result.stdout.splitlines())]
    ways = {
        "process bystander": ("environ", "maps", "fd", "signal", "memory"),
        "processes": ("list", "near", "fork", "subprocess"),
        "network": ("tcp", "unix", "abstract", "pair"),
        "environment": ("secrets",),
        "import": ("leaderboard", "packaged files", "manifest"),
        "memory": ("ids", "labels", "heap"),
    }
    file_ways = ("read", "by a path descriptor", "by a symbolic link", "append")
    ways |= dict.fromkeys(here["files"], file_ways)
    ways |= dict.fromkeys(facts["folders"], ("list", "create"))
    expected = [f"{kind} {way}" for kind, of_kind in ways.items() for way in of_kind]
    missing = [attempt for attempt in expected if f"control|{attempt}" not in successes]
    assert missing == [], result.stdout + result.stderr
    assert set(reached) >= {"tcp", "unix", "abstract"}


# --- the test images ----------------------------------------------------------------------------


def test_the_order_of_the_test_images_reveals_nothing_about_their_labels(truth):
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
