"""The folders of runs that ``write_run`` writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from benchmark.records import RECORD_FILE, RunRecord

WriteRun = Callable[..., RunRecord]
FAILED = {"status": "failed", "error": {"kind": "exception", "message": "m", "traceback": "t"}}


def folder_of(workspace: Path, record: RunRecord) -> Path:
    return workspace / "runs" / record.key


def change_record(workspace: Path, record: RunRecord, **changes: object) -> None:
    path = folder_of(workspace, record) / RECORD_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
