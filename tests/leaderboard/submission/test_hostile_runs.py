"""Hostile runs, code and predictions: each is refused or flagged by a named check."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.files import digest_file
from benchmark.manifest.manifest import Manifest
from benchmark.records import PREDICTIONS_FILE, read_predictions, write_predictions
from htbench.submission import pack as module
from leaderboard.accepted import SUBMITTED
from leaderboard.published import FOLDER
from leaderboard.submission import checks
from leaderboard.submission import folder as folders
from tests.leaderboard.submission.folders import (
    CODE,
    FILE,
    SUITE,
    Pack,
    WriteRun,
    change_record,
    checked,
    packed,
    reasons,
    records,
    refresh_sums,
    write,
)

# --- the runs ------------------------------------------------------------------------------------


def test_a_fake_record_is_refused(submit: Pack, published: Path) -> None:
    folder = submit()
    path = records(folder)[0]
    path.write_text('{"overall": 100.0}')
    refresh_sums(folder)
    found = reasons(checked(folder, published))["records"]
    assert "is not a run record of format" in found
    assert "rm -r" not in found
    path.write_text("[" * 100_000)
    refresh_sums(folder)
    assert "is not valid JSON" in reasons(checked(folder, published))["records"]


def test_a_record_whose_inputs_were_changed_is_refused(submit: Pack, published: Path) -> None:
    folder = submit()
    path = records(folder)[0]
    made_from = json.loads(path.read_text())["made_from"]
    change_record(path, made_from={**made_from, "seed": 5}, seed=5)
    assert "the key does not match made_from" in reasons(checked(folder, published))["records"]


def test_runs_that_are_not_the_method_s_are_refused(
    submit: Pack, published: Path, write_run: WriteRun, icons: Manifest
) -> None:
    folder = submit()
    other = write(write_run, icons, folder, 0, method="other")
    shutil.rmtree(folder / "runs" / other.key / "code")
    refresh_sums(folder)
    assert "these runs are neither of half-way" in reasons(checked(folder, published))["records"]


@pytest.mark.parametrize(
    ("status", "message"), [("failed", "has status failed"), ("oracle", "oracles are methods of")]
)
def test_failed_runs_and_oracles_are_refused(
    status: str, message: str, submit: Pack, published: Path
) -> None:
    folder = submit(track="oracle" if status == "oracle" else "standard")
    if status == "failed":
        change_record(records(folder)[0], status="failed")
    assert message in reasons(checked(folder, published))["grid"]


@pytest.mark.parametrize(
    "cost", [{"finished": 1e300}, {"adapt_seconds": -1.0}, {"adapt_seconds": 5e-324}]
)
def test_costs_that_cannot_be_are_refused(
    submit: Pack, published: Path, cost: dict[str, float]
) -> None:
    """They would end the board, its means or its figures in a traceback."""
    folder = submit()
    path = records(folder)[0]
    change_record(path, cost={**json.loads(path.read_text())["cost"], **cost})
    (name,) = cost
    assert f"{name} in cost is" in reasons(checked(folder, published))["records"]


def test_best_of_ten_seeds_is_refused(
    tmp_path: Path, write_run: WriteRun, icons: Manifest, published: Path
) -> None:
    ten = dataclasses.replace(SUITE, seeds=tuple(range(10)))
    folder = packed(write_run, icons, tmp_path, ten)
    assert "whose seeds are seeds 0-1" in reasons(checked(folder, published))["grid"]
    # Two of the ten under their own seeds are not the suite's.
    seeds = {json.loads(path.read_text())["seed"]: path for path in records(folder)}
    for seed, path in seeds.items():
        if seed not in (0, 5):
            shutil.rmtree(path.parent)
    refresh_sums(folder)
    assert "'outline-solid, seed 5'" in reasons(checked(folder, published))["grid"]


def test_two_runs_of_a_cell_are_refused(
    submit: Pack, published: Path, write_run: WriteRun, icons: Manifest
) -> None:
    folder = submit()
    again = write(write_run, icons, folder, 0, config={"rate": 2}, label="half-way(rate=2)")
    shutil.rmtree(folder / "runs" / again.key / "code")
    refresh_sums(folder)
    found = reasons(checked(folder, published))
    assert "these cells have several runs" in found["grid"]
    assert "differ in settings" in found["version"]


def test_cells_of_two_versions_or_machines_are_refused(
    submit: Pack, published: Path, tmp_path: Path, write_run: WriteRun, icons: Manifest
) -> None:
    folder = submit()
    shutil.rmtree(records(folder)[0].parent)
    (seed,) = {0, 1} - {json.loads(records(folder)[0].read_text())["seed"]}
    other = {"environment": {"cpu": "a faster CPU", "torch": "2.6"}}
    run = write(write_run, icons, folder, seed, made={"torch": "2.7"}, **other)
    shutil.rmtree(folder / "runs" / run.key / "code")
    refresh_sums(folder)
    found = reasons(checked(folder, published))
    assert "differ in computation" in found["version"]
    assert "cpu is 'a CPU', 'a faster CPU'" in found["machine"]


@pytest.mark.parametrize(
    "label", ["half-way(best of all)", "half-way(a=1)(verified)", "half-way(a=9)"]
)
def test_a_label_can_only_name_settings(label: str, submit: Pack, published: Path) -> None:
    folder = submit(config={"a": 1}, label="half-way(a=1)")
    assert reasons(checked(folder, published)) == {}
    change_record(records(folder)[0], label=label)
    assert "does not name its settings" in reasons(checked(folder, published))["version"]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"recipe": {"steps": 10_000}}, "another recipe_digest"),
        ({"model": {"name": "resnet50"}}, "another model"),
        ({"protocol": "1.0"}, "another protocol"),
        ({"source": "f" * 64}, "starts from the source model 'ffffffffffff'"),
        ({"compute": "edited"}, "computed by code that is neither"),
        (
            {"search": {"by": "grid", "folds": 2, "steps": 9, "chosen": {}, "tried": []}},
            "another search",
        ),
        ({"compute": ["the code"]}, "neither this version of the benchmark nor"),
    ],
)
def test_other_conditions_are_refused(
    made: dict[str, Any],
    message: str,
    submit: Pack,
    write_run: WriteRun,
    icons: Manifest,
    published: Path,
) -> None:
    folder = submit()
    shutil.rmtree(folder / "runs")
    for seed in SUITE.seeds:
        write(write_run, icons, folder, seed, made=made)
    for path in folder.glob("runs/*/code"):
        shutil.rmtree(path)
    refresh_sums(folder)
    assert message in reasons(checked(folder, published))["conditions"]


def test_a_changed_manifest_of_a_published_name_is_refused(
    submit: Pack, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "pinned_digests", lambda: {"icons@2.0": "another"})
    found = reasons(checked(submit(), published, own_suite=None))
    assert "icons@2.0 is not a published manifest" in found["suite"]


# --- the code ------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.abort, ()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.pkl", "text"),
        ("w.pt", "text"),
        ("w.npy", "text"),
        ("w.so", "text"),
        ("w", "text"),
        ("w.safetensors", pickle.dumps(Bomb()).decode("latin-1")),
        ("w.txt", "a\0b"),
    ],
)
def test_pickles_and_binaries_are_refused(
    name: str, content: str, submit: Pack, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "check_kind", lambda root, path: None)  # our own `submit pack` does
    folder = submit(code={FILE: CODE, name: content})
    assert "pickles are refused" in reasons(checked(folder, published))["code"]


def test_the_code_is_never_imported(submit: Pack, published: Path) -> None:
    code = f"{CODE}raise SystemExit('imported')\n"
    assert reasons(checked(submit(code={FILE: code}), published)) == {}


def test_data_files_that_hold_no_code_are_accepted(submit: Pack, published: Path) -> None:
    code = {FILE: CODE, "w.safetensors": "\x08\0\0\0\0\0\0\0{}      ", "prompts/a.json": "{}"}
    assert reasons(checked(submit(code=code), published)) == {}


def test_the_code_must_be_what_ran(submit: Pack, published: Path) -> None:
    folder = submit()
    (folder / "code" / FILE).write_text(CODE + "# nothing to see here\n")
    refresh_sums(folder)
    assert "is not the file that its runs ran" in reasons(checked(folder, published))["code"]
    (folder / "code" / "labels.json").write_text("{}")
    refresh_sums(folder)
    assert "could not read: 'labels.json'" in reasons(checked(folder, published))["code"]


# --- the predictions -----------------------------------------------------------------------------


def edit_predictions(folder: Path, edit: Callable[..., Any], *, resealed: bool) -> None:
    for path in records(folder):
        file = path.with_name(PREDICTIONS_FILE)
        ids, logits = read_predictions(file)
        write_predictions(file, *edit(ids, logits.copy()))
        if resealed:
            change_record(path, predictions_sha256=digest_file(file))
    refresh_sums(folder)


def test_scores_come_from_the_predictions_whose_digest_the_record_has(
    submit: Pack, published: Path
) -> None:
    folder = submit()
    edit_predictions(folder, lambda ids, logits: (ids, logits + 1), resealed=False)
    found = reasons(checked(folder, published))["predictions"]
    assert "do not match the SHA-256 in its record" in found


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda ids, logits: (ids[1:], logits[1:]), "missing"),
        (lambda ids, logits: ((ids[1], *ids[1:]), logits), "repeated"),
        (lambda ids, logits: (("other", *ids[1:]), logits), "other"),
        (lambda ids, logits: (ids, logits * np.nan), "NaN"),
        (lambda ids, logits: (ids, logits[:, 1:]), "64"),
    ],
)
def test_predictions_must_be_of_exactly_the_test_images(
    edit: Callable[..., Any], message: str, submit: Pack, published: Path
) -> None:
    folder = submit()
    edit_predictions(folder, edit, resealed=True)
    assert message in reasons(checked(folder, published))["predictions"]


def test_a_method_that_memorises_the_labels_is_flagged(
    submit: Pack, published: Path, icons: Manifest
) -> None:
    submission = checked(submit(skill=1000.0), published)
    found = reasons(submission)
    assert list(found) == ["labels"]
    assert "nearly the labels: 'outline-solid, seed 0', 'outline-solid, seed 1'" in found["labels"]
    assert not submission.is_refused
    assert len(submission.flags) == 1


def test_published_predictions_under_another_name_are_refused(
    submit: Pack, published: Path, write_run: WriteRun
) -> None:
    folder = submit()
    submission = checked(folder, published)
    others = submission.table(SUBMITTED).to_pylist()
    renamed = [{**row, "method": "gla", "label": "gla", "key": f"g{row['seed']}"} for row in others]
    submission.others = pa.Table.from_pylist(renamed, schema=submission.others.schema)
    with pytest.raises(folders.RefusedError, match="its predictions are those of gla"):
        checks._duplicate(submission)


def test_an_oracle_in_disguise_is_flagged(submit: Pack, tmp_path: Path, icons: Manifest) -> None:
    """Logits with the skill of the oracle, whose board is the published one."""
    submission = checked(submit(skill=5.0), FOLDER)
    assert (
        "oracle-finetune, which trains on images of the missing classes"
        in (reasons(submission)["oracle"])
    )


def test_a_gain_without_steps_is_flagged(submit: Pack) -> None:
    cost = {"total_steps": 0, "sequential_steps": 0, "finished": 1.0}
    found = reasons(checked(submit(skill=4.0, cost=cost), FOLDER))
    assert "without a gradient step; the best published method without one" in found["steps"]


def test_a_run_outside_the_lock_is_flagged(submit: Pack) -> None:
    found = reasons(checked(submit(isolation=["no-network"]), FOLDER))
    assert "was not fully locked in: no no-capabilities, no-filesystem" in found["lock"]


def test_parquet_with_a_schema_of_its_own_is_refused(submit: Pack, published: Path) -> None:
    folder = submit()
    for path in records(folder):
        file = path.with_name(PREDICTIONS_FILE)
        pq.write_table(pa.table({"sample_id": ["a"], "logits": ["b"]}), file)
        change_record(path, predictions_sha256=digest_file(file))
    assert "not lists of floats" in reasons(checked(folder, published))["predictions"]
