# ruff: noqa: PTH208
"""A method that hunts for labels: the test of isolation gives it every advantage.

It knows where everything is (``KNOWN``, which the test replaces: paths, processes, listeners) and
how to recognise what it looks for (digests of image ids, labels and pixels, which reveal nothing
about them). It hunts when it is imported, in ``adapt`` and in its model's ``forward``, prints a
line for every attempt and otherwise is the source model. Without a lock it finds nearly
everything: the test checks that too.
"""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from hunter_attempts import KNOWN, REPORT, attempts, digest, report
from hunter_files import descriptors, environment, files
from hunter_memory import code, memory
from hunter_processes import network, processes
from torch import nn

from htbench import Method


def hunt(stage):
    """Make every attempt."""
    # A signal that should not have been possible would otherwise end the hunt.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if stage == "import":  # nothing is left of another run, and nothing is left for another
        attempts(stage, "scratch", ("list", lambda: os.listdir(".")))
        Path("left").write_text(stage)
    for part in (descriptors, environment, code, files, processes, network, memory):
        part(stage)
    report(stage, "hunt", ["ended"])


if KNOWN:
    hunt("import")


class Hunting(nn.Module):
    """The source model, and a hunt at its first batch."""

    def __init__(self, model):
        super().__init__()
        self.model, self.hunted = model, False

    def forward(self, images):
        if not self.hunted:
            self.hunted = True
            hunt("forward")
        return self.model(images)


def findings(lines):
    return [line for line in lines if "|FOUND" in line]


@dataclass(frozen=True)
class Hunter(Method):
    __doc__ = f"Attempts: {len(REPORT)}, found: {'; '.join(findings(REPORT))}"

    name = "hunter"

    def adapt(self, source, target, run):
        hunt("adapt")
        seen = set(target.labels.tolist())
        attempts(
            "adapt",
            "target",
            ("classes not seen", lambda: [c for c in seen if not bool(target.seen[c])]),
            (
                "images of missing classes",
                lambda: sum(digest(i.numpy().tobytes()) in KNOWN["missing"] for i in target.images),
            ),
            ("more than its fields", lambda: target.missing or target.features),
        )
        run.log(attempts=len(REPORT), found=len(findings(REPORT)))
        return Hunting(source.copy())
