"""The paths that every sandboxed process may open: Python, torch and installed packages."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

from benchmark.folders import PRIVATE_PACKAGES, private_packages

_SYSTEM_PATHS = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
]
_SITE_NAMES = ("site-packages", "dist-packages")
DEVICES = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"]
CUDA_PATHS = [
    "/proc/driver/nvidia",
    "/proc/driver/nvidia-uvm",
    "/proc/devices",
    "/proc/modules",
    "/proc/sys/vm/mmap_min_addr",
    "/sys/devices/system/memory/block_size_bytes",
    "/sys/module/nvidia",
    "/sys/module/nvidia_modeset",
    "/sys/module/nvidia_uvm",
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/compat",
    "/usr/local/nvidia/lib",
    "/usr/local/nvidia/lib64",
]


def interpreter_paths(never: Iterable[Path] = ()) -> list[Path]:
    """The paths that Python, torch and installed packages read in a sandboxed process.

    These are the standard library, each entry of each site-packages folder, shared libraries,
    the time zone and the description of the processors. Landlock cannot exclude part of a
    folder, so a folder that contains something forbidden is replaced by its other entries.

    Args:
        never: folders that must stay closed, such as a data cache. Name those themselves, not a
            checkout around them: a virtual environment inside a named folder is closed as well.
            The packages ``data_manifests`` and ``leaderboard`` are closed in any case.

    Returns:
        Resolved paths of files and folders, each of which may be read as a whole.
    """
    sites = _site_folders()
    closed = _Closed({*private_packages(), *(path.resolve() for path in never)})
    paths = dict.fromkeys(path for site in sites for path in _packages(site, closed))
    closed = _Closed({*closed.folders, *sites, *package_folders()})
    for root in (*_roots(), *(path.resolve() for path in _libraries_of_the_interpreter())):
        paths.update(dict.fromkeys(_without(root, closed)))
    return list(paths)


def _roots() -> list[Path]:
    """Folders and files that may be read but for the packages in them.

    Each is there once: on most systems, /lib is a link to /usr/lib.
    """
    listed = (Path(path).resolve() for path in (*_standard_library(), *_SYSTEM_PATHS))
    return list(dict.fromkeys(listed))


class _Closed:
    """Resolved folders that stay closed."""

    def __init__(self, folders: Collection[Path]) -> None:
        self.folders = frozenset(folders)
        self._around = frozenset(parent for folder in folders for parent in folder.parents)

    def has(self, path: Path) -> bool:
        """Whether a resolved path is one of the folders or inside one."""
        return not self.folders.isdisjoint((path, *path.parents))

    def is_inside(self, path: Path) -> bool:
        """Whether a resolved path is one of the folders or contains one."""
        return path in self._around or path in self.folders


def _standard_library() -> list[str]:
    names = ("stdlib", "platstdlib")
    zipped = [entry for entry in sys.path if entry.endswith(".zip")]
    # In a virtual environment platstdlib is the parent of site-packages and holds nothing else.
    return [*zipped, *(sysconfig.get_path(name) for name in names)]


def _libraries_of_the_interpreter() -> list[Path]:
    """The interpreter's own shared libraries; conda keeps them beside other files."""
    return sorted((Path(sys.base_prefix) / "lib").glob("lib*.so*"))


def _site_folders() -> list[Path]:
    """Folders of installed packages. Other entries of ``sys.path`` are checkouts: not allowed."""
    entries = [*sys.path, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    folders = (Path(e).resolve() for e in entries if Path(e).name in _SITE_NAMES)
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def package_folders() -> frozenset[Path]:
    """The folders of packages below the roots; the search takes a while and is kept."""
    return _package_folders(tuple(_roots()))


@cache
def _package_folders(roots: tuple[Path, ...]) -> frozenset[Path]:
    """Folders of installed packages below some roots, and copies of our private packages.

    Whichever interpreter they belong to (the one under a virtual environment, or one that another
    program carries with it), they are closed, and opened again entry by entry if this interpreter
    imports from them.
    """
    folders = set()
    for root in roots:
        for folder, inner, _ in os.walk(root):
            for name in [name for name in inner if name in (*_SITE_NAMES, *PRIVATE_PACKAGES)]:
                inner.remove(name)
                folders.add(Path(folder, name).resolve())
    return frozenset(folders)


def _packages(site: Path, closed: _Closed) -> Iterator[Path]:
    """The entries of a site-packages folder, behind links, without the private and the closed.

    An old installer's ``.egg`` folder is such a folder itself.
    """
    for entry in sorted(site.iterdir()):
        path = entry.resolve()
        if entry.suffix == ".egg" and path.is_dir():
            yield from _packages(path, closed)
        elif {entry.name, path.name}.isdisjoint(PRIVATE_PACKAGES) and entry.suffix != ".pth":
            yield from _without(path, closed)


def _without(path: Path, closed: _Closed) -> Iterator[Path]:
    """The path, or as much of it as leaves out the closed folders; nothing if it is missing."""
    if closed.has(path) or not path.exists():
        return
    if not closed.is_inside(path):
        yield path
        return
    try:
        children = sorted(path.iterdir())
    except PermissionError:  # then a child process cannot open it either
        return
    for child in children:
        # Links are not followed: one may lead anywhere, and a target inside is listed itself.
        if not child.is_symlink():
            yield from _without(child, closed)


def listed_folders() -> list[Path]:
    """Folders whose file names may be listed: an import begins with listing a folder.

    The right includes excluded packages: their file names, never their contents.
    """
    return [*_site_folders(), *(Path(p).resolve() for p in _standard_library() if Path(p).is_dir())]


def cuda_libraries() -> list[Path]:
    """The driver's libraries in folders that only ``LD_LIBRARY_PATH`` names, as on some clusters.

    Files, not folders: such a folder may be anywhere.
    """
    folders = [f for f in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if f]
    patterns = ("libcuda.so*", "libnvidia-*.so*")
    paths = (path for f in folders for pattern in patterns for path in Path(f).glob(pattern))
    return sorted({path.resolve() for path in paths if path.is_file()})


def cuda_devices() -> list[Path]:
    """The device nodes of NVIDIA GPUs."""
    nodes = [*Path("/dev").glob("nvidia*"), *Path("/dev").glob("nvidia-caps/*"), Path("/dev/dxg")]
    return [node for node in nodes if node.is_char_device()]
