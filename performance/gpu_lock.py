"""Use a device from inside the sandbox of a run; where that fails, find what it would need.

    python performance/gpu_lock.py --device cuda

Exits with status 1 if the device cannot be used inside, and then names the smallest sets of system
calls and of paths that would have to be allowed. Each attempt is a fork of this process, which has
imported torch and not touched the device.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmark import numerics
from benchmark.folders import harness_packages
from benchmark.isolation import kernel, sandbox, seccomp

SECONDS = 20  # of an attempt; a CUDA context takes one or two
FOLDERS = ("/dev", "/etc", "/opt", "/proc", "/run", "/sys", "/tmp", "/usr", "/var")
DEPTH = 2  # levels of folders below these that are told apart
Change = Callable[[], None]


@cache
def box() -> sandbox.Sandbox:
    """The sandbox of a run on a GPU; computing what it allows takes a while."""
    return sandbox.Sandbox(cuda=True)


def work(device: str) -> None:
    """A step of a small network, as a run would take it, and a wait for its result."""
    numerics.environment(torch.device(device))
    weight = torch.zeros(8, 3, 3, 3, device=device, requires_grad=True)
    features = F.conv2d(torch.zeros(2, 3, 8, 8, device=device), weight).flatten(1)
    F.cross_entropy(features @ torch.zeros(288, 4, device=device), torch.zeros(2).long().to(device))
    (features.sum() + weight.sum()).backward()
    assert weight.grad is not None
    weight.grad.sum().item()


def attempt(use: Change, *changes: Change) -> str:
    """Use a device in a fork inside the sandbox; return the error, or nothing if it worked.

    Args:
        use: uses the device.
        changes: make the sandbox another one.
    """
    box()
    with tempfile.TemporaryDirectory(prefix="gpu-lock-") as scratch:
        return _attempt(use, changes, Path(scratch))


def _attempt(use: Change, changes: Sequence[Change], scratch: Path) -> str:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _attempt_and_exit(use, changes, scratch, write)
    os.close(write)
    deadline = time.monotonic() + SECONDS
    while not (status := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(read)
            return f"no answer in {SECONDS} s"
        time.sleep(0.01)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    return "" if status[1] == 0 else text or f"wait status {status[1]}"


def _attempt_and_exit(use: Change, changes: Sequence[Change], scratch: Path, write: int) -> None:
    code = 1
    try:
        os.environ["TMPDIR"] = os.environ["CUDA_CACHE_PATH"] = str(scratch)
        tempfile.tempdir = None
        os.chdir(scratch)
        for change in changes:
            change()
        box().enter(read=list(harness_packages()), write=[scratch])
        use()
        code = 0
    except BaseException as error:
        os.write(write, f"{type(error).__name__}: {error}"[:2000].encode())
    finally:
        os._exit(code)


def without_seccomp() -> None:
    """Change: no filter of system calls."""
    seccomp.install = lambda **_: None


def without_landlock() -> None:
    """Change: every path can be opened."""
    kernel.restrict_self = os.close  # type: ignore[assignment]


def with_calls(names: Sequence[str]) -> Change:
    """Change: allow some system calls."""

    def change() -> None:
        plain = seccomp._verdicts
        more = dict.fromkeys(names, seccomp._return(seccomp._ALLOW))
        seccomp._verdicts = lambda *options: plain(*options) | more

    return change


def with_paths(paths: Sequence[str]) -> Change:
    """Change: allow some paths to be read, written and used as devices."""

    def change() -> None:
        box()._rules += [(path, kernel.SCRATCH | kernel.DEVICE) for path in paths]

    return change


def smallest(items: Sequence[str], works: Callable[[Sequence[str]], bool]) -> list[str]:
    """A set from which no item can be removed, if all items together work."""
    kept, size = list(items), max(1, len(items) // 2)
    while True:
        start = 0
        while start < len(kept):
            fewer = kept[:start] + kept[start + size :]
            if works(fewer):
                kept = fewer
            else:
                start += size
        if size == 1:
            return kept
        size = max(1, size // 2)


def needed_calls(use: Change) -> list[str]:
    """The system calls that have to be allowed as well, whatever the paths are."""
    names = [*seccomp._REFUSED, *seccomp._CONDITIONAL]
    return smallest(names, lambda few: not attempt(use, without_landlock, with_calls(few)))


def needed_paths(use: Change) -> list[str]:
    """The paths that have to be allowed as well, whatever the calls, as deep as ``DEPTH`` tells."""

    def works(few: Sequence[str]) -> bool:
        return not attempt(use, without_seccomp, with_paths(few))

    paths: list[str] = list(FOLDERS)
    for _ in range(DEPTH):
        paths = smallest(paths, works)
        below = [child for path in paths for child in _entries(path)]
        if not works(below):  # what is needed is to list one of the folders
            return paths
        paths = below
    return smallest(paths, works)


def _entries(path: str) -> list[str]:
    try:
        return sorted(map(str, Path(path).iterdir()))
    except OSError:  # a file
        return [path]


def main() -> None:
    """Try, and say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()

    numerics.configure()

    def use() -> None:
        work(args.device)

    error = attempt(use)
    if not error:
        print(f"{args.device} works inside the sandbox")
        return
    print(f"inside the sandbox: {error}", flush=True)
    outside = attempt(use, without_seccomp, without_landlock)
    print(f"without seccomp and Landlock: {outside or 'works'}", flush=True)
    if not outside:
        for things, needed in (("system calls", needed_calls), ("paths", needed_paths)):
            names = ", ".join(needed(use)) or "none"
            print(f"{things} that would have to be allowed: {names}", flush=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
