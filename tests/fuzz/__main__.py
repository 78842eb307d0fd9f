"""Fuzz one parser for some seconds: ``python -m tests.fuzz TARGET SECONDS [--with atheris]``.

Without a target, it prints their names. ``make fuzz`` runs all of them, one after the other.

By default hypothesis chooses how valid files are damaged (see ``mutations.py``). With ``--with
atheris`` libFuzzer does, and keeps what reaches new branches of our code. Any exception that the
target does not document is a finding, and so are a crash, one input that takes more than ``SLOW``
seconds of processor time, and more than ``MEMORY`` bytes. The input is kept in ``build/fuzz/``.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import hashlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

FINDINGS = Path("build/fuzz")
MEMORY = 2 << 30  # bytes of address space on top of what the imports take
SLOW = 20.0  # seconds of one input
ROUND = 500  # inputs of hypothesis between two looks at the clock


class Fuzzer:
    """Reads one input after the other, and counts them."""

    def __init__(self, name: str) -> None:
        from tests.fuzz.targets import TARGETS

        self.name, self.target = name, TARGETS[name]
        self.read = self.target.prepare(Path(tempfile.mkdtemp()))
        self.seeds = self.target.seeds()
        for seed in self.seeds:  # a seed is valid; reading it also imports what is imported late
            self.read(seed)
        self.count = self.valid = 0
        FINDINGS.mkdir(parents=True, exist_ok=True)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))

    def check(self, data: bytes) -> None:
        """Read one input; whatever this raises is a finding, whose input is kept."""
        self.count += 1
        (FINDINGS / f"{self.name}.last").write_bytes(data)  # a crash leaves nothing else
        begun = time.process_time()
        try:
            with contextlib.suppress(*self.target.errors):
                self.read(data)
                self.valid += 1
            if (seconds := time.process_time() - begun) > SLOW:
                raise AssertionError(f"one input took {seconds:.0f} s")
        except Exception:
            name = f"{self.name}-{hashlib.sha256(data).hexdigest()[:12]}"
            (FINDINGS / name).write_bytes(data)
            print(f"finding: {FINDINGS / name}", flush=True)
            raise


def with_hypothesis(fuzzer: Fuzzer, seconds: float) -> None:
    """Damage valid files until the time is over, or there is a finding."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    from tests.fuzz.mutations import mutated

    options = settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    end = time.monotonic() + seconds

    def read(source: random.Random) -> None:
        if time.monotonic() < end:
            fuzzer.check(mutated(source, fuzzer.seeds))

    while time.monotonic() < end:
        of_round = seed(random.getrandbits(32))(given(st.randoms(use_true_random=True))(read))
        options(of_round)()


def with_atheris(fuzzer: Fuzzer, seconds: float) -> None:
    """Let libFuzzer damage valid files; ends the process."""
    import atheris

    corpus = Path(tempfile.mkdtemp())
    for number, data in enumerate(fuzzer.seeds):
        (corpus / str(number)).write_bytes(data)
    options = [f"-max_total_time={seconds:.0f}", "-rss_limit_mb=0", "-max_len=262144"]
    options += [f"-artifact_prefix={FINDINGS}/atheris-", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], fuzzer.check)
    atheris.Fuzz()


DRIVERS = {"hypothesis": with_hypothesis, "atheris": with_atheris}


def main() -> None:
    """Fuzz, and print how many inputs were read."""
    parser = argparse.ArgumentParser(description="Fuzz one parser of untrusted bytes.")
    parser.add_argument("target", nargs="?", help="what to fuzz; without it, print the names")
    parser.add_argument("seconds", nargs="?", type=float, default=60.0)
    parser.add_argument(
        "--with", dest="driver", choices=DRIVERS, default="hypothesis", help="who chooses inputs"
    )
    parser.add_argument("--input", type=Path, help="read this file only, to look at a finding")
    arguments = parser.parse_args()
    if arguments.target is None:
        from tests.fuzz.targets import TARGETS

        print(*TARGETS, sep="\n")
        return
    folder = tempfile.mkdtemp(prefix="htbench-fuzz-")
    if not (child := os.fork()):  # which libFuzzer ends at once, as a crash does
        tempfile.tempdir = folder
        fuzz(arguments)
        return
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(f"{arguments.target}: {signal.strsignal(-code)}" if code < 0 else code)


def fuzz(arguments: argparse.Namespace) -> None:
    """Fuzz in this process, which may end."""
    instrumented = contextlib.nullcontext()
    if arguments.driver == "atheris":
        import atheris

        instrumented = atheris.instrument_imports(include=["benchmark", "leaderboard", "htbench"])
    with instrumented:
        fuzzer = Fuzzer(arguments.target)
    if arguments.input is not None:
        fuzzer.check(arguments.input.read_bytes())
        return
    begun = time.monotonic()
    atexit.register(
        lambda: print(
            f"{fuzzer.name}: {fuzzer.count} inputs in {time.monotonic() - begun:.0f} s, of which "
            f"{fuzzer.valid} were valid",
            flush=True,
        )
    )
    try:
        DRIVERS[arguments.driver](fuzzer, arguments.seconds)
    except Exception as problem:
        problem.__notes__ = []  # of hypothesis: the whole input
        traceback.print_exception(problem)
        sys.exit(1)


if __name__ == "__main__":
    main()
