"""Pack the runs of a method into the folder of a submission."""

from __future__ import annotations

import ast
import platform
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmark.commands import command
from benchmark.errors import UsageError, first
from benchmark.files import matches_digest, new_folder
from benchmark.manifest.suite import Suite, manifest_of
from benchmark.methods import files as method_files
from benchmark.methods.files import is_kept
from benchmark.methods.find import builtin_methods
from benchmark.records import (
    PREDICTIONS_FILE,
    PROTOCOL,
    RECORD_FILE,
    RunRecord,
    verified_predictions,
)
from benchmark.runs.workspace import Workspace
from benchmark.text import near, seed_list
from leaderboard import gamma_star
from leaderboard.board import build_boards
from leaderboard.results import Report, update_results
from leaderboard.row_columns import Rows
from leaderboard.rows import Row, json_text
from leaderboard.submission.checks import OURS, check_kind
from leaderboard.submission.folder import (
    CODE_FOLDER,
    ENVIRONMENT_FILE,
    FORM_FILE,
    RUNS_FOLDER,
    SUMS_FILE,
    Form,
    RefusedError,
    check_entry,
    form_text,
    list_files,
    sums_of,
)


def pack(
    name: str,
    suite: Suite,
    workspace: Workspace,
    out: Path,
    *,
    code_folder: Path | None = None,
    authors: Sequence[str] = (),
    paper: str = "",
    code: str = "",
    licence: str = "",
    report: Report = warnings.warn,
) -> None:
    """Pack the runs of a method on a suite: of its version that the board shows.

    Args:
        name: the method's name or label.
        suite: the suite, all of whose tasks and seeds must have a run that succeeded.
        workspace: where the runs are.
        out: the folder to create.
        code_folder: where to look for files of the method that its runs did not keep.
        authors, paper, code, licence: entries of ``submission.toml``; what is empty there is for
            the author to fill in.
        report: see ``update_results``.

    Raises:
        UsageError: runs or files are missing, the method cannot be submitted, an entry is not
            allowed, or ``out`` exists.
    """
    if suite.tuned:
        raise UsageError(f"suite {suite.name} has tuned methods, and takes no submissions")
    _check_entries({"authors": [*authors], "paper": paper, "code": code, "licence": licence})
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} exists; choose another folder with --out")
    rows = _rows(name, suite, workspace, report)
    method, label = rows[0]["method"], rows[0]["label"]
    if method in builtin_methods():
        raise UsageError(
            f"{method} comes with the benchmark; a submission is of a method of your own, which "
            "runs with --plugin FILE.py"
        )
    records = _with_bases([row["key"] for row in rows], workspace)
    with new_folder(out) as building:
        for key, record in records.items():
            folder = building / RUNS_FOLDER / key
            folder.mkdir(parents=True)
            shutil.copyfile(workspace.folder(key) / RECORD_FILE, folder / RECORD_FILE)
            if record.method == method:
                predictions = verified_predictions(workspace.folder(key), record.predictions_sha256)
                shutil.copyfile(predictions, folder / PREDICTIONS_FILE)
            _copy_code(record, workspace.folder(key), code_folder, building / CODE_FOLDER)
        form = Form(
            name=method,
            suite=suite.name,
            plugins=_plugins(building / CODE_FOLDER, records.values()),
            authors=tuple(authors) or ("",),
            paper=paper,
            code=code,
            licence=licence,
        )
        (building / FORM_FILE).write_text(form_text(form, label), "utf-8")
        (building / ENVIRONMENT_FILE).write_text(_environment(), "utf-8")
        (building / SUMS_FILE).touch()
        (building / SUMS_FILE).write_bytes(sums_of(building, _checked_files(building, label)))


def _with_bases(keys: Iterable[str], workspace: Workspace) -> dict[str, RunRecord]:
    """The records of runs, and of all runs that they start from, by key."""
    records: dict[str, RunRecord] = {}
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        records[key] = RunRecord.read(workspace.folder(key), key)
        if (base := records[key].made_from["base"]) is not None:
            waiting.append(base)
    return records


def _checked_files(building: Path, label: str) -> Iterable[str]:
    """The files that were packed, checked as ``submit check`` will.

    Raises:
        UsageError: one is too large, of a kind that is refused, or has a name that is not plain.
    """
    try:
        files = list_files(building)
        for path in files:
            if path.startswith(f"{CODE_FOLDER}/"):
                check_kind(building, path)
    except RefusedError as error:
        raise UsageError(
            f"{label} cannot be submitted: {error}. Change its files, then run it again"
        ) from None
    return files


