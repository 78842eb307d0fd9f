"""Errors of the system: one sentence with the path and the remedy, status 2, no traceback."""

from __future__ import annotations

import builtins
import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from benchmark.manifest.manifest import Manifest
from htbench.cli import main as module
from htbench.cli.system_errors import sentence
from tests.conftest import WriteRun


def run(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The exit status of a command that ends with an error."""

    def command(**_: Any) -> None:
        raise error

    monkeypatch.setattr(module.htbench, "main", command)
    with pytest.raises(SystemExit) as ended:
        module.main([])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_number_is_a_sentence_with_the_path(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(number, os.strerror(number), "/some where/x")
    if isinstance(error, BrokenPipeError):
        assert run(monkeypatch, error) == 0
        return
    assert run(monkeypatch, error) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("htbench: /some where/x: ")
    assert stderr.count("\n") == 1
    assert "; " in stderr, "what to do"


@pytest.mark.parametrize(
    "error",
    [
        OSError("a library's own words"),
        OSError(),
        OSError(errno.ENOSPC, "No space", b"/bytes\xff"),
        OSError(errno.EXDEV, "Cross-device", "/a", None, "/b"),
        OSError(errno.ENAMETOOLONG, "Too long", "x" * 100_000),
        OSError(errno.EIO, "I/O", "/a\nhtbench: forged"),
        Timeout("/lock"),
        NotImplementedError("FileSystem does not appear to support flock"),
    ],
)
def test_other_forms(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, error) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("htbench: ")
    assert stderr.count("\n") == 1
    assert len(stderr) < 1000


def test_a_system_that_starts_no_thread(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, RuntimeError("can't start new thread")) == 2  # Python's own words
    words = "htbench: a new thread: the system has too few resources; use fewer --jobs, "
    assert capsys.readouterr().err == f"{words}then run again\n"
    with pytest.raises(RuntimeError, match="another"):
        run(monkeypatch, RuntimeError("another"))


def test_both_paths_are_named() -> None:
    assert "/a -> /b" in sentence(OSError(errno.EXDEV, "Cross-device", "/a", None, "/b"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_standard_output(stream: str) -> None:
    arguments = ["list", "suites"] if stream == "stdout" else ["list", "no-such-thing"]
    other = "stderr" if stream == "stdout" else "stdout"
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "htbench", *arguments],
            **{stream: full, other: subprocess.PIPE},  # type: ignore[arg-type]
            text=True,
        )
    assert process.returncode == 2
    assert "Traceback" not in (process.stderr or "")
    if stream == "stdout":
        assert process.stderr.startswith("htbench: a file or the output: the disk has no space")


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "runs", "--suite", "icons"),
        ("leaderboard", "--suite", "icons"),
        ("list", "methods"),
        ("list", "methods", "--suite", "icons"),
        ("data", "status"),
        ("source", "list", "--suite", "icons"),
        ("doctor",),
        ("run", "--suite", "icons", "--dry-run"),
        ("source", "train", "--suite", "icons"),
        ("tune", "--suite", "icons", "--method", "wise-ft", "--grid", "alpha=0.1,0.2"),
    ],
    ids=" ".join,
)
def test_a_file_in_the_place_of_every_folder(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = [] if arguments[0] in ("data", "source") else ["--workspace", str(tmp_path / "file/ws")]
    process = subprocess.run(
        [sys.executable, "-m", "htbench", *arguments, *place],
        env={**os.environ, "HTBENCH_DATA": str(tmp_path / "file" / "data")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert process.returncode in (0, 2)
    assert "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes every write below a folder fail as on a read-only mount, also for root."""

    def protect(folder: Path) -> None:
        def guard(path: Any) -> None:
            if isinstance(path, (str, Path)) and Path(path).absolute().is_relative_to(folder):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        def opens(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                guard(path)
            return real["open"](path, flags, *rest, **more)

        def files(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if set(mode) & set("wax+"):
                guard(path)
            return real_file(path, mode, *rest, **more)

        def names(name: str) -> Callable[..., Any]:
            def call(path: Any, *rest: Any, **more: Any) -> Any:
                guard(path)
                return real[name](path, *rest, **more)

            return call

        changes = ("mkdir", "rename", "replace", "unlink", "rmdir", "chmod", "utime", "link")
        real = {name: getattr(os, name) for name in ("open", *changes)}
        real_file = io.open
        monkeypatch.setattr(os, "open", opens)
        monkeypatch.setattr(io, "open", files)
        monkeypatch.setattr(builtins, "open", files)
        for name in changes:
            monkeypatch.setattr(os, name, names(name))

    return protect


@pytest.mark.parametrize("has_results", [False, True])
def test_a_read_only_workspace_can_be_read(
    has_results: bool,
    tmp_path: Path,
    icons: Manifest,
    write_run: WriteRun,
    read_only: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    workspace = tmp_path / "ws"
    record = write_run(workspace, "finetune")

    def output(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            module.main([*arguments, "--workspace", str(workspace)])
        captured = capsys.readouterr()
        assert ended.value.code == 0, captured.err
        return captured.out

    commands = (
        ("leaderboard", "--suite", "icons"),
        ("list", "runs", "--suite", "icons"),
        ("show", record.key[:12]),
        ("score", record.key[:12]),
    )
    if has_results:
        output(*commands[0])
    before = sorted(workspace.rglob("*"))
    read_only(workspace)
    for command in commands:
        assert "finetune" in output(*command)
    assert sorted(workspace.rglob("*")) == before
