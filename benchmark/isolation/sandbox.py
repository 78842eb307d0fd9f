"""Restrict a process, for good, before it imports untrusted code.

Threat model. A run executes a method's Python file, which can do all that Python, ``ctypes`` and
native code can do. It must not reach test labels, other runs or the results: not on disk, not
through ``/proc``, another process, shared memory or a socket. The kernel enforces this on the
calling thread and on all that it starts later, and no call reverts it:

    Landlock     a path can be opened or changed only if it is on an allow-list
    seccomp      system calls that reach around the file system fail (see ``seccomp.py``)

Not covered: descriptors and memory that the process already has (a fork inherits both, so the
parent of a sandboxed child must never have held a label); the existence of a file, its size and
times (``stat`` stays possible); timing, processor caches and the memory of a shared GPU; how much
time, memory or disk is used; bugs of the kernel and of device drivers. An inherited socket keeps
working: use a connected stream or seqpacket pair, since a datagram socket can send anywhere.

Linux on x86-64 and AArch64, without any library. Elsewhere nothing is enforced, and the reported
facts are empty.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import RunError, first
from benchmark.folders import PRIVATE_PACKAGES, private_packages
from benchmark.isolation import kernel, seccomp
from benchmark.isolation.allowlist import (
    CUDA_PATHS,
    DEVICES,
    cuda_devices,
    cuda_libraries,
    interpreter_paths,
    listed_folders,
)
from benchmark.isolation.facts import (
    NO_CAPABILITIES,
    NO_FILESYSTEM,
    NO_INSPECTION,
    NO_NETWORK,
    NO_NEW_PRIVILEGES,
    NO_PROCESSES,
    landlock_fact,
)


@dataclass(frozen=True)
class Availability:
    """What this machine's kernel can enforce.

    Attributes:
        landlock: version of the Landlock interface, 0 if it is not available.
        seccomp: whether a seccomp filter can be installed.
        missing: for each of the two that is not available, a sentence that says why.
    """

    landlock: int
    seccomp: bool
    missing: tuple[str, ...]


def available() -> Availability:
    """Ask the kernel what it offers. Changes nothing and raises nothing, on any system."""
    if sys.platform != "linux":
        return Availability(0, False, (f"{platform.system()} has neither Landlock nor seccomp",))
    landlock, no_landlock = _probe_landlock()
    no_seccomp = seccomp.problem()
    return Availability(landlock, not no_seccomp, tuple(filter(None, (no_landlock, no_seccomp))))


def _probe_landlock() -> tuple[int, str]:
    version = kernel.landlock_version()
    if version > 0:
        return version, ""
    reasons = {
        errno.ENOSYS: "this kernel does not support it (Linux 5.13 and later do)",
        errno.EOPNOTSUPP: 'it is disabled; add "landlock" to the lsm= boot option of the kernel',
        errno.EPERM: "the container that this process runs in forbids it",
    }
    return 0, f"Landlock: {reasons.get(-version, os.strerror(-version))}"


class Sandbox:
    """What a sandboxed process may open: computed once, applied in every child.

    Example:
        >>> sandbox = Sandbox(never=[data_folder])  # in the fork server, once
        >>> facts = sandbox.enter(read=[plugin], write=[scratch])  # in the child, before the plugin
    """

    def __init__(self, *, never: Iterable[Path] = (), cuda: bool = False) -> None:
        """Compute the allow-list.

        Args:
            never: see :func:`interpreter_paths`; no path that is passed to :meth:`enter` may
                contain one of these.
            cuda: also allow an NVIDIA GPU: its device nodes, the process's own ``/proc`` entry
                (the driver names its threads there) and one kind of socket.
        """
        self._never = (*sorted(private_packages()), *(path.resolve() for path in never))
        self._cuda = cuda
        drivers: list[Path | str] = [*CUDA_PATHS, *cuda_libraries()] if cuda else []
        reads = [*interpreter_paths(self._never), *drivers]
        devices = [*DEVICES, *(cuda_devices() if cuda else ())]
        self._rules = [
            *((os.fspath(path), kernel.READ) for path in reads),
            *((os.fspath(path), kernel.LIST) for path in listed_folders()),
            *((os.fspath(path), kernel.DEVICE) for path in devices),
        ]

    def enter(
        self,
        *,
        read: Iterable[Path] = (),
        write: Iterable[Path] = (),
    ) -> tuple[str, ...]:
        """Give up everything else, for good. Call it once, while the process has one thread.

        Args:
            read: further files, or folders with all their content, that may be read.
            write: folders in which files and folders may also be created, changed and removed.

        Returns:
            The facts in force, in a fixed order. What the kernel cannot enforce is absent; the
            caller decides whether that is acceptable (:func:`available` tells it beforehand).

        Raises:
            RunError: a path does not exist, contains a ``never`` folder or (to read) is inside
                one, there is more than one thread, or the kernel refused a step that it offers.
                The process may be restricted in part by then: it must exit.
        """
        reads, writes = [Path(p) for p in read], [Path(p) for p in write]
        self._check(reads, writes)
        private = [(p, kernel.READ) for p in reads] + [(p, kernel.SCRATCH) for p in writes]
        if sys.platform != "linux":
            return ()
        kernel.require_one_thread()
        offer = available()
        ruleset = self._ruleset(offer.landlock, private) if offer.landlock else None
        kernel.drop_privileges()
        facts = [NO_NEW_PRIVILEGES, NO_CAPABILITIES]
        if ruleset is not None:
            kernel.restrict_self(ruleset)
            facts += [landlock_fact(offer.landlock), NO_FILESYSTEM]
        if offer.seccomp:
            seccomp.install(cuda=self._cuda, truncate_is_governed=offer.landlock >= 3)
            facts += [NO_NETWORK, NO_PROCESSES, NO_INSPECTION]
        return tuple(facts)

    def _check(self, reads: Iterable[Path], writes: Iterable[Path]) -> None:
        """No path may contain a closed folder, nor, through a link, be inside one.

        A scratch folder may be inside one: it is new, and only the process itself writes to it.
        """
        for path, is_read in [*((p, True) for p in reads), *((p, False) for p in writes)]:
            if not path.exists():
                raise RunError(f"cannot give a run access to {str(path)!r}: it does not exist")
            real = path.resolve()
            never = [*self._never, *(_private_copies(real) if is_read else ())]
            inside = [str(p) for p in never if p.is_relative_to(real)]
            around = [str(p) for p in never if is_read and real.is_relative_to(p)]
            if inside or around:
                place = f"contains {first(inside)}" if inside else f"is inside {first(around)}"
                raise RunError(
                    f"cannot give a run access to {str(path)!r}, because it {place}, which runs "
                    "must not read; move one of the two"
                )

    def _ruleset(self, abi: int, private: Iterable[tuple[Path, int]]) -> int:
        """A Landlock ruleset with every rule, ready to be applied."""
        handled, attributes = kernel.handled_rights(abi)
        ruleset = kernel.create_ruleset(attributes)
        for path, rights in self._rules:  # not every machine has all of these
            kernel.add_rule(ruleset, path, rights & handled, optional=True)
        for own, rights in private:
            kernel.add_rule(ruleset, os.fspath(own), rights & handled)
        if self._cuda:
            # A rule lasts as long as the kernel's entry for its path does, and those of /proc
            # come and go. This descriptor keeps it, so it stays open on purpose.
            os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)
            kernel.add_rule(ruleset, "/proc/self", kernel.OWN_PROC & handled)
        return ruleset


def _private_copies(path: Path) -> Iterator[Path]:
    """Copies of our packages with labels around or beneath a path, such as another checkout's."""
    around = [parent for parent in (path, *path.parents) if parent.name in PRIVATE_PACKAGES]
    beneath = (
        Path(folder, name)
        for folder, inner, _ in os.walk(path)
        for name in inner
        if name in PRIVATE_PACKAGES
    )
    # A project may have such a name as well; it is a package that is meant.
    yield from (copy for copy in (*around, *beneath) if (copy / "__init__.py").is_file())
