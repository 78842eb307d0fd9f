"""Write the results of a suite as a data set that others load, check and cite."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.errors import MAX_ITEM, DataError, UsageError
from benchmark.files import check_output, digest_file, new_folder, read_bounded, read_json
from benchmark.manifest.croissant import croissant_text
from benchmark.manifest.manifest import IMAGES_FILE, MANIFEST_FILE, Manifest
from benchmark.records import read_predictions, verified_predictions
from benchmark.runs.workspace import Workspace
from benchmark.text import one_line, time_of
from htbench.dataset_card import (
    BOARD_FILE,
    PREDICTIONS,
    RESULTS_FILE,
    About,
    Card,
    Change,
    metadata_files,
)
from htbench.site import write_boards_site
from leaderboard.board import Board
from leaderboard.gamma_star import NAME as GAMMA_STAR
from leaderboard.render.data import nan_to_none
from leaderboard.render.parquet import to_parquet
from leaderboard.rows import METRICS, SCHEMA, Row, rows_of_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from leaderboard.published_predictions import Predictions

SUMS_FILE = "SHA256SUMS"
CHANGES_FILE = "changes.json"
MAX_BYTES = 8 << 20  # of the list of digests and of the changes
MANIFEST_FILES = (MANIFEST_FILE, IMAGES_FILE, "ATTRIBUTION.csv")
# Folders whose files a new version may no longer have.
REPLACED = ("manifests/*", f"{PREDICTIONS}/*", "site/*")


def write_publication(
    folder: Path,
    boards: Sequence[Board],
    about: About,
    predictions: Callable[[Sequence[Row]], Iterable[Predictions]] | None = None,
) -> Change | None:
    """Write the boards of a suite, their runs and their manifest to a folder.

    Equal results give equal bytes. The folder appears whole or not at all.

    Args:
        folder: absent, empty, or what this function wrote, which is replaced.
        boards: the boards of a suite, at least one, with their manifest.
        about: what the user says about the data set.
        predictions: gives the predictions of the boards' runs, which are written as well, such as
            :func:`workspace_predictions`; None to write none.

    Returns:
        How the results differ from those in the folder before; None if they do not.

    Raises:
        UsageError: the folder has files of others, or files that were edited.
        RecordError: the predictions of a run are missing or damaged.
    """
    check_folder(folder)
    manifest = boards[0].manifest
    assert manifest is not None, "boards of a suite have one"
    table = _runs(boards)
    changes, change = _changes(folder, table)
    with new_folder(folder.absolute()) as building:
        pq.write_table(table, building / RESULTS_FILE)
        (building / BOARD_FILE).write_bytes(to_parquet(boards))
        _write_manifest(building, manifest)
        if predictions is not None:
            (building / PREDICTIONS).mkdir()
            for of_run in predictions(rows_of_table(table)):
                _write_run(building / PREDICTIONS, *of_run)
        write_boards_site(building / "site", boards)
        has_images = manifest.document.get("images") == "embedded"
        digest = hashlib.sha256(_sums(building).encode()).hexdigest()
        has_predictions = predictions is not None
        card = Card(boards, manifest, about, tuple(changes), has_predictions, has_images, digest)
        for name, text in metadata_files(card).items():
            (building / name).write_text(text, "utf-8")
        (building / CHANGES_FILE).write_text(
            json.dumps([vars(each) for each in changes], indent=1) + "\n", "utf-8"
        )
        (building / SUMS_FILE).write_text(_sums(building), "utf-8")
    return change


def check_folder(folder: Path) -> None:
    """Check that a data set can be written to a folder.

    Raises:
        UsageError: it has files that :func:`write_publication` did not write, or that were edited.
    """
    check_output(folder, folder=True)
    names = sorted(path.relative_to(folder).as_posix() for path in _files(folder))
    if not names:
        return
    try:
        lines = read_bounded(folder / SUMS_FILE, MAX_BYTES).decode().splitlines()
    except (OSError, ValueError):
        lines = []
    digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in names:
        if name != SUMS_FILE and name not in digests:
            raise UsageError(
                f"{folder} has files that `htbench publish` did not write, such as "
                f"{one_line(name, MAX_ITEM)!r}; choose a new folder with --out, or delete them"
            )
        if name != SUMS_FILE and digest_file(folder / name) != digests[name]:
            raise UsageError(
                f"{folder / name} was edited after `htbench publish` wrote it and would be "
                "replaced; choose a new folder with --out, or delete the file"
            )


def push(folder: Path, repository: str) -> str:
    """Upload a data set to the Hugging Face Hub, with the account of its own client.

    Args:
        folder: what :func:`write_publication` wrote.
        repository: ``OWNER/NAME``; it is created if it does not exist.

    Returns:
        The address of the commit.

    Raises:
        UsageError: the upload failed; the message says why.
    """
    import huggingface_hub

    try:
        client = huggingface_hub.HfApi()
        client.create_repo(repository, repo_type="dataset", exist_ok=True)
        commit = client.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            delete_patterns=list(REPLACED),
            commit_message="Publish results with htbench publish",
        )
    except Exception as error:  # the client's, those of its HTTP library, and of the system
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise UsageError(
            f"cannot upload {folder} to {repository}: {reason}; check the name and the network, "
            "and that you are logged in (hf auth login)"
        ) from None
    return str(commit)


def _files(folder: Path) -> Iterator[Path]:
    """All that is in a folder and its subfolders, except folders."""
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _sums(folder: Path) -> str:
    """The digests of all files, as ``sha256sum -c`` reads them."""
    names = sorted(path.relative_to(folder).as_posix() for path in _files(folder))
    return "".join(f"{digest_file(folder / name)}  {name}\n" for name in names)


def _runs(boards: Sequence[Board]) -> pa.Table:
    """The rows of the runs that boards show, by key."""
    rows = {row["key"]: row for board in boards for row in board.rows}
    return pa.Table.from_pylist([rows[key] for key in sorted(rows)], schema=SCHEMA)


def _changes(folder: Path, table: pa.Table) -> tuple[list[Change], Change | None]:
    """The changes in a folder, with the new one, and the new one if there is any."""
    changes, old = [], {}
    if (folder / CHANGES_FILE).exists():
        try:
            entries = read_json(folder / CHANGES_FILE, MAX_BYTES, DataError)
            changes = [Change(**entry) for entry in entries]
            old = _scores(pq.read_table(folder / RESULTS_FILE))
        except (TypeError, KeyError, pa.ArrowException, OSError) as error:
            raise DataError(
                f"{folder} has results that cannot be read ({error}); choose a new folder with "
                "--out, or delete it"
            ) from None
    new = _scores(table)
    added, removed = new.keys() - old.keys(), old.keys() - new.keys()
    changed = {key for key in new.keys() & old.keys() if new[key] != old[key]}
    if not (added or removed or changed):
        return changes, None
    both = {**old, **new}
    labels = sorted({str(both[key][0]) for key in added | removed | changed})
    counts = len(added), len(removed), len(changed)
    change = Change(1 + len(changes), _date(table), *counts, labels)
    return [*changes, change], change


def _scores(table: pa.Table) -> dict[str, tuple[Any, ...]]:
    """What a change of results is a change of, by key; the label first.

    Metrics of failed runs are None, but NaN in files that an earlier version wrote.
    """
    names = ("label", "status", "predictions_sha256", *METRICS)
    return {
        row["key"]: tuple(nan_to_none(row[name]) for name in names) for row in rows_of_table(table)
    }


def _date(table: pa.Table) -> str | None:
    """The day on which the last run ended (UTC): two copies of the same results have the same."""
    times = [seconds for seconds in table["measured_finished"].to_pylist() if seconds]
    newest = time_of(max(times)) if times else None
    return None if newest is None else newest.date().isoformat()


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """Copy a manifest with its source models, and describe it in Croissant."""
    copy = folder / "manifests" / manifest.name / manifest.version
    pinned = [pin.file for pin in manifest.checkpoints if pin.file is not None]
    for name in (*MANIFEST_FILES, *pinned):
        if (manifest.root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(manifest.root / name, copy / name)
    (copy / "croissant.json").write_text(croissant_text(manifest), "utf-8")


def workspace_predictions(rows: Sequence[Row], workspace: Workspace) -> Iterator[Predictions]:
    """Read the predictions of a workspace's runs, one by one.

    Raises:
        RecordError: those of a run are missing or damaged.
    """
    for row in rows:
        if row["status"] == "ok" and row["method"] != GAMMA_STAR:
            source = verified_predictions(workspace.folder(row["key"]), row["predictions_sha256"])
            yield (row, *read_predictions(source))


def _write_run(folder: Path, row: Row, ids: Sequence[str], logits: NDArray[np.float32]) -> None:
    """Write the predictions of a run to a file, with the run's key in each row."""
    values = pa.array(logits.reshape(-1), pa.float32())
    lists = pa.FixedSizeListArray.from_arrays(values, logits.shape[1]).cast(pa.list_(pa.float32()))
    keys = pa.array([row["key"]] * len(ids), pa.string())
    columns = {"key": keys, "sample_id": pa.array(ids, pa.string()), "logits": lists}
    pq.write_table(pa.table(columns), folder / f"{row['key']}.parquet", use_dictionary=["key"])
