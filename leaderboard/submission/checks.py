"""The checks of a submission, each with a name and a purpose. They import and run none of its code.

A check passes, fails with a reason for the author, or is flagged: a person has to look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmark.errors import MAX_ITEM, HTBenchError, first
from benchmark.files import digest_json, is_safetensors, open_inside
from benchmark.manifest.catalogue import pinned_digests
from benchmark.records import PREDICTIONS_FILE, PROTOCOL, RunRecord
from benchmark.text import one_line, seed_list
from leaderboard.accepted import read_log, shown_entries
from leaderboard.predictions import score_with_outcomes, scorer_digest
from leaderboard.rows import group_rows, json_text, rows_of_table
from leaderboard.submission import suspicions
from leaderboard.submission.folder import (
    CODE_FOLDER,
    FORM_FILE,
    MAX_TOTAL,
    RUNS_FOLDER,
    RefusedError,
    check_sums,
    digest_inside,
    list_files,
)
from leaderboard.submission.state import (
    FAILED,
    FLAGGED,
    NOT_RUN,
    OK,
    FlaggedError,
    Result,
    Submission,
)
from leaderboard.versions import Version, version_of

# What one machine reports in the same way for every run.
MACHINE = ("cpu", "cpu_capability", "device", "htbench", "python", "torch")
OURS = "baselines/"  # begins the names of the benchmark's own files, which no folder has copies of
_SETTING = re.compile(r"(?:\(|, )([A-Za-z_]\w*)=")  # a name in the brackets of a label
TEXTS = (".csv", ".json", ".md", ".py", ".toml", ".txt", ".yaml", ".yml")
BINARIES = (".parquet", ".safetensors")


class Check(NamedTuple):
    """A check: raises ``RefusedError``, ``FlaggedError``, or another error that it fails with."""

    name: str
    purpose: str
    run: Callable[[Submission], None]


def inspect(submission: Submission) -> Iterator[Result]:
    """Carry out the checks in order; where one of a stage fails, later stages are not run."""
    for stage in STAGES:
        refused = submission.is_refused
        for check in stage:
            state, reason = (NOT_RUN, "") if refused else _carry_out(check, submission)
            result = Result(check.name, check.purpose, state, reason)
            submission.results.append(result)
            yield result


def _carry_out(check: Check, submission: Submission) -> tuple[str, str]:
    try:
        check.run(submission)
    except FlaggedError as reason:
        return FLAGGED, str(reason)
    except (RefusedError, HTBenchError) as reason:
        # The remedy for a run in a workspace is to delete it; here nothing is to be deleted.
        return FAILED, str(reason).partition("; delete the run's folder")[0]
    except OSError as error:
        return FAILED, f"a file cannot be read: {error.strerror}"
    return OK, ""


# --- the folder ----------------------------------------------------------------------------------


def _files(submission: Submission) -> None:
    submission.files = list_files(submission.root)


def _sums(submission: Submission) -> None:
    check_sums(submission.root, submission.files)


def _form(submission: Submission) -> None:
    form = submission.form
    if submission.own_suite is not None and form.suite != submission.own_suite.name:
        raise RefusedError(
            f"suite in {FORM_FILE} is {one_line(repr(form.suite), MAX_ITEM)}, not "
            f"{submission.own_suite.name!r}"
        )
    for plugin in form.plugins:
        file, colon, name = plugin.rpartition(":")
        if not (colon and name.isidentifier() and f"{CODE_FOLDER}/{file}" in submission.files):
            raise RefusedError(
                f"plugins in {FORM_FILE}: {plugin!r} is not a file of {CODE_FOLDER}/ with the name "
                "of a class, such as my_method.py:MyMethod"
            )
        with open_inside(submission.root, f"{CODE_FOLDER}/{file}") as opened:
            source = opened.read(MAX_TOTAL[CODE_FOLDER])
        # Not parsed: the syntax tree of such a file could take all memory.
        start = rb"^[ \t]*class[ \t]+" + name.encode() + rb"[ \t]*[(:\[]"
        if not re.search(start, source, re.MULTILINE):
            raise RefusedError(
                f"plugins in {FORM_FILE}: {CODE_FOLDER}/{file} has no class "
                f"{one_line(name, MAX_ITEM)}"
            )


def _name(submission: Submission) -> None:
    name = submission.form.name  # a plain one: the records of its runs have been checked
    if name in submission.taken:
        raise RefusedError(f"{name!r} is the name of a method of the benchmark; choose another")
    codes = {submission.by_key[record.key]["method_code"] for record in submission.of_method}
    published = rows_of_table(submission.others, ["method", "method_code"])
    for (suite, other), entry in shown_entries(read_log(submission.published)).items():
        if other != name or entry.submission == submission.digest:
            continue
        theirs = {row["method_code"] for row in published if row["method"] == name}
        if suite == submission.suite.name or codes != theirs:
            raise RefusedError(
                f"{name!r} is the name of a method on the board of {suite}; choose another, or ask "
                "the maintainers to withdraw that one"
            )


def _suite(submission: Submission) -> None:
    manifest = submission.manifest
    if submission.suite.tuned:
        raise RefusedError("suites of tuned methods take no submissions")
    is_published = pinned_digests().get(manifest.reference) == manifest.digest
    if submission.own_suite is None and not is_published:
        raise RefusedError(f"{manifest.reference} is not a published manifest with a pinned digest")


# --- the runs ------------------------------------------------------------------------------------


def _records(submission: Submission) -> None:
    runs = submission.of_method
    if not runs:
        raise RefusedError(f"there is no run of {submission.form.name}")
    wanted = {record.key for record in runs}
    waiting = list(runs)
    while waiting:
        base = waiting.pop().made_from["base"]
        if base is not None and base not in wanted:
            if base not in submission.records:
                raise RefusedError(f"the record of run {base[:12]!r}, a base, is missing")
            wanted.add(base)
            waiting.append(submission.records[base])
    if foreign := sorted(submission.records.keys() - wanted):
        raise RefusedError(
            f"these runs are neither of {submission.form.name} nor what it starts from: "
            f"{first(key[:12] for key in foreign)}"
        )
    own = {record.key for record in runs}
    for key in sorted(submission.records):
        has = f"{RUNS_FOLDER}/{key}/{PREDICTIONS_FILE}" in submission.files
        if has != (key in own):
            what = "predictions that do not belong here" if has else "no predictions"
            raise RefusedError(f"run {key[:12]} has {what}")


def _grid(submission: Submission) -> None:
    suite = submission.suite
    runs = submission.of_method
    for record in submission.records.values():
        if record.status != "ok":
            raise RefusedError(
                f"run {record.key[:12]} ({record.task}, seed {record.seed}) has status "
                f"{record.status}; every run must have succeeded"
            )
        if record.track != "standard":
            raise RefusedError("oracles are methods of the benchmark only")
    wanted = [(task, seed) for task in suite.tasks for seed in suite.seeds]
    cells = [(record.task, record.seed) for record in runs]
    if extra := sorted(set(cells) - set(wanted)):
        raise RefusedError(
            f"these cells are not in suite {suite.name}, whose seeds are "
            f"{seed_list(suite.seeds)}: {_cells(extra)}"
        )
    if missing := [cell for cell in wanted if cell not in cells]:
        raise RefusedError(f"these cells of suite {suite.name} are missing: {_cells(missing)}")
    if twice := sorted({cell for cell in cells if cells.count(cell) > 1}):
        raise RefusedError(f"these cells have several runs: {_cells(twice)}")


def _cells(cells: Iterable[tuple[str, int]]) -> str:
    return first(f"{task}, seed {seed}" for task, seed in cells)


def _version(submission: Submission) -> None:
    rows = [submission.by_key[record.key] for record in submission.of_method]
    versions = {version_of(row, submission.by_key) for row in rows}
    if len(versions) > 1:
        names = [n for n in Version._fields if len({getattr(v, n) for v in versions}) > 1]
        raise RefusedError(
            f"its runs are not of one version: they differ in {', '.join(names)}; run the whole "
            "suite again with one version of the method and of the benchmark"
        )
    for record in submission.of_method:
        settings = record.label.removeprefix(record.method)
        names = _SETTING.findall(settings)
        text = ", ".join(f"{name}={record.config.get(name)}" for name in names)
        if settings and settings != f"({text})":
            raise RefusedError(
                f"the label {one_line(repr(record.label), MAX_ITEM)} does not name its settings"
            )


def _machine(submission: Submission) -> None:
    for name in MACHINE:
        values = {str(r.environment.get(name)) for r in submission.records.values()}
        if len(values) > 1:
            raise RefusedError(
                f"its runs are of several machines: {name} is {first(sorted(values))}; run the "
                "whole suite on one kind of machine"
            )


def _conditions(submission: Submission) -> None:
    manifest, suite = submission.manifest, submission.suite
    sources = _sources(submission)
    published = set(submission.others["computation"].to_pylist())
    # Not a set: a record may have a list or an object in the digest's place.
    known = [submission.compute, *{json.loads(text).get("compute") for text in published}]
    expected = {
        "manifest": manifest.reference,
        "manifest_digest": manifest.digest,
        "protocol": PROTOCOL,
        "model": json_text(manifest.document["model"]),
        "recipe_digest": digest_json(manifest.recipe),
        "search": None,
    }
    for row in submission.by_key.values():
        where = f"run {row['key'][:12]} ({row['task']}, seed {row['seed']})"
        if other := [name for name, value in expected.items() if row[name] != value]:
            raise RefusedError(f"{where} has another {other[0]} than suite {suite.name}")
        source = sources.get((row["task"], row["seed"]))
        if source is None:
            raise RefusedError(
                f"{manifest.reference} pins no source model for {where}, and none is published, so "
                "its row cannot be compared"
            )
        if row["source_digest"] != source:
            raise RefusedError(
                f"{where} starts from the source model {row['source_digest'][:12]!r}, not from "
                f"{source[:12]!r}"
            )
        if json.loads(row["computation"]).get("compute") not in known:
            raise RefusedError(
                f"{where} was computed by code that is neither this version of the benchmark nor "
                "one with published results"
            )


def _sources(submission: Submission) -> dict[tuple[str, int], str]:
    """The source model of each cell: the pinned one, or else that of the published rows."""
    manifest, suite = submission.manifest, submission.suite
    names = ["manifest_digest", "task", "seed", "source_digest"]
    sources = {
        (row["task"], row["seed"]): row["source_digest"]
        for row in rows_of_table(submission.others, names)
        if row["manifest_digest"] == manifest.digest
    }
    for task in map(manifest.task, suite.tasks):
        for seed in suite.seeds:
            number = seed % manifest.source_seeds
            for pin in manifest.checkpoints:
                if (set(pin.sources), pin.seed) == (set(task.sources), number):
                    sources[task.id, seed] = pin.sha256
    return sources


# --- the code ------------------------------------------------------------------------------------


def _code(submission: Submission) -> None:
    recorded: dict[str, str] = {}
    for record in submission.records.values():
        files = own_files(record)
        if record.method == submission.form.name and not files:
            raise RefusedError("its runs ran no code of their own")
        for name, digest in files.items():
            if recorded.setdefault(name, digest) != digest:
                raise RefusedError(f"its runs differ in the file {one_line(repr(name), MAX_ITEM)}")
    present = {p.partition("/")[2] for p in submission.files if p.startswith(f"{CODE_FOLDER}/")}
    if missing := sorted(recorded.keys() - present):
        raise RefusedError(f"{CODE_FOLDER}/ does not have {first(missing)}, which its runs ran")
    if unread := sorted(present - recorded.keys()):
        raise RefusedError(
            f"{CODE_FOLDER}/ has files that its runs could not read: {first(unread)}"
        )
    for name, digest in sorted(recorded.items()):
        path = f"{CODE_FOLDER}/{name}"
        if digest_inside(submission.root, path) != digest:
            raise RefusedError(f"{path} is not the file that its runs ran")
        check_kind(submission.root, path)


def own_files(record: RunRecord) -> dict[str, str]:
    """The method's own files by name, without the benchmark's, with their SHA-256."""
    match record.made_from["method"]:
        case {"code": {"files": [*entries]}}:
            files = {}
            for entry in entries:
                match entry:
                    case [str(name), str(digest)]:
                        files[name] = digest
                    case _:
                        break
            else:
                return {n: digest for n, digest in files.items() if not n.startswith(OURS)}
    raise RefusedError(f"run {record.key[:12]} does not say which files it ran")


def check_kind(root: Path, path: str) -> None:
    """Refuse a file that is not what its suffix says, pickles above all."""
    suffix = Path(path).suffix
    with open_inside(root, path) as file:
        if suffix == ".safetensors" and is_safetensors(file.read(9)):
            return
        if suffix == ".parquet" and file.read(4) == b"PAR1":
            return
        if suffix in TEXTS and _is_text(file.read()):
            return
    raise RefusedError(
        f"{path} is not text or data that can be read without running code; a file "
        f"may be one of {', '.join((*TEXTS, *BINARIES))}, and pickles are refused"
    )


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        return False


# --- the predictions -----------------------------------------------------------------------------


def _predictions(submission: Submission) -> None:
    for record in submission.of_method:
        name = f"{RUNS_FOLDER}/{record.key}/{PREDICTIONS_FILE}"
        if digest_inside(submission.root, name) != record.predictions_sha256:
            raise RefusedError(
                f"the predictions of run {record.key[:12]} do not match the SHA-256 in its record"
            )
        path = submission.root / name
        scores, outcomes = score_with_outcomes(path, submission.manifest, record.task)
        submission.scores[record.key] = {"scorer_digest": scorer_digest(), **scores.as_dict()}
        submission.outcomes[record.key] = outcomes


def _duplicate(submission: Submission) -> None:
    manifest = submission.manifest
    recipe = digest_json(manifest.recipe)
    ours = {(r.task, r.seed): r.predictions_sha256 for r in submission.of_method}
    names = ["method", "label", "task", "seed", "predictions_sha256"]
    rows = [
        row
        for row in rows_of_table(submission.others, [*names, "manifest_digest", "recipe_digest"])
        if (row["manifest_digest"], row["recipe_digest"]) == (manifest.digest, recipe)
        and row["method"] != submission.form.name
    ]
    for label, group in group_rows(rows, lambda row: row["label"]).items():
        theirs = {(row["task"], row["seed"]): row["predictions_sha256"] for row in group}
        if all(theirs.get(cell) == digest for cell, digest in ours.items()):
            raise RefusedError(f"its predictions are those of {label}, which is published")


STAGES: tuple[tuple[Check, ...], ...] = (
    (Check("files", "few, small, plain files, and none that does not belong", _files),),
    (
        Check("sums", "SHA256SUMS lists exactly these files with their digests", _sums),
        Check("form", "submission.toml is filled in", _form),
    ),
    (
        Check("suite", "a published suite with a pinned manifest", _suite),
        Check("records", "a record for each run and what it starts from, and no other", _records),
    ),
    (
        Check("name", "a plain name that no other method has", _name),
        Check("grid", "exactly the tasks and seeds of the suite, each run once", _grid),
        Check("version", "one version of the code, the settings and the benchmark", _version),
        Check("machine", "one kind of machine", _machine),
        Check(
            "conditions", "the recipe, the network and the source models of the suite", _conditions
        ),
        Check("code", "the files that the runs ran, all readable, no pickle", _code),
        Check(
            "predictions",
            "exactly the test images, from which the scores are computed",
            _predictions,
        ),
    ),
    (
        Check("duplicate", "not the predictions of a published method", _duplicate),
        Check("lock", "the runs report the measures of isolation", suspicions.lock),
        Check("oracle", "missing accuracy below the oracle's interval", suspicions.oracle),
        Check("steps", "no large gain without a gradient step", suspicions.steps),
        Check("labels", "predictions that are not the labels", suspicions.labels),
    ),
)
CHECKS = tuple(check for stage in STAGES for check in stage)
