"""Whether the files of a driver may be removed: only those of a dead one of this host."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import doctor
from benchmark.runs import drivers
from benchmark.runs.drivers import Driver, driver_of, this_driver
from benchmark.runs.workspace import Workspace


def leave(workspace: Path, driver: Driver) -> Path:
    """What a driver has in a workspace while it runs, and when it has been killed."""
    folder = workspace / "tmp" / f"{driver.prefix}abc_1"
    (folder / "htbench-x").mkdir(parents=True)
    Path(f"{folder}.lock").touch()
    return folder


def ended() -> Driver:
    """A driver of this host whose process has ended."""
    code = "from benchmark.runs.drivers import this_driver; print(this_driver().prefix)"
    prefix = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    driver = driver_of(Path(prefix.stdout.strip() + "x"))
    assert driver is not None
    return driver


def sweep(workspace: Path) -> list[str]:
    with Workspace(workspace):
        pass
    return sorted(path.name for path in (workspace / "tmp").iterdir())


def test_a_name_says_which_driver(tmp_path: Path) -> None:
    own = this_driver()
    assert driver_of(leave(tmp_path, own)) == own
    assert own.is_alive
    with Workspace(tmp_path / "ws") as workspace, workspace.temporary() as folder:
        assert driver_of(folder.parent) == own


@pytest.mark.parametrize("host", ["node-7.cluster.example", "bücher", "~/../x", "", "n" * 200])
def test_any_host_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert driver_of(leave(tmp_path, this_driver())) == this_driver()
    with Workspace(tmp_path / "ws") as workspace, workspace.temporary() as folder:
        assert driver_of(folder.parent) == this_driver()
    assert sweep(tmp_path / "ws") == []


class TestSweep:
    def test_dead_ones_of_this_host(self, tmp_path: Path) -> None:
        own = this_driver()
        leave(tmp_path, ended())
        leave(tmp_path, replace(own, boot="another boot"))
        leave(tmp_path, replace(own, start=own.start + 1))  # another process has its id now
        assert sweep(tmp_path) == []

    def test_a_living_one_whose_lock_looks_free(self, tmp_path: Path) -> None:
        folder = leave(tmp_path, this_driver())
        assert sweep(tmp_path) == [folder.name, f"{folder.name}.lock"]

    def test_none_of_another_host(self, tmp_path: Path) -> None:
        names = []
        for driver in (replace(ended(), host="n7"), replace(this_driver(), host="n8", boot="b")):
            folder = leave(tmp_path, driver)
            names += [folder.name, f"{folder.name}.lock"]
        assert sweep(tmp_path) == names

    def test_seen_from_another_host(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with Workspace(tmp_path) as workspace, workspace.temporary() as folder:
            monkeypatch.setattr(drivers, "host_name", lambda: "n7")
            monkeypatch.setattr(drivers, "boot_id", lambda: "another boot")
            monkeypatch.setattr(drivers, "_start_of", lambda process: None)
            sweep(tmp_path)
            assert folder.exists()


def test_doctor_names_those_of_other_hosts(tmp_path: Path) -> None:
    leave(tmp_path, this_driver())
    folder = leave(tmp_path, replace(this_driver(), host="n7", process=12))
    report = doctor.machine_report(tmp_path)["workspace"]
    text = report.pop("driver of another host 1")
    assert text.startswith("host n7, process 12; ")
    assert f"rm -r '{folder}' '{folder}.lock'" in text
    assert report.keys() == {"folder", "runs"}
