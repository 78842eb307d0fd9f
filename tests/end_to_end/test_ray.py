"""A suite on a real Ray cluster of three nodes on this machine, without a network but loopback."""

from __future__ import annotations

import itertools
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.lane import kill, predictions, processes, scores, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root"),
]
pytest.importorskip("ray", reason="the extra ray is not installed")
ADDRESS = "127.0.0.1:6399"
DEADLINE = 300  # seconds: on two cores, three nodes start their workers at once
START_SECONDS = 60  # a start takes 3 to 6
STARTS = 3
ICONS_SECONDS = 3600
MOMENTS = 6  # half of them before the first run is complete
RUNS = 16  # of the slice
# Every process of a test runs in one network namespace, which this one opens and keeps. It says
# when it has: a head that starts before is in the machine's, where no other node reaches it.
NAMESPACE = "ip link set lo up && echo ready && exec sleep infinity"


def family(mark: str) -> set[int]:
    """The processes with a mark in their environment, and those that they started.

    Ray's agents write their titles over their environment.
    """
    marked, parents = set(processes(mark)), processes("")
    while more := {child for child in parents if parents[child] in marked} - marked:
        marked |= more
    return marked


def kill_all(mark: str) -> None:
    """Kill the processes with a mark."""
    victims = family(mark)
    for process in victims:
        kill(process)
    wait_until(lambda: not victims & processes("").keys(), "processes to end")


