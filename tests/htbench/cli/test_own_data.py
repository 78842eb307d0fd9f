"""`manifest new` and `add`: the commands that they print work as they are printed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from benchmark.own_data import recipe
from tests.benchmark.own_data.pictures import grid, paint
from tests.htbench.command import Htbench

PRINTED = re.compile(r"^  htbench (.*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, own_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images whose names have blanks, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return paint(tmp_path / "my photos", grid("photo wall_art"))


def test_from_a_folder_to_a_board(
    htbench: Htbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "MAX_STEPS", 2)
    words = ("--from", "my photos", "--model", "convnet", "--draws", 1, "--out", "the set")
    status, out, err = htbench("manifest", "new", "mine", *words)
    assert status == 0, err
    verify, dry_run, run, add = map(shlex.split, PRINTED.findall(out))
    for line in (verify, dry_run, ["data", "verify", "the set"], ["data", "status"]):
        status, out, err = htbench(*line)
        assert status == 0, err
    status, out, err = htbench(*run)
    assert status == 0, err
    assert "finetune" in out
    status, out, err = htbench(*add)
    assert status == 0, err
    for line in map(shlex.split, PRINTED.findall(out)):
        status, out, err = htbench(*line)
        assert status == 0, err
    for what in ("datasets", "suites"):
        assert "mine@0.1" in htbench("list", what)[1]
    # The runs of the folder are those of the name: nothing is trained again.
    status, out, err = htbench(*(word.replace("the set/mine.toml", "mine") for word in run))
    assert status == 0, err
    assert "[1/" not in err


def test_images_that_are_missing_are_imported_as_the_message_says(
    htbench: Htbench, own_data: Path
) -> None:
    words = ("--from", "my photos", "--model", "convnet", "--out", "the set")
    assert htbench("manifest", "new", "mine", *words)[0] == 0
    for words in (("--smoke",), ("--task", "photo-wall_art")):
        shutil.rmtree(own_data / "images")
        status, _, err = htbench("run", "--suite", "the set/mine.toml", *words)
        assert status == 2
        line = re.search(r"run `htbench (data import .*) PATH`", err)
        assert line is not None
        status, _, err = htbench(*shlex.split(line[1]), "my photos")
        assert status == 0, err


def test_json_and_dry_run_say_what_would_be_written(htbench: Htbench, tmp_path: Path) -> None:
    (tmp_path / "my photos" / "notes.txt").touch()
    status, out, err = htbench(
        *("manifest", "new", "mine", "--from", "my photos", "--dry-run", "--json", "--seen", "2")
    )
    assert status == 0, err
    report = json.loads(out)
    assert report["folder"] is None
    assert report["images"] == 24
    assert report["left_out"] == {"files in no image format": ["notes.txt"]}
    assert [(t["task"], t["seen_classes"]) for t in report["tasks"]][:1] == [("photo-wall_art", 2)]
    assert report["model"]["name"] == "mobilenet_v2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my photos"]


def test_what_is_left_out_is_named(htbench: Htbench, tmp_path: Path) -> None:
    (tmp_path / "my photos" / "photo" / "cat" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    status, _, err = htbench("manifest", "new", "mine", "--from", "my photos")
    assert status == 0, err
    assert "left out: 1 image that cannot be used (" in err
    assert "'photo/cat/0.png'" in err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--seen", "0"), ("--seen", "1.5"), ("--seen", "half"), ("--train", "1"), ("--train", "0.0")],
)
def test_a_share_is_between_0_and_1(htbench: Htbench, option: str, value: str) -> None:
    status, _, err = htbench("manifest", "new", "mine", "--from", "my photos", option, value)
    assert status == 2
    assert f"{value!r} is not a share such as 0.5" in err


def test_a_network_is_tried_before_images_are_read(htbench: Htbench) -> None:
    status, _, err = htbench("manifest", "new", "mine", "--from", "none", "--model", "resnet81")
    assert status == 2
    assert "--model resnet81: unknown model 'resnet81'; did you mean resnet18" in err
