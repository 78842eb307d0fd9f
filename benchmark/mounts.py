"""The file system that a path is on, and whether its locks hold between machines."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

# Shared between machines; whether a lock of one machine holds on another depends on mount options.
SHARED = (
    *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "fhgfs", "gfs2", "glusterfs", "gpfs"),
    *("lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs"),
    *("vboxsf", "virtiofs", "wekafs"),
)


def describe_mount(path: Path) -> str:
    """The type and the mount point of a path's file system, with a warning about its locks.

    Args:
        path: a file or folder; it need not exist.
    """
    mount = _mount_of(path.resolve())
    if mount is None:
        return "unknown"
    point, kind = mount
    text = f"{kind} at {point}"
    if kind in SHARED or kind.startswith("fuse"):
        text += (
            "; its locks may not be shared between nodes: run all commands that write here on one "
            "node, or use a folder on a local disk"
        )
    return text


def _mount_of(path: Path) -> tuple[str, str] | None:
    """The mount point and the type of the file system of an absolute path."""
    best: tuple[str, str] | None = None
    try:
        lines = MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.partition(" ")[0]
        if len(fields) < 5 or not kind:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        # Of several mounts at one point, the last one is on top.
        if path.is_relative_to(point) and (best is None or len(point) >= len(best[0])):
            best = point, kind
    return best
