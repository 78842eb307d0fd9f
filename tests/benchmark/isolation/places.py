"""Run code in a process that has entered the sandbox; each call locks a fresh one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmark.folders import ROOT
from benchmark.isolation.sandbox import available

offer = available()
needs_kernel = pytest.mark.skipif(bool(offer.missing), reason="; ".join(offer.missing))

# Runs before the body of a test: locks, then hands the body a few short names.
PREAMBLE = """
import ctypes, errno, os, signal, sys, threading
from pathlib import Path
from benchmark.isolation.sandbox import Sandbox

allowed, outside, scratch = (Path(name) for name in sys.argv[1:4])

def refused(action, *arguments):
    '''The error's name, or None if the action went through.'''
    try:
        action(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]

def call(number, *arguments):
    '''A raw system call: the error's name, or None.'''
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments))
    return errno.errorcode[ctypes.get_errno()] if answer < 0 else None
"""
LOCK = "facts = Sandbox(cuda={cuda}).enter(read=[allowed], write=[scratch])\n"


@dataclass(frozen=True)
class Places:
    """A file to read, a folder that is nobody's business, and a folder to write."""

    allowed: Path
    outside: Path
    scratch: Path

    def run(
        self, body: str, *, before: str = "", cuda: bool = False, fds: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run ``before``, lock, run ``body``, each in the names of the preamble."""
        lock = LOCK.format(cuda=cuda)
        script = PREAMBLE + textwrap.dedent(before) + "\n" + lock + textwrap.dedent(body)
        root = ROOT
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, (self.allowed, self.outside, self.scratch))],
            env={"PYTHONPATH": str(root), "OMP_WAIT_POLICY": "passive"},
            pass_fds=fds,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def passes(
        self, body: str, *, before: str = "", cuda: bool = False, fds: tuple[int, ...] = ()
    ) -> None:
        """The same, for a body of assertions that hold."""
        process = self.run(body, before=before, cuda=cuda, fds=fds)
        assert process.returncode == 0, process.stderr
