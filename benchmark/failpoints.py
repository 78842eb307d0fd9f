"""Named points at which a test can stop or kill one of our processes.

``HTBENCH_FAILPOINT=record-written@2=kill`` kills the process that reaches the point
``record-written`` for the second time; ``@N`` may be left out. ``stop`` stops the process instead
(SIGSTOP), so that a test can see it in state T and kill any process it chooses. Each process
counts its own calls. Without the variable nothing happens.

A method can do no more with this than to end or stop its own process.
"""

from __future__ import annotations

import itertools
import os
import signal

VARIABLE = "HTBENCH_FAILPOINT"
POINTS = (
    # in the driver
    "run-claimed",  # the run is locked; nothing is in the journal yet
    "run-journaled",  # the journal says that the run has started
    "child-started",  # the child has its job
    "child-adapted",  # the child has adapted; it does not have the test images yet
    "answer-received",  # the child's answer is complete
    "predictions-written",  # in the temporary folder
    "record-written",  # the temporary folder is complete
    "old-folder-moved",  # an older folder of the same name is out of the way
    "folder-renamed",  # a finished folder (run, source model, features, store) has its name
    "run-finished",  # the run's folder is in place; the journal does not say so yet
    "run-copied",  # a merge has copied a run to a temporary folder and said so in the journal
    "results-written",  # the new results are in a temporary file
    "results-replaced",  # results.parquet is the new file
    "file-written",  # any other file of write_file is in a temporary file
    # in the fork server
    "child-forked",  # the driver does not know the child's process id yet
    # in a child
    "job-received",  # nothing is locked yet
    "process-locked",  # the driver does not know it yet
    "model-adapted",  # adapt has returned; the driver has not been told yet
    "answer-written",  # all rows are sent; the driver does not know that the child is done
    "checkpoint-written",  # of a source training, in a temporary file
)
_SETTING = os.environ.get(VARIABLE)
_count = itertools.count(1)


def reach(point: str) -> None:
    """Stop or kill this process if the environment names this point."""
    if _SETTING is not None:
        _act(point, _SETTING)


def _act(point: str, setting: str) -> None:
    assert point in POINTS, point
    place, _, action = setting.partition("=")
    name, _, number = place.partition("@")
    if point == name and next(_count) == int(number or 1):
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[action])
