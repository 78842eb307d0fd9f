"""Merge workspaces: copy the verified runs of one into another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.errors import RecordError, UsageError
from benchmark.failpoints import reach
from benchmark.progress import Progress
from benchmark.records import PREDICTIONS_FILE, RECORD_FILE, same_predictions
from benchmark.run_folders import run_folders
from benchmark.runs.set_aside import set_aside
from benchmark.runs.verify import CheckRecord, VerifiedRun, read_run_file, verify_run
from benchmark.runs.workspace import TUNING_FOLDER, Workspace

THREADS = 8  # most of the time is spent waiting for the disk


@dataclass
class Merged:
    """What a merge did.

    Attributes:
        copied: keys of the runs that were copied.
        present: number of runs that were there already.
        problems: one sentence for each run, folder or file that was not copied.
    """

    copied: list[str] = field(default_factory=list)
    present: int = 0
    problems: list[str] = field(default_factory=list)


def merge_workspaces(
    sources: Sequence[Path], into: Path, check: CheckRecord, steps: Callable[[str], Progress]
) -> Merged:
    """Copy the runs of some workspaces, and their comparisons of settings, into another one.

    A run appears in the other workspace whole or not at all. Of two runs with one key, the one with
    predictions is kept, of two with the same predictions the first, and of two failures the later.

    Args:
        sources: folders of workspaces, which are only read.
        into: the folder of the other workspace; it may be new.
        check: checks each record.
        steps: gives a function to report the progress of one workspace to.

    Raises:
        UsageError: a source does not exist or is the other workspace.
    """
    target = Workspace(into).root
    for source in sources:
        if not source.is_dir():
            raise UsageError(f"{source} is not a folder; name the folders of workspaces")
        if source.resolve() == target:
            raise UsageError(f"{source} cannot be merged into itself; choose another --into")
    merged = Merged()
    for source in sources:
        if not any((source / name).is_dir() for name in ("runs", "locks")):
            merged.problems.append(
                f"{source} is not a workspace, because it has neither a folder runs nor locks"
            )
            continue
        for inner in (Path(), Path(TUNING_FOLDER)):
            if (source / inner / "runs").is_dir():
                pair = Workspace(source / inner), Workspace(target / inner)
                _merge(*pair, check, steps(f"merging {source / inner}"), merged)
    # A copy that is worth more may have replaced that of an earlier source.
    merged.copied = list(dict.fromkeys(merged.copied))
    return merged


def _merge(
    source: Workspace, into: Workspace, check: CheckRecord, progress: Progress, merged: Merged
) -> None:
    names = run_folders(source.runs)
    merged.problems += [
        f"{source.runs / name} was not copied, because its name is not the key of a run"
        for name in sorted(names.foreign)
    ]
    into.suite = source.newest_suite()

    def merge(key: str) -> tuple[bool | None, list[str]]:
        """Whether a run is new, None if it cannot be used; and problems."""
        problems: list[str] = []
        try:
            return merge_run(source, into, key, check, problems), problems
        except (RecordError, NotCopiedError) as error:
            return None, [*problems, f"{source.folder(key)} was not copied: {error}"]

    keys = sorted(names.keys)
    with into, ThreadPoolExecutor(THREADS) as pool:
        try:
            results = zip(keys, pool.map(merge, keys), strict=True)
            for done, (key, (is_new, problems)) in enumerate(results, start=1):
                merged.problems += problems
                if is_new:
                    merged.copied.append(key)
                elif is_new is False:
                    merged.present += 1
                progress(done, len(keys))
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, start no more


class NotCopiedError(Exception):
    """A run was not copied, although it is undamaged."""


def merge_run(
    source: Workspace,
    into: Workspace,
    key: str,
    check: CheckRecord,
    problems: list[str],
    origin: str | None = None,
) -> bool:
    """Copy one run unless it is there.

    Args:
        source: the workspace that has it; it is only read.
        into: the other workspace, entered.
        key: the run's key.
        check: checks the record.
        problems: gets a sentence for each file that is damaged and that the row does not need.
        origin: what the journal says of where the run comes from; the source's folder if None.

    Returns:
        Whether it was copied.

    Raises:
        RecordError: the run cannot be used.
        NotCopiedError: it is undamaged, but another process has the run, or its predictions differ.
    """
    folder = source.folder(key)
    run = verify_run(folder, key, check)
    problems += [f"{folder / name} was not copied: {why}" for name, why in run.damaged.items()]
    with into.claim(key) as claimed:
        if not claimed:
            raise NotCopiedError("another process is carrying it out; merge again afterwards")
        try:
            known = verify_run(into.folder(key), key, check)
        except RecordError as error:
            if into.folder(key).exists() or into.folder(key).is_symlink():
                set_aside(into, key, why=str(error))
        else:
            if _differ(run, folder, known, into.folder(key)):
                raise NotCopiedError(
                    f"its predictions differ from those of {into.folder(key)}, which were there "
                    "first and stay, although both runs have the same key"
                )
            if _worth(run) <= _worth(known):
                return False
        _copy(run, source, into, origin or str(source.root))
    return True


def _worth(run: VerifiedRun) -> tuple[int, float]:
    """Of two folders of one run, that of the greater is kept; of two failures, the later one.

    A run is repeated after a failure, with a higher limit perhaps, and may fail for another reason.
    """
    is_failure = run.record.status == "failed"
    return run.rank, run.record.cost.get("finished", 0.0) if is_failure else 0.0


def _differ(one: VerifiedRun, folder: Path, other: VerifiedRun, other_folder: Path) -> bool:
    """Whether two runs, in these folders, have different predictions."""
    digests = {one.record.predictions_sha256, other.record.predictions_sha256} - {None}
    if len(digests) < 2:
        return False
    return not same_predictions(folder / PREDICTIONS_FILE, other_folder / PREDICTIONS_FILE)


def _copy(run: VerifiedRun, source: Workspace, into: Workspace, origin: str) -> None:
    key = run.record.key
    with into.new_run(key) as building:
        for file in run.files:
            path = building / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as copy:
                read_run_file(source.folder(key), file, copy)
        (building / RECORD_FILE).write_bytes(run.record.to_bytes())
        # First the journal: no run is ever there without a line that says where it came from.
        name = f"{run.record.label} {run.record.task} seed {run.record.seed}"
        into.note("merged", key, name, source=origin)
        reach("run-copied")
