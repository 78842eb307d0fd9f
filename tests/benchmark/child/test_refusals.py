"""An exception of the sandbox says which rule it comes from, and the way out."""

from __future__ import annotations

import errno
import socket
import sys
from pathlib import Path
from urllib.error import URLError

import pytest

from benchmark.child import refusals
from benchmark.child.code import OwnModules
from benchmark.child.job import failure
from benchmark.child.refusals import explain
from benchmark.jobs import CodeModule

DENIED = PermissionError(errno.EACCES, "Permission denied")
NAMED = PermissionError(errno.EACCES, "Permission denied", "/usr")
NOT_PERMITTED = PermissionError(errno.EPERM, "Operation not permitted")


def raised_in(path: str, error: BaseException, cause: BaseException | None = None) -> BaseException:
    """The error as code in a file of that path raises it."""
    code = compile("raise error from cause", path, "exec")
    with pytest.raises(type(error)) as caught:
        exec(code, {"error": error.with_traceback(None), "cause": cause})
    return caught.value


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/site/torch/_inductor/compile_fx.py", refusals.COMPILER),
        ("/site/torch/utils/data/dataloader.py", refusals.WORKERS),
        ("/site/torch/hub.py", refusals.NETWORK),
        ("/site/huggingface_hub/file_download.py", refusals.NETWORK),
        ("/site/httpx/_client.py", refusals.NETWORK),
        ("/lib/python3.11/socket.py", refusals.NETWORK),
        ("/lib/python3.11/subprocess.py", refusals.PROCESS),
        ("/lib/python3.11/multiprocessing/context.py", refusals.PROCESS),
        ("/plugin/mine.py", refusals.CALL),
    ],
)
def test_the_code_that_was_refused_says_which_rule(path: str, rule: str) -> None:
    assert explain(raised_in(path, DENIED)) == rule


def test_a_file() -> None:
    assert explain(raised_in("/plugin/mine.py", NAMED)) == refusals.FILE


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        ("own/words.json", refusals.FILE.replace("prompts.json", "words.json")),
        ("own/data/words.json", refusals.FILE.replace("prompts.json", "data/words.json")),
        ("other/words.json", refusals.ELSEWHERE.replace("prompts.json", "words.json")),
        ("own/absent.json", refusals.SCRATCH),
        ("own/" + 200 * "x", refusals.FILE),
    ],
)
def test_a_file_says_the_line_that_declares_it(
    file: str, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = OwnModules([CodeModule("mine", str(tmp_path / "own" / "mine.py"), ())])
    monkeypatch.setattr(sys, "meta_path", [own, *sys.meta_path])
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    if path.name != "absent.json":
        path.touch()
    error = PermissionError(errno.EACCES, "Permission denied", str(path))
    assert explain(raised_in("/plugin/mine.py", error)) == rule


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), URLError("no address")])
def test_a_name_that_cannot_be_looked_up(error: Exception) -> None:
    assert explain(raised_in("/lib/urllib/request.py", error)) == refusals.NETWORK


def test_a_refusal_behind_another_exception() -> None:
    cause = raised_in("/lib/python3.11/subprocess.py", NOT_PERMITTED)
    assert explain(raised_in("/plugin/mine.py", RuntimeError("x"), cause)) == refusals.PROCESS


def test_a_refusal_that_a_compiler_keeps_in_an_attribute() -> None:
    error = RuntimeError("PermissionError")
    error.inner_exception = NOT_PERMITTED  # type: ignore[attr-defined]
    assert explain(raised_in("/site/torch/_dynamo/x.py", error)) == refusals.COMPILER


def test_a_refusal_that_native_code_puts_into_words() -> None:
    error = RuntimeError("open file failed because of errno 13 on fopen: Permission denied")
    assert explain(raised_in("/plugin/mine.py", error)) == refusals.FILE


@pytest.mark.parametrize(
    "error", [ValueError("x"), FileNotFoundError(errno.ENOENT, "gone", "x"), KeyError("PATH")]
)
def test_other_exceptions_come_from_no_rule(error: Exception) -> None:
    assert explain(error) is None


def test_a_failure_says_the_rule_before_the_words_of_the_exception() -> None:
    try:
        raise NAMED
    except PermissionError as error:
        message = failure(error)["message"]
    assert message.startswith(f"PermissionError: {refusals.FILE} ([Errno 13] Permission denied")
    assert "'/usr'" in message


def test_an_exception_that_hinders_the_search_is_reported_all_the_same() -> None:
    class Rude(Exception):
        @property
        def inner_exception(self) -> None:
            raise RuntimeError

    assert failure(Rude("x"))["message"] == "Rude: x"


class TestImports:
    @pytest.fixture(autouse=True)
    def finder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        own = OwnModules([CodeModule("mine", str(tmp_path / "mine.py"), ())])
        monkeypatch.setattr(sys, "meta_path", [own, *sys.meta_path])

    @pytest.mark.parametrize("file", ["late.py", "late/__init__.py"])
    def test_a_module_that_exists_but_that_no_statement_names(
        self, tmp_path: Path, file: str
    ) -> None:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
        rule = explain(ModuleNotFoundError("No module named 'late'", name="late"))
        assert rule is not None
        assert "write `import late` in the method's file" in rule

    def test_a_module_that_does_not_exist(self) -> None:
        assert explain(ModuleNotFoundError("No module named 'late'", name="late")) is None


def test_rules_are_short_enough_for_a_line_of_the_board() -> None:
    names = ("COMPILER", "WORKERS", "NETWORK", "PROCESS", "FILE", "ELSEWHERE", "SCRATCH", "CALL")
    assert all(len(getattr(refusals, name)) < 160 for name in (*names, "CLOSED"))
