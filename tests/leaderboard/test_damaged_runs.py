"""A folder of a run that cannot be used costs its own row, whatever is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmark.files import SEAL, seal
from benchmark.manifest.manifest import Manifest
from benchmark.records import FORMAT, MAX_RECORD_BYTES, PREDICTIONS_FILE, RECORD_FILE
from htbench import load_results
from htbench.cli.main import htbench as cli
from htbench.cli.main import main
from leaderboard.results import RESULTS_FILE, update_results
from tests.leaderboard.runs import WriteRun, folder_of

FLIPS = 300


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has a short limit
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(target: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        path.symlink_to(target.format(name=path.name))

    return damage


def _content(content: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(content)

    return damage


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _huge(path: Path) -> None:
    os.truncate(path, MAX_RECORD_BYTES + 1)


def _entries(**changes: object) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        entries = json.loads(path.read_text())
        del entries[SEAL]
        path.write_bytes(seal({**entries, **changes}))

    return damage


ANY_FILE = {
    "empty": _content(b""),
    "truncated": _truncated,
    "random": _content(bytes(range(256)) * 10),
    "deleted": Path.unlink,
    "a pipe": _fifo,
    "a socket": _socket,
    "a folder": _folder,
    "a dangling link": _link("nowhere"),
    "a looping link": _link("{name}"),
    "a device": _link("/dev/zero"),
    "a sparse file": _huge,
}
ONLY_RECORD = {
    "a list": _content(b"[1, 2]"),
    "deep": _content(b"[" * 100_000),
    "a later format": _entries(format=FORMAT + 1),
    "an earlier format": _entries(format=FORMAT - 1),
    "an unknown field": _entries(colour="blue"),
    "an escape as a field": _entries(**{"\x1b[2J\n" * 1000: 1}),
    "a status of another kind": _entries(status=["ok"]),
    "a huge number": _entries(seed=10**30),
}
DAMAGES = [
    *((PREDICTIONS_FILE, name, damage) for name, damage in ANY_FILE.items()),
    *((RECORD_FILE, name, damage) for name, damage in {**ANY_FILE, **ONLY_RECORD}.items()),
]
each_damage = pytest.mark.parametrize(
    ("file", "damage"),
    [pytest.param(file, damage, id=f"{file}: {name}") for file, name, damage in DAMAGES],
)


def invoke(workspace: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(cli, [*arguments, "--workspace", str(workspace)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@each_damage
def test_costs_its_own_row(
    tmp_path: Path,
    write_run: WriteRun,
    icons: Manifest,
    file: str,
    damage: Callable[[Path], None],
) -> None:
    good, bad = write_run(tmp_path, "source"), write_run(tmp_path, "lolsgd")
    folder = folder_of(tmp_path, bad)
    update_results(tmp_path, [icons])
    damage(folder / file)
    for is_scored in (True, True, False):  # it is named each time, once with the remedy
        if not is_scored:
            (tmp_path / RESULTS_FILE).unlink()
        problems: list[str] = []
        table = update_results(tmp_path, [icons], problems.append)
        assert table["key"].to_pylist() == [good.key]
        (problem,) = problems
        assert str(folder) in problem
        assert problem.count(f"rm -r {folder}") == 1
        assert len(problem) < 2000


@pytest.mark.parametrize(
    ("file", "name"),
    [(RECORD_FILE, "a pipe"), (RECORD_FILE, "an unknown field"), (PREDICTIONS_FILE, "deleted")],
)
def test_commands_print_the_rest(tmp_path: Path, write_run: WriteRun, file: str, name: str) -> None:
    write_run(tmp_path, "source")
    bad = write_run(tmp_path, "lolsgd")
    folder = folder_of(tmp_path, bad)
    {**ANY_FILE, **ONLY_RECORD}[name](folder / file)
    for command in (
        ("leaderboard",),
        ("leaderboard", "--format", "json"),
        ("list", "runs"),
        ("list", "runs", "--json"),
    ):
        result = invoke(tmp_path, *command)
        assert result.exit_code == 1, command
        assert "source" in result.stdout, command
        assert f"rm -r {folder}" in result.output, command
        assert "Traceback" not in result.output
        if command[-1].endswith("json"):
            json.loads(result.stdout)
    with pytest.warns(UserWarning, match="rm -r"):
        assert list(load_results(tmp_path)["method"]) == ["source"]


@each_damage
def test_show_and_score_name_it(
    tmp_path: Path,
    write_run: WriteRun,
    capsys: pytest.CaptureFixture[str],
    file: str,
    damage: Callable[[Path], None],
) -> None:
    bad = write_run(tmp_path, "lolsgd")
    folder = folder_of(tmp_path, bad)
    damage(folder / file)
    for command in (["show"], ["show", "--json"], ["score"]):
        with pytest.raises(SystemExit) as exit_:
            main([*command, bad.key, "--workspace", str(tmp_path)])
        output = capsys.readouterr()
        assert exit_.value.code == 2, command
        assert f"rm -r {folder}" in output.err, command
        assert len(output.err) < 3000, command
        assert "\x1b" not in output.err, command
        if command != ["score"]:
            assert "accuracy, %" not in output.out, command
        else:
            assert output.out == ""


@pytest.mark.parametrize("name", ["conflict", "a b", "$(x)", "\x1b[2J", "-rf", "\udcff", "a\nb"])
def test_folders_of_other_names(
    tmp_path: Path, write_run: WriteRun, icons: Manifest, name: str
) -> None:
    record = write_run(tmp_path, "source")
    folder = folder_of(tmp_path, record)
    name = f"{record.key} ({name})" if name == "conflict" else name
    shutil.copytree(folder, folder.with_name(name))
    problems: list[str] = []
    table = update_results(tmp_path, [icons], problems.append)
    assert table["key"].to_pylist() == [record.key]
    assert len(problems) == 1
    result = invoke(tmp_path, "list", "runs")
    assert result.exit_code == 1
    assert record.key[:12] in result.stdout
    assert "\x1b" not in result.output


def test_many_bad_folders_are_counted(tmp_path: Path, write_run: WriteRun) -> None:
    record = write_run(tmp_path, "source")
    for number in range(200):
        (tmp_path / "runs" / f"copy {number}").mkdir()
    result = invoke(tmp_path, "leaderboard")
    assert result.exit_code == 1
    assert "190 more folders" in result.output
    assert len(result.output) < 10_000
    assert record.method in result.stdout


@pytest.mark.parametrize("file", [RESULTS_FILE, RECORD_FILE, PREDICTIONS_FILE])
def test_a_flipped_bit_never_gives_a_wrong_number(
    tmp_path: Path, write_run: WriteRun, icons: Manifest, file: str
) -> None:
    record = write_run(tmp_path, "lolsgd")
    right = update_results(tmp_path, [icons])
    path = (tmp_path if file == RESULTS_FILE else folder_of(tmp_path, record)) / file
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for bit in random.integers(8 * len(content), size=FLIPS).tolist():
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        problems: list[str] = []
        table = update_results(tmp_path, [icons], problems.append)
        if file == RESULTS_FILE:
            assert table.equals(right), bit
            assert path.read_bytes() == content, bit
            assert not problems
        else:
            assert table.num_rows == 0, bit
            (problem,) = problems
            assert str(path) in problem
    path.write_bytes(content)
    assert update_results(tmp_path, [icons]).equals(right)