class Cluster:
    """Three Ray nodes with a core each, and a data folder of their own."""

    def __init__(self, folder: Path, mini) -> None:
        self.folder, self.mini = folder, mini
        self.home = folder / "home"
        (self.home / ".ray").mkdir(parents=True)
        self.token = self.home / ".ray" / "auth_token"
        self.token.write_text(secrets.token_hex(32))
        self.token.chmod(0o600)
        self.temporary = folder / "t"
        self.temporary.mkdir()
        self.mark = f"/nonexistent/{secrets.token_hex(8)}"
        self.space = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", NAMESPACE], stdout=subprocess.PIPE
        )
        assert self.space.stdout is not None
        assert self.space.stdout.readline(), "a network namespace could not be made"
        self.numbers = itertools.count(1)
        self.nodes: list[str] = []  # their marks, the head's first

    def environment(self, data: str, **more: str) -> dict[str, str]:
        return {
            **self.mini.environment(),
            "HOME": str(self.home),
            "HTBENCH_DATA": str(self.folder / data),
            "TMPDIR": str(self.temporary),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # else runs wait for all else that this machine does
            **more,
        }

    def command(self, *words: str | Path, data: str = "driver", **more: str) -> subprocess.Popen:
        """Start a command in the namespace."""
        enter = ["nsenter", f"--net=/proc/{self.space.pid}/ns/net"]
        return subprocess.Popen(
            [*enter, *map(str, words)],
            env=self.environment(data, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def add(self, **more: str) -> str:
        """Start a node; returns a mark in the environment of its processes."""
        for _ in range(STARTS):
            mark = f"{self.mark}-{next(self.numbers)}-"
            if (problem := self.start(mark, **more)) is None:
                self.nodes.append(mark)
                return mark
            kill_all(mark)
        raise AssertionError(f"a node did not start in {STARTS} tries: {problem}")

    def start(self, mark: str, **more: str) -> str | None:
        """Start a node's processes, or say why they did not start."""
        ray = shutil.which("ray", path=str(Path(sys.executable).parent)) or "ray"
        head = (
            "--head",
            "--port=6399",
            "--include-dashboard=false",
            "--temp-dir",
            self.folder / "r",
        )
        where = ("--address", ADDRESS) if self.nodes else head
        options = ("--node-ip-address=127.0.0.1", "--num-cpus=1", "--disable-usage-stats")
        start = self.command(
            ray, "start", *where, *options, "--object-store-memory=80000000",
            data=f"node{len(self.nodes) + 1}", HTBENCH_TEST_MARK=mark, **more,
        )  # fmt: skip
        try:
            _, err = start.communicate(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            kill_all(mark)  # and whatever else has the pipes open
            out, err = start.communicate()
            return f"no end after {START_SECONDS} s: {out}{err}"
        return err if start.returncode else None

    def htbench(self, *words: str | Path, **more: str) -> subprocess.Popen:
        return self.command(sys.executable, "-m", "htbench", *words, **more)

    def run(self, workspace: Path, *options: str, **more: str) -> subprocess.Popen:
        """Start ``htbench cluster run`` on the slice."""
        words = ("cluster", "run", *self.mini.options(workspace), "--address", ADDRESS)
        return self.htbench(*words, "--", *options, **more)

    def close(self) -> None:
        kill_all(self.mark)
        with self.space:
            self.space.kill()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory, mini, finished) -> Iterator[Cluster]:
    """Three nodes, and a driver that has the source models already."""
    folder = tmp_path_factory.mktemp("ray")
    # Socket names are limited to 107 bytes: pytest's folders are too long for Ray's.
    short = Path("/tmp") / f"ray-{secrets.token_hex(3)}"
    short.symlink_to(folder)
    shutil.copytree(mini.data, folder / "driver", dirs_exist_ok=True)
    cluster = Cluster(short, mini)
    try:
        for _ in range(3):
            cluster.add()
        yield cluster
    finally:
        cluster.close()
        short.unlink()


def wait_for_a_run(driver: subprocess.Popen, workspace: Path) -> None:
    wait_until(
        lambda: list(workspace.glob("runs/*")) or driver.poll() is not None, "a run", DEADLINE
    )


def end(driver: subprocess.Popen, seconds: float = DEADLINE) -> tuple[str, str]:
    try:
        out, err = driver.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        driver.kill()  # else whoever leaves its context waits for it
        raise
    assert driver.returncode == 0, err
    return out, err


def isolation(workspace: Path) -> dict[str, list[str]]:
    """The facts of each run, by its key."""
    records = [json.loads(path.read_text()) for path in workspace.glob("runs/*/run.json")]
    return {record["key"]: record["isolation"] for record in records}


def check_same(workspace: Path, local: Path) -> None:
    """Bytes, scores and isolation are those of runs on one machine."""
    assert predictions(workspace) == predictions(local)
    assert scores(workspace) == scores(local)
    assert isolation(workspace) == isolation(local)
    assert all(isolation(workspace).values())


def test_the_grid_is_that_of_one_machine(cluster: Cluster, finished, tmp_path) -> None:
    out, err = end(cluster.run(tmp_path / "w"))
    check_same(tmp_path / "w", finished.workspace)
    assert "# Leaderboard: mini" in out
    assert " s on " in err
    # The source models were trained beforehand: every node got them from the driver.
    sent = {
        path.parent.parent.parent.name for path in cluster.folder.glob("node*/sources/*/*.json")
    }
    assert sent == {"node1", "node2", "node3"}
    _, err = end(cluster.run(tmp_path / "w"))
    assert " s on " not in err, "nothing is left to do"


def test_a_chain_of_bases_gives_what_one_machine_gives(cluster: Cluster, mini, tmp_path) -> None:
    """The node that fine-tunes also has the weights that wise-ft starts from."""
    options = ("--method", "wise-ft")
    local = mini.run(tmp_path / "local", *options)
    assert local.returncode == 0, local.stderr
    end(cluster.run(tmp_path / "w", *options))
    check_same(tmp_path / "w", tmp_path / "local")
    assert len(predictions(tmp_path / "w")) == 8, (
        "finetune and wise-ft, on two tasks with two seeds"
    )


def test_the_icons_grid_is_that_of_one_machine(cluster: Cluster, tmp_path) -> None:
    """All 165 runs of the suite that the package has.

    On two cores that other work kept busy, one machine took 19 minutes and the cluster 12.
    """
    words = ("run", "--suite", "icons", "--workspace")
    end(cluster.htbench(*words, tmp_path / "local"), ICONS_SECONDS)
    end(cluster.htbench("cluster", *words, tmp_path / "w", "--address", ADDRESS), ICONS_SECONDS)
    check_same(tmp_path / "w", tmp_path / "local")
    assert len(predictions(tmp_path / "w")) == 165


def test_a_node_with_another_version_is_not_used(cluster: Cluster, finished, tmp_path) -> None:
    older = tmp_path / "older" / "torch-1.0.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    cluster.add(PYTHONPATH=str(older.parent))
    _, err = end(cluster.run(tmp_path / "w"))
    assert " is not used: it has torch 1.0 instead of " in err
    check_same(tmp_path / "w", finished.workspace)


def test_a_node_that_is_killed_loses_nothing(cluster: Cluster, finished, tmp_path) -> None:
    with cluster.run(tmp_path / "w") as driver:
        wait_for_a_run(driver, tmp_path / "w")
        kill_all(cluster.nodes[1])
        _, err = end(driver)
    check_same(tmp_path / "w", finished.workspace)
    assert "Traceback" not in err


@pytest.mark.parametrize("module", ["remote.worker", "isolation.server"])
def test_a_node_whose_worker_is_killed_is_lost(cluster, finished, tmp_path, module) -> None:
    """Such as for its memory: the others repeat what it had not finished."""
    with cluster.run(tmp_path / "w") as driver:
        wait_until(lambda: len(nodes_in_use(tmp_path / "w")) == 3, "three nodes", DEADLINE)
        ours = [p for p in family(cluster.nodes[1]) if module.encode() in command_line(p)]
        kill(min(ours))  # a fork server is older than its runs, which have its command line
        _, err = end(driver)
    check_same(tmp_path / "w", finished.workspace)
    assert " is lost: " in err
    assert "Traceback" not in err


def nodes_in_use(workspace: Path) -> set[str]:
    """The nodes that were asked for runs."""
    return {line["node"] for line in starts(workspace)}


def starts(workspace: Path) -> list[dict[str, str]]:
    """The lines of the journal on runs that nodes were asked for."""
    journal = workspace / "journal.jsonl"
    lines = map(json.loads, journal.read_text().splitlines() if journal.exists() else [])
    return [line for line in lines if line["event"] == "start"]


def test_a_driver_that_is_killed_resumes(cluster: Cluster, finished, tmp_path) -> None:
    with cluster.run(tmp_path / "w") as driver:
        wait_for_a_run(driver, tmp_path / "w")
        driver.kill()
    done = len(list(tmp_path.glob("w/runs/*")))
    assert 0 < done < len(finished.runs())
    end(cluster.run(tmp_path / "w"))
    check_same(tmp_path / "w", finished.workspace)
    check_left_behind(cluster)


def seconds_before(cluster: Cluster, workspace: Path) -> float:
    """How long a driver takes until its first run is complete, on nodes that have the sources."""
    end(cluster.run(workspace / "cold"))
    begin = time.monotonic()
    with cluster.run(workspace / "warm") as driver:
        wait_for_a_run(driver, workspace / "warm")
        seconds = time.monotonic() - begin
        end(driver)
    return seconds


def wait_for_a_moment(number: int, driver: subprocess.Popen, workspace: Path, early: float) -> None:
    """Until a moment in the ``early`` seconds or, for odd numbers, after some of the runs."""
    chance = random.Random(number)
    if number % 2 == 0:
        time.sleep(chance.uniform(0, early))
        return
    count = chance.randint(1, RUNS // 2)
    wait_until(
        lambda: len(list(workspace.glob("runs/*"))) >= count or driver.poll() is not None,
        f"{count} runs",
        DEADLINE,
    )
    time.sleep(chance.uniform(0, 0.5))


def test_a_node_that_is_killed_at_any_moment_loses_nothing(cluster, finished, tmp_path) -> None:
    """Also while it is sent source models, or its worker starts; a new node follows each time."""
    early = seconds_before(cluster, tmp_path)
    lost = 0
    for moment in range(MOMENTS):
        workspace = tmp_path / f"w{moment}"
        with cluster.run(workspace) as driver:
            wait_for_a_moment(moment, driver, workspace, early)
            others = [node for node in cluster.nodes[1:] if processes(node)]
            kill_all(random.Random(moment).choice(others))
            _, err = end(driver)
        check_same(workspace, finished.workspace)
        assert "Traceback" not in err
        lost += " is lost: " in err
        cluster.add()
    assert lost, "no node was in use when it was killed"


def test_a_driver_that_is_killed_at_any_moment_resumes(cluster, finished, tmp_path) -> None:
    early = seconds_before(cluster, tmp_path)
    for moment in range(MOMENTS):
        workspace = tmp_path / f"w{moment}"
        with cluster.run(workspace) as driver:
            wait_for_a_moment(moment, driver, workspace, early)
            driver.kill()
        done, before = stamps(workspace), len(starts(workspace))
        assert moment % 2 == 0 or 0 < len(done) < RUNS, "killed in mid-grid"
        _, err = end(cluster.run(workspace))
        assert "Traceback" not in err
        assert not {line["key"] for line in starts(workspace)[before:]} & done.keys(), "repeated"
        assert done.items() <= stamps(workspace).items(), "lost or written again"
        check_same(workspace, finished.workspace)
    check_left_behind(cluster)


def stamps(workspace: Path) -> dict[str, tuple[int, int]]:
    """What changes if a run is repeated, by its key."""
    stats = {path.parent.name: path.stat() for path in workspace.glob("runs/*/run.json")}
    return {key: (stat.st_ino, stat.st_mtime_ns) for key, stat in stats.items()}


def check_left_behind(cluster: Cluster) -> None:
    """Workers of drivers that are gone end, and remove their folders."""
    wait_until(
        lambda: not [p for p in processes(cluster.mark) if b"remote.worker" in command_line(p)],
        "workers to end",
    )
    wait_until(lambda: not list(cluster.temporary.glob("htbench-node-*")), "folders to go")


def test_a_driver_that_is_interrupted_starts_no_cluster(cluster: Cluster, tmp_path) -> None:
    """Ray connects by itself when it is called, as threads that still wait for a node would."""
    mark = f"{cluster.mark}-driver"
    with cluster.run(tmp_path / "w", HTBENCH_TEST_MARK=mark) as driver:
        wait_for_a_run(driver, tmp_path / "w")
        driver.send_signal(signal.SIGINT)
        _, err = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 130, err
    assert "Traceback" not in err
    assert not processes(mark), [command_line(process) for process in processes(mark)]
    assert not list(cluster.temporary.glob("ray/*")), "sessions of other clusters"


def command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_wrong_token_is_one_sentence(cluster: Cluster, tmp_path) -> None:
    with cluster.run(tmp_path / "w", RAY_AUTH_TOKEN="0" * 64) as driver:
        _, err = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 2, err
    assert f"cannot connect to the Ray cluster at {ADDRESS}" in err
    assert "Traceback" not in err
    with cluster.run(tmp_path / "w", RAY_AUTH_MODE="disabled") as driver:
        _, err = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 2
    assert "turns off the authentication of Ray" in err
