"""Permission for a file or folder is lost at a random moment and comes back: runs are the same."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.end_to_end.lane import DEADLINE, RUNS, Lane, check_same_results

pytestmark = pytest.mark.slow

# Root without any capability is bound by the permissions of its files as any user is, and can read
# the environment and the folders of the tests.
AS_ANY_USER = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
OF_FOLDERS = (0o000, 0o555, 0o600)  # nothing, no new names, no way in
OF_FILES = (0o000, 0o444)
VICTIMS = (
    *(".", "runs", "runs/*", "locks", "locks/*", "tmp", "tmp/*", "journal.jsonl"),
    *("runs/*/predictions.parquet", "runs/*/run.json", "results.parquet"),
)
VICTIMS_OF_DATA = (
    *(".", "stores", "stores/*-?*", "stores/*/test.u8", "stores/*/index.json", "sources"),
    *("sources/*-?*", "sources/*/model.safetensors", "sources/*/source.json", "methods/*.json"),
)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The words that start a command which file permissions bind."""
    closed = tmp_path_factory.mktemp("closed") / "closed"
    closed.touch()
    closed.chmod(0)
    words = () if os.geteuid() else AS_ANY_USER
    if words and shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed, and permissions do not bind root")
    opened = subprocess.run(
        [*words, sys.executable, "-c", f"open({str(closed)!r})"], capture_output=True, check=False
    )
    if b"PermissionError" not in opened.stderr:
        pytest.skip("a command cannot give up the capabilities of root here")
    return words


def victim(lane: Lane) -> Path | None:
    """A random file or folder of a kind that is there, of the workspace as often as of the data."""
    roots = [(lane.workspace, VICTIMS), (lane.mini.data, VICTIMS_OF_DATA)]
    for root, patterns in lane.random.sample(roots, 2):
        kinds = [[root] if pattern == "." else sorted(root.glob(pattern)) for pattern in patterns]
        if root.exists() and (kinds := [paths for paths in kinds if paths]):
            return lane.random.choice(lane.random.choice(kinds))
    return None


def take_away(path: Path, choose: random.Random) -> int | None:
    """Change the mode; returns the old one, or None if the file has just been replaced."""
    try:
        mode = path.stat().st_mode & 0o7777
        path.chmod(choose.choice(OF_FOLDERS if path.is_dir() else OF_FILES))
    except FileNotFoundError:
        return None
    return mode


@pytest.mark.parametrize("moment", range(15))
def test_permission_is_lost_and_comes_back(mini, finished, tmp_path, prefix, moment) -> None:
    """It comes back while the command runs, or when it has ended."""
    own = replace(mini, data=tmp_path / "data")
    if moment % 3:  # else stores and source models are made
        shutil.copytree(mini.data, own.data)
    lane = Lane(own, tmp_path / "w", moment)
    lane.prefix = prefix
    with lane.start() as driver:
        lane.wait(driver, 2, 8)
        mode, path = None, None
        while mode is None and driver.poll() is None:
            path = victim(lane)
            mode = take_away(path, lane.random) if path else None
        if moment % 2:
            time.sleep(lane.random.uniform(0.1, 2))
            give_back(path, mode)
        _, errors = driver.communicate(timeout=DEADLINE)
    give_back(path, mode)
    print(f"{path}: status {driver.returncode}, {errors}")
    assert path is not None
    assert driver.returncode in (0, 1, 2), errors
    assert "Traceback" not in errors, errors
    assert "a file or the output" not in errors, "no path is named"
    with lane.start() as driver:
        _, errors = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 0, errors
    check_same_results(lane.workspace, finished.workspace, RUNS)
    assert list((lane.workspace / "tmp").iterdir()) == []


def give_back(path: Path | None, mode: int | None) -> None:
    if path is not None and mode is not None and path.exists():
        path.chmod(mode)
