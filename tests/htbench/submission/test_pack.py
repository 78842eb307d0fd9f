"""What `submit pack` takes from a workspace, and what it says if something is missing."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.runs.workspace import Workspace
from htbench.submission.pack import pack
from leaderboard.submission.folder import list_files
from tests.conftest import WriteRun
from tests.leaderboard.submission.folders import CODE, FILE, SUITE, TASK, write

Write = Callable[..., Any]


@pytest.fixture
def ran(tmp_path: Path, write_run: WriteRun, icons: Manifest) -> Write:
    """Writes a run of the method in the workspace: ``ran(seed)``."""
    return lambda seed, **options: write(write_run, icons, tmp_path / "ws", seed, **options)


def packed(tmp_path: Path, name: str = "half-way", **options: Any) -> Path:
    out = tmp_path / "out"
    pack(name, SUITE, Workspace(tmp_path / "ws"), out, **options)
    return out


def test_a_folder_has_the_code_the_records_and_the_predictions(tmp_path: Path, ran: Write) -> None:
    keys = [ran(seed).key for seed in (0, 1)]
    out = packed(tmp_path, authors=["A. Author"], licence="MIT")
    assert list(list_files(out)) == sorted(
        [
            "SHA256SUMS",
            f"code/{FILE}",
            "environment.txt",
            *(f"runs/{key}/{file}" for key in keys for file in ("predictions.parquet", "run.json")),
            "submission.toml",
        ]
    )
    assert (out / "code" / FILE).read_text() == CODE
    assert tomllib.loads((out / "submission.toml").read_text()) == {
        "name": "half-way",
        "suite": "icons",
        "plugins": ["half_way.py:HalfWay"],
        "authors": ["A. Author"],
        "paper": "",
        "code": "",
        "licence": "MIT",
    }
    assert re.search(r"^numpy==\d", (out / "environment.txt").read_text(), re.MULTILINE)


def test_a_base_comes_with_its_record_and_without_predictions(tmp_path: Path, ran: Write) -> None:
    base_code = {"base.py": 'class Base:\n    name: str = "own-base"\n'}
    bases = [ran(seed, method="own-base", code=base_code).key for seed in (0, 1)]
    for seed, key in enumerate(bases):
        ran(seed, made={"base": key})
    out = packed(tmp_path)
    for key in bases:
        assert [path.name for path in (out / "runs" / key).iterdir()] == ["run.json"]
    form = tomllib.loads((out / "submission.toml").read_text())
    assert form["plugins"] == ["base.py:Base", "half_way.py:HalfWay"]


def test_one_of_several_settings_is_named(tmp_path: Path, ran: Write) -> None:
    for seed in (0, 1):
        ran(seed)
        ran(seed, config={"a": 1}, label="half-way(a=1)")
    out = packed(tmp_path, "half-way(a=1)")
    assert "# The submission of half-way(a=1)." in (out / "submission.toml").read_text()
    shutil.rmtree(out)
    packed(tmp_path)  # the name is that of the default settings
    shutil.rmtree(tmp_path / "ws" / "runs")
    for seed in (0, 1):
        for a in (1, 2):
            ran(seed, config={"a": a}, label=f"half-way(a={a})")
    shutil.rmtree(out)
    message = r"several settings; name one of: 'half-way\(a=1\)', 'half-way\(a=2\)'"
    with pytest.raises(UsageError, match=message):
        packed(tmp_path)


def test_missing_runs_are_named_with_the_command_that_makes_them(
    tmp_path: Path, ran: Write
) -> None:
    ran(0)
    with pytest.raises(UsageError, match=f"no successful run .* on '{TASK}, seed 1'.*htbench run"):
        packed(tmp_path)
    with pytest.raises(UsageError, match=r"no run of 'half-wy' on suite icons; .*half-way"):
        packed(tmp_path, "half-wy")
    assert not (tmp_path / "out").exists()


def test_a_file_that_the_runs_did_not_keep_comes_from_the_folder_that_is_named(
    tmp_path: Path, ran: Write
) -> None:
    for seed in (0, 1):
        record = ran(seed)
        (tmp_path / "ws" / "runs" / record.key / "code" / FILE).unlink()
    with pytest.raises(UsageError, match=f"did not keep their file {FILE}; .*--code-folder"):
        packed(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / FILE).write_text(f"{CODE}# changed")
    with pytest.raises(UsageError, match="has it, unchanged, with --code-folder"):
        packed(tmp_path, code_folder=tmp_path / "mine")
    (tmp_path / "mine" / FILE).write_text(CODE)
    out = packed(tmp_path, code_folder=tmp_path / "mine")
    assert (out / "code" / FILE).read_text() == CODE


def test_a_method_without_a_class_in_its_files_is_refused(tmp_path: Path, ran: Write) -> None:
    for seed in (0, 1):
        ran(seed, code={FILE: "import elsewhere\n"})
    with pytest.raises(UsageError, match="no class in the files of the method has the name"):
        packed(tmp_path)


def test_a_folder_that_exists_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists; choose another folder with --out"):
        packed(tmp_path)


def test_only_the_suite_s_cells_are_packed(tmp_path: Path, ran: Write) -> None:
    keys = [ran(seed).key for seed in (0, 1, 2)]
    out = tmp_path / "out"
    pack("half-way", dataclasses.replace(SUITE, seeds=(0, 2)), Workspace(tmp_path / "ws"), out)
    assert {path.name for path in (out / "runs").iterdir()} == {keys[0], keys[2]}


@pytest.mark.parametrize("other", ["recipe", "model"])
def test_newer_runs_that_do_not_compare_are_not_packed(
    tmp_path: Path, ran: Write, icons: Manifest, other: str
) -> None:
    """The check would refuse them."""
    made = {"recipe": icons.recipe_of("hot"), "model": {"name": "convnet", "width": 9}}
    keys = {ran(seed, finished=1000.0).key for seed in (0, 1)}
    for seed in (0, 1):
        ran(seed, finished=2000.0, made={other: made[other]})
    assert {path.name for path in (packed(tmp_path) / "runs").iterdir()} == keys


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"authors": [""]}, "authors in submission.toml is not filled in"),
        ({"authors": ["A", "B\nC"]}, "authors in submission.toml must be printable"),
        ({"paper": "http://a.example"}, "paper in submission.toml must be an address that begins"),
        ({"code": "https://"}, "code in submission.toml must be an address that begins"),
        ({"code": "https://a.example/b c"}, "code in submission.toml must be an address"),
        ({"licence": "x" * 301}, "licence in submission.toml must be .* at most 300 bytes"),
    ],
)
def test_an_entry_that_the_check_refuses_is_not_packed(
    tmp_path: Path, ran: Write, entries: dict[str, Any], problem: str
) -> None:
    for seed in (0, 1):
        ran(seed)
    with pytest.raises(UsageError, match=problem):
        packed(tmp_path, **entries)
    assert not (tmp_path / "out").exists()


def test_methods_of_the_benchmark_and_tuned_suites_are_not_packed(
    tmp_path: Path, ran: Write
) -> None:
    for seed in (0, 1):
        ran(seed, method="finetune")
    with pytest.raises(UsageError, match="finetune comes with the benchmark"):
        packed(tmp_path, "finetune")
    tuned = dataclasses.replace(SUITE, tuned=True)
    with pytest.raises(UsageError, match="suite icons has tuned methods, and takes no submissions"):
        pack("half-way", tuned, Workspace(tmp_path / "ws"), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("half way.py", CODE, "the name 'half way.py' is not plain"),
        ("hälf.py", CODE, "is not plain"),
        ("weights.npy", "x", "code/weights.npy is not text or data that can be read"),
        ("data.txt", "\0", "code/data.txt is not text or data that can be read"),
    ],
)
def test_a_file_that_the_check_refuses_is_not_packed(
    tmp_path: Path, ran: Write, name: str, content: str, problem: str
) -> None:
    for seed in (0, 1):
        ran(seed, code={FILE: CODE, name: content})
    with pytest.raises(
        UsageError, match=f"half-way cannot be submitted: .*{problem}.*run it again"
    ):
        packed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ws"]


@pytest.mark.parametrize("content", ["class {{ name }}:\n", f"x = {'-' * 100_000}1\n"])
def test_data_may_be_called_like_python(tmp_path: Path, ran: Write, content: str) -> None:
    for seed in (0, 1):
        ran(seed, code={FILE: CODE, "a_template.py": content})
    out = packed(tmp_path)
    assert (out / "code" / "a_template.py").read_text() == content
    assert tomllib.loads((out / "submission.toml").read_text())["plugins"] == [f"{FILE}:HalfWay"]
