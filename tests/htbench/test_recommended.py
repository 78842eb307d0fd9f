"""The commands that messages recommend work as they are printed, whatever the user's paths."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from benchmark.manifest.catalogue import load_manifest
from tests.conftest import Draft, WriteRun
from tests.htbench.command import Htbench

QUOTED = re.compile(r"`htbench ([^`]+)`")


@pytest.fixture
def own(draft: Draft, tmp_path: Path, own_data: Path, monkeypatch: pytest.MonkeyPatch) -> Draft:
    """A manifest with images in files and a suite of it; blanks and quotes are in all paths.

    A copy of the images is in the folder ``copy``, and none is imported.
    """
    folder = tmp_path / 'it\'s "my" data'
    draft.root, draft.document["images"] = folder / "mini", "folder"
    draft.write(draft.table().drop_columns(["image"]))
    for row in draft.rows:
        path = tmp_path / "copy" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"]["bytes"])
    (folder / "my suite.toml").write_text(
        'title = "Mine"\nmanifest = "mini"\ntasks = ["outline-solid"]\nmethods = ["source"]\n'
        "seeds = [0]\n"
    )
    monkeypatch.chdir(folder)
    return draft


def recommended(text: str, **places: object) -> list[list[str]]:
    """The words of each command that a text recommends, with words in capitals replaced."""
    lines = [shlex.split(line) for line in QUOTED.findall(text)]
    assert lines, text
    return [[str(places.get(word, word)) for word in words] for words in lines]


def test_a_folder_may_begin_with_a_dash(
    htbench: Htbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = htbench("method", "new", "my-method", "--out=-mine")
    assert status == 0
    words = [shlex.split(line)[1:] for line in out.splitlines() if line.startswith("  htbench ")]
    assert [each[:2] for each in words] == [["method", "try"], ["method", "check"]]
    assert htbench(*words[0], "--smoke")[0] == 0


def test_missing_images_can_be_imported_and_verified(
    own: Draft, tmp_path: Path, htbench: Htbench
) -> None:
    status, out, err = htbench("data", "verify", "mini")
    assert status == 2
    (take,) = recommended(out + err, PATH=tmp_path / "copy")
    status, out, err = htbench(*take)
    assert status == 0, err
    (verify,) = recommended(out + err)
    assert verify == ["data", "verify", "mini"]
    assert htbench(*verify)[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--suite", "my suite.toml", "--workspace", "my work", "--dry-run"),
        ("run", "--suite", "my suite.toml", "--workspace", "my work"),
        ("source", "train", "--manifest", "mini", "--source", "outline"),
        (
            "splits",
            "export",
            "mini",
            "--task",
            "outline-solid",
            "--format",
            "imagefolder",
            "--out",
            "images",
        ),
    ],
    ids=lambda words: " ".join(words[:2]) + words[-1],
)
@pytest.mark.usefixtures("own")
def test_every_command_that_misses_images_names_their_import(
    words: tuple[str, ...], tmp_path: Path, htbench: Htbench
) -> None:
    _, out, err = htbench(*words)
    (take,) = recommended(out + err, PATH=tmp_path / "copy")
    status, _, err = htbench(*take)
    assert status == 0, err


@pytest.mark.usefixtures("own")
def test_an_unreadable_image_names_its_verification(tmp_path: Path, htbench: Htbench) -> None:
    assert htbench("data", "import", "mini", tmp_path / "copy", "--copy")[0] == 0
    for path in (tmp_path / "data" / "images").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:20])
    status, _, err = htbench("source", "train", "--manifest", "mini", "--source", "outline")
    assert status == 2
    (verify,) = recommended(err)
    status, out, _ = htbench(*verify)
    assert status == 1
    (take,) = recommended(out, PATH=tmp_path / "copy")
    assert htbench(*take)[0] == 0


@pytest.mark.usefixtures("own")
def test_a_workspace_without_runs_names_their_run(tmp_path: Path, htbench: Htbench) -> None:
    assert htbench("data", "import", "mini", tmp_path / "copy")[0] == 0
    where = ("--suite", "my suite.toml", "--workspace", "my work")
    status, _, err = htbench("leaderboard", *where)
    assert status == 2
    (run,) = recommended(err)
    assert run == ["run", *where]
    status, _, err = htbench(*run)
    assert status == 0, err
    status, _, err = htbench("show", "000000", *where)
    assert status == 2
    (list_runs,) = recommended(err)
    status, out, _ = htbench(*list_runs)
    assert status == 0
    assert "outline-solid" in out


@pytest.mark.usefixtures("own")
def test_an_untrained_source_model_names_its_training(
    tmp_path: Path, htbench: Htbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert htbench("data", "import", "mini", tmp_path / "copy")[0] == 0
    words = ("--manifest", "mini", "--source", "outline", "--out", "model", "--device", "cpu")
    status, _, err = htbench("source", "export", *words)
    assert status == 2
    (train,) = recommended(err)
    status, _, err = htbench(*train)
    assert status == 0, err
    assert htbench("source", "export", *words)[0] == 0
    card = Path("model/README.md").read_text("utf-8")
    (line,) = re.findall(r"^    htbench (.*)$", card, re.MULTILINE)
    take = ["mini" if word == "MANIFEST" else word for word in shlex.split(line)]
    monkeypatch.setenv("HTBENCH_DATA", "other data")
    take[take.index("model.safetensors")] = "model/model.safetensors"
    assert htbench("data", "import", "mini", tmp_path / "copy")[0] == 0
    assert htbench(*take)[0] == 0


def test_other_versions_name_the_list_of_all_runs(
    own: Draft, write_run: WriteRun, htbench: Htbench
) -> None:
    manifest = load_manifest(own.root)
    for number in (1, 2):
        facts = {"method": {"name": "source", "code": {"source.py": str(number) * 64}}}
        write_run(Path("my work"), "source", manifest=manifest, made=facts, finished=number)
    where = ("--suite", "my suite.toml", "--workspace", "my work")
    status, out, err = htbench("leaderboard", *where)
    assert status == 0, err
    (list_runs,) = recommended(out)
    assert list_runs == ["list", "runs", *where]
    assert htbench(*list_runs)[0] == 0
