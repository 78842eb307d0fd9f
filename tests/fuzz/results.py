"""Records of runs, predictions, rows, outcomes and submissions."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.files import digest_json, seal
from benchmark.manifest.catalogue import load_manifest
from benchmark.records import RECORD_FILE, RunRecord, read_predictions, write_predictions
from leaderboard.rows import SCHEMA, check_record, row_of_record, rows_of_table
from leaderboard.submission.folder import (
    FORM_FILE,
    SUMS_FILE,
    Form,
    RefusedError,
    check_sums,
    digest_inside,
    form_text,
    read_form,
)
from tests.fuzz.target import Read, Target, resealed

SMALL = (6, 4)  # samples and classes of a small predictions file


def _record() -> dict[str, Any]:
    import dataclasses

    made_from = {
        **dict.fromkeys(("manifest", "source"), "0" * 64),
        **{"protocol": "2.0", "model": {"name": "convnet", "width": 4}, "recipe": {"steps": 4}},
        **{
            "device": "cpu",
            "task": "a-b",
            "method": {"name": "m", "code": {"files": [["m.py", "0" * 64]]}},
        },
        **{"config": {"alpha": 0.5, "names": ["a"]}, "seed": 0, "base": None, "torch": "2.6"},
        "search": {
            "by": "grid",
            "folds": 2,
            "steps": 8,
            "chosen": {},
            "tried": [{"settings": {"alpha": 1}, "score": 1.5}],
        },
    }
    record = RunRecord(
        **{name: made_from[name] for name in ("task", "config", "seed")},
        **{"key": digest_json(made_from), "made_from": made_from, "manifest": "icons@2.0"},
        **{"method": "m", "label": "m(alpha=0.5)", "track": "standard", "status": "failed"},
        error={"kind": "died", "message": "x", "traceback": "y\nz"},
        cost={"wall_seconds": 1.5, "total_steps": 4, "finished": 1e9},
        environment={"torch": "2.6"},
        isolation=["seccomp"],
        log=[{"step": 1, "loss": 0.5}],
        notes=["a note"],
    )
    return dataclasses.asdict(record)


def _run_json(folder: Path) -> Read:
    def read(data: bytes) -> object:
        (folder / RECORD_FILE).write_bytes(resealed(data))
        record = RunRecord.read(folder)
        check_record(record, folder / RECORD_FILE)
        return pa.Table.from_pylist([row_of_record(record)], schema=SCHEMA)

    return read


def _show_run(folder: Path) -> Read:
    """What `htbench show` prints of a run whose record is consistent."""
    from htbench.results import run_details

    def read(data: bytes) -> object:
        from benchmark.text import printable_json

        (folder / RECORD_FILE).write_bytes(resealed(data))
        details = run_details(str(folder), "icons", folder)
        return printable_json(details.as_dict()), details.code(), details.manifest

    return read


def _predictions(folder: Path) -> Read:
    path = folder / "predictions.parquet"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        return read_predictions(path, SMALL)

    return read


def _predictions_seeds() -> list[bytes]:
    ids = [f"image-{i}" for i in range(SMALL[0])]
    logits = np.random.default_rng(0).normal(size=SMALL).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "p")
        write_predictions(path, ids, logits)
        seeds = [path.read_bytes()]
    lists = pa.table(
        {"sample_id": pa.array(ids).dictionary_encode(), "logits": logits.astype(float).tolist()}
    )
    for options in (
        {},
        {"compression": "gzip"},
        {"data_page_version": "2.0", "use_dictionary": False},
    ):
        sink = io.BytesIO()
        pq.write_table(lists, sink, **options)
        seeds.append(sink.getvalue())
    return seeds


def _results(folder: Path) -> Read:
    """The rows of a workspace, with a checksum that fits."""
    from leaderboard import results_file

    path = folder / "results.parquet"
    before, zeros = results_file._BEFORE, results_file._ZEROS

    def read(data: bytes) -> object:
        content = bytearray(data)
        start = content.rfind(before) + len(before)
        if start >= len(before) and start + len(zeros) <= len(content):
            content[start : start + len(zeros)] = zeros
            digest = hashlib.sha256(content).hexdigest().encode()
            content[start : start + len(zeros)] = digest
        path.write_bytes(content)
        return rows_of_table(results_file.read_table(path, SCHEMA)[0])

    return read


def _results_seeds() -> list[bytes]:
    from leaderboard.results_file import write_table

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "p")
        record = RunRecord(**_record())
        rows = [{**row_of_record(record), "seed": seed} for seed in range(3)]
        write_table(path, pa.Table.from_pylist(rows, schema=SCHEMA), "0" * 64)
        return [path.read_bytes()]


def _outcome_row() -> dict[str, Any]:
    row = row_of_record(RunRecord(**_record()))
    manifest = load_manifest("icons@2.0")
    more = {"status": "ok", "manifest_digest": manifest.digest, "n_seen": 5, "n_missing": 6}
    return row | more | {"task": manifest.tasks[0].id, "predictions_sha256": "0" * 64}


def _outcomes(folder: Path) -> Read:
    """The outcomes of a run, with a digest that fits."""
    from leaderboard.outcome_files import WorkspaceOutcomes, outcomes_path
    from leaderboard.outcomes import Outcomes

    row, of_workspace = _outcome_row(), WorkspaceOutcomes(folder, load_manifest("icons@2.0"))
    path = outcomes_path(folder, row["key"])
    path.parent.mkdir(parents=True)

    def read(data: bytes) -> object:
        path.write_bytes(hashlib.sha256(data[32:]).digest() + data[32:])
        Outcomes.from_bytes(data)
        return of_workspace(row)

    return read


def _outcomes_seeds() -> list[bytes]:
    from leaderboard.outcome_files import _header
    from leaderboard.outcomes import Outcomes
    from leaderboard.predictions import scorer_digest

    right = np.arange(11) % 2 == 0
    outcomes = Outcomes(right, ~right, np.linspace(-1, 1, 11, dtype=np.float32))
    return [b"0" * 32 + _header(_outcome_row(), scorer_digest()) + outcomes.to_bytes()]


def _form(folder: Path) -> Read:
    """The form of a submission, and what it is shown as."""

    def read(data: bytes) -> object:
        (folder / FORM_FILE).write_bytes(data)
        form = read_form(folder)
        return form_text(form, form.name)

    return read


def _form_seeds() -> list[bytes]:
    form = Form("m", "icons", ("m.py:M",), ("A. Author",), "none", "https://example.org", "MIT")
    return [form_text(form, "m(alpha=0.5)").encode()]


def _sums(folder: Path) -> Read:
    """The digests of a submission's files, with one that is true."""
    (folder / "code").mkdir()
    (folder / "code" / "m.py").write_bytes(b"code")

    def read(data: bytes) -> object:
        (folder / SUMS_FILE).write_bytes(data)
        check_sums(folder, ["code/m.py", SUMS_FILE])
        return digest_inside(folder, SUMS_FILE)

    return read


def _sums_seeds() -> list[bytes]:
    return [f"{hashlib.sha256(b'code').hexdigest()}  code/m.py\n".encode()]


TARGETS: Mapping[str, Target] = {
    "run-json": Target(_run_json, lambda: [seal(_record())]),
    "show-run": Target(_show_run, lambda: [seal(_record())]),
    "predictions": Target(_predictions, _predictions_seeds),
    "results": Target(_results, _results_seeds),
    "outcomes": Target(_outcomes, _outcomes_seeds),
    "submission-toml": Target(_form, _form_seeds, (RefusedError,)),
    "submission-sums": Target(_sums, _sums_seeds, (RefusedError,)),
}
