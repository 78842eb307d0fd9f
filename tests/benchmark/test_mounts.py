"""The file system of a path, from a table as Linux writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import mounts
from benchmark.mounts import describe_mount

TABLE = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:40 / /home rw - autofs systemd-1 rw,fd=1
23 22 0:41 / /home/user rw,relatime shared:2 master:3 - nfs4 server:/home rw,vers=4.2
24 21 0:42 / /scratch rw - lustre 10.0.0.1@tcp:/scratch rw,flock
25 21 0:43 / /my\040disk rw - fuse.sshfs host: rw
26 21 0:44 / /over rw - nfs server:/x rw
27 21 0:45 / /over rw - xfs /dev/sdb rw
28 21 0:46 / /gpfs rw - gpfs gpfs rw
damaged
"""


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mountinfo").write_text(TABLE.strip())
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    return tmp_path / "mountinfo"


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/opt/ws", "ext4 at /"),
        ("/homes/ws", "ext4 at /"),
        ("/home/user2/ws", "autofs at /home"),
        ("/over/ws", "xfs at /over"),
    ],
)
def test_local(path: str, mount: str) -> None:
    assert describe_mount(Path(path)) == mount


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/home/user/ws", "nfs4 at /home/user"),
        ("/scratch/a/b", "lustre at /scratch"),
        ("/my disk/ws", "fuse.sshfs at /my disk"),
        ("/gpfs", "gpfs at /gpfs"),
    ],
)
def test_shared(path: str, mount: str) -> None:
    assert describe_mount(Path(path)).startswith(f"{mount}; its locks may not be shared")


def test_no_table(table: Path) -> None:
    table.unlink()
    assert describe_mount(Path("/")) == "unknown"