def _check_entries(entries: Mapping[str, Any]) -> None:
    """Check the entries that are not left to fill in, as ``submit check`` will.

    Raises:
        UsageError: one is not allowed.
    """
    for name, value in entries.items():
        try:
            if value:
                check_entry(name, value)
        except RefusedError as error:
            raise UsageError(str(error)) from None


def _rows(name: str, suite: Suite, workspace: Workspace, report: Report) -> list[Row]:
    """The rows of the version of a method that the board shows: one for each cell of the suite.

    Of several tables, such as those of two source models, the one in which most of its runs
    succeeded. Runs of another recipe, network or protocol are not of the suite.
    """
    manifest = manifest_of(suite)
    results = update_results(workspace.root, [manifest], report)
    facts = {"model": json_text(manifest.document["model"]), "protocol": PROTOCOL}
    tables = [
        board.rows.where(~board.rows.equal("method", gamma_star.NAME))
        for board in build_boards(suite, manifest, results)
        if not board.is_tuned and all(board.rows[0][name] == facts[name] for name in facts)
    ]
    labels = sorted({label for table in tables for label in table.codes("label").names})
    matching = [label for label in labels if name in (label, label.partition("(")[0])]
    exact = [label for label in matching if label == name] or matching
    options = ("--suite", suite.argument, *workspace.option)
    if not exact:
        raise UsageError(
            f"the workspace {workspace.root} has no run of {name!r} on suite {suite.name}; "
            f"{near(name, labels)}run it first: `{command('run', *options, '--plugin', 'FILE.py')}`"
        )
    if len(exact) > 1:
        raise UsageError(f"{name!r} has runs with several settings; name one of: {first(exact, 9)}")
    ok = max((_succeeded(table, exact[0]) for table in tables), key=len)
    missing = [
        f"{task}, {seed_list(seeds)}"
        for task in suite.tasks
        if (seeds := [seed for seed in suite.seeds if (task, seed) not in ok])
    ]
    if missing:
        raise UsageError(
            f"{exact[0]} has no successful run of one version on {first(missing)}; a submission "
            f"has the whole suite: `{command('run', *options, '--plugin', 'FILE.py')}`"
        )
    return [ok[task, seed] for task in suite.tasks for seed in suite.seeds]


def _succeeded(rows: Rows, label: str) -> dict[tuple[str, int], Row]:
    """The rows of a label with scores, by task and seed."""
    of_label = rows.where(rows.equal("label", label) & rows.equal("status", "ok"))
    return {(row["task"], row["seed"]): row for row in of_label}


def _copy_code(record: RunRecord, folder: Path, other: Path | None, target: Path) -> None:
    """Copy the files that a run read, without the benchmark's own, from the run or elsewhere."""
    for name, digest in record.made_from["method"]["code"]["files"]:
        if name.startswith(OURS):
            continue
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_kept(folder, name, digest):
            shutil.copyfile(folder / method_files.CODE_FOLDER / name, path)
        elif other is not None and matches_digest(other / name, digest):
            shutil.copyfile(other / name, path)
        else:
            raise UsageError(
                f"the runs of {record.label} did not keep their file {name}; name the folder that "
                "has it, unchanged, with --code-folder"
            )


def _plugins(folder: Path, records: Iterable[RunRecord]) -> tuple[str, ...]:
    """``FILE.py:CLASS`` of each method that is not the benchmark's own."""
    names = {record.method for record in records} - set(builtin_methods())
    plugins: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in _nodes(path):
            if isinstance(node, ast.ClassDef) and (name := _method_name(node)) in names:
                plugins.setdefault(name, f"{path.relative_to(folder).as_posix()}:{node.name}")
    if absent := sorted(names - plugins.keys()):
        raise UsageError(
            f"no class in the files of the method has the name {first(absent)}; write it in the "
            'class, such as name = "my-method", and keep the method in files of its own rather '
            "than in an installed package"
        )
    return tuple(plugins.values())


def _nodes(path: Path) -> Iterator[ast.AST]:
    """The syntax tree of a file; none for data that a method only reads, such as a template."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    yield from ast.walk(tree)


def _method_name(node: ast.ClassDef) -> str:
    """The text that a class has as ``name``, or empty."""
    for statement in node.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(text)))
                | ast.AnnAssign(target=ast.Name(id="name"), value=ast.Constant(value=str(text)))
            ):
                return text
    return ""


def _environment() -> str:
    """The interpreter and the installed packages, as ``pip install -r`` reads them."""
    names: Mapping[str, Any] = {
        d.metadata["Name"]: d.version for d in metadata.distributions() if d.metadata["Name"]
    }
    lines = [f"{name}=={version}" for name, version in sorted(names.items(), key=str)]
    head = f"# Python {platform.python_version()}, {platform.platform()}; when it was packed"
    return "\n".join([head, *lines]) + "\n"
