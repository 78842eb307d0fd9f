"""The folders of runs that ``write_run`` writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from benchmark.files import SEAL, seal
from benchmark.records import RECORD_FILE, RunRecord

WriteRun = Callable[..., RunRecord]
FAILED = {"status": "failed", "error": {"kind": "exception", "message": "m", "traceback": "t"}}


def folder_of(workspace: Path, record: RunRecord) -> Path:
    return workspace / "runs" / record.key


def change_record(workspace: Path, record: RunRecord, **changes: object) -> None:
    """Change fields of a run's record as someone would who also recomputes its checksum."""
    path = folder_of(workspace, record) / RECORD_FILE
    entries = json.loads(path.read_text())
    del entries[SEAL]
    path.write_bytes(seal({**entries, **changes}))
