"""The driver's side of a child: whatever it says or does, the driver goes on and knows better."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.errors import RunError, UsageError
from benchmark.isolation import client, sandbox, wire
from benchmark.isolation.client import Child, Exit, ForkServer, Limits
from benchmark.isolation.conversation import Outcome, request, run_job
from benchmark.jobs import (
    MAX_LOG_ROWS,
    MAX_TEXT,
    AddressJob,
    DescribeJob,
    ImageFormat,
    ImportJob,
    Job,
    MethodCode,
    Network,
    Setup,
)
from benchmark.runs.workspace import _remove
from benchmark.session import Session

SHAPE = (4, 3)
FACTS = list(sandbox.FULL_ISOLATION)
HUGE = 10**400


# --- a child that is a script -------------------------------------------------------------------


class Script:
    """What a hostile child does at its end of the channel, from a thread."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel

    def say(self, **message: Any) -> None:
        self.raw(json.dumps(message).encode())

    def raw(self, body: bytes, length: int | None = None, fds: tuple[int, ...] = ()) -> None:
        header = struct.pack("!I", len(body) if length is None else length)
        with contextlib.suppress(OSError):
            socket.send_fds(self.channel, [header], fds)
            self.channel.sendall(body)

    def begin(self) -> None:
        """As the harness's own code does."""
        self.say(locked=FACTS)
        self.say(started=True)

    def adapt(self, **notes: Any) -> tuple[dict[str, Any], list[int]]:
        """Say that it has adapted; what it is sent then."""
        self.say(adapted=notes)
        received = wire.receive(self.channel)
        assert received is not None
        return received

    def answer(self, data: bytes | None = None, **facts: Any) -> None:
        """The whole of an answer."""
        self.begin()
        _, (*_, array, _) = self.adapt()
        os.write(array, np.zeros(SHAPE, np.float32).tobytes() if data is None else data)
        self.say(done=facts)


class FakeServer:
    """A fork server whose one child is a script. It dies when its channel is closed."""

    def __init__(self, script: Callable[[Script], object], *, required: tuple[str, ...] = ()):
        self.script, self.required = script, frozenset(required)
        self.alive, self.limits = True, Limits()
        self.exits: dict[int, Future[Exit]] = {1: Future()}
        self.pids: dict[int, int] = {}
        self.killed = 0

    @contextlib.contextmanager
    def start(self, job: Job, output: int) -> Iterator[Child]:
        ours, theirs = socket.socketpair()

        def play() -> None:
            with theirs:
                theirs.settimeout(10)
                with contextlib.suppress(OSError, RunError):
                    self.script(Script(theirs))
            self.end(Exit(0, None, 1))

        thread = threading.Thread(target=play)
        thread.start()
        with Child(self, 1, ours, Path(job.scratch), output, self.limits) as child:  # type: ignore[arg-type]
            yield child
        thread.join()

    def end(self, how: Exit) -> None:
        with contextlib.suppress(Exception):
            self.exits[1].set_result(how)

    def kill(self, job: int) -> None:
        self.killed += 1
        self.end(Exit(None, signal.SIGKILL, 1))

    def forget(self, job: int) -> None:
        pass


@pytest.fixture
def hear(tmp_path: Path) -> Callable[..., Outcome]:
    """What the driver makes of a script."""
    test = tmp_path / "test.u8"
    test.write_bytes(b"test images")
    (tmp_path / "scratch").mkdir()
    job = ImportJob(
        str(tmp_path / "scratch"),
        Setup("cpu", 0, {}, {}),
        Network({}, (), 1),
        ImageFormat(1, "raw"),
        "file",
    )

    def run(script: Callable[[Script], object], **options: Any) -> Outcome:
        server: Any = FakeServer(script, required=options.pop("required", ()))
        server.alive = options.pop("alive", True)
        progress = options.pop("progress", lambda done, total: None)
        return run_job(server, job, [(test, 4)], SHAPE, tmp_path, progress)

    return run


class TestConversation:
    def test_a_good_one(self, hear: Callable[..., Outcome]) -> None:
        seen: list[tuple[int, int]] = []

        def script(child: Script) -> None:
            child.begin()
            child.say(progress=[1, 2])
            message, (images, array, weights) = child.adapt(
                total_steps=7, sequential_steps=7, log=[{"loss": 0.5, "step": 1}]
            )
            assert message == {"counts": [4], "images": {"size": 1, "store": "raw"}}
            assert os.pread(images, 99, 0) == b"test images"
            for fd in (array, weights):
                with pytest.raises(OSError, match="Bad file"):
                    os.pread(fd, 1, 0)
            os.write(array, np.arange(12, dtype=np.float32).tobytes())
            child.say(done={"torch": "2"})

        outcome = hear(script, progress=lambda *steps: seen.append(steps))
        assert outcome.error is None
        assert outcome.array is not None
        assert outcome.array.tolist() == np.arange(12.0).reshape(SHAPE).tolist()
        assert outcome.isolation == FACTS
        assert outcome.facts == {"torch": "2"}
        assert outcome.notes["log"] == [{"loss": 0.5, "step": 1.0}]
        assert (outcome.cost["total_steps"], outcome.cost["sequential_steps"]) == (7, 7)
        assert seen == [(1, 2)]

    def test_the_test_images_come_after_adapting_and_not_before(
        self, hear: Callable[..., Outcome]
    ) -> None:
        early: list[Any] = []

        def script(child: Script) -> None:
            child.begin()
            child.say(progress=[1, 1])
            child.channel.settimeout(0.3)
            try:
                early.append(child.channel.recv(1))
            except TimeoutError:
                early.append(None)

        hear(script)
        assert early == [None]

    @pytest.mark.parametrize(
        "message",
        [
            {},
            {"adapted": {}},
            {"done": {}},
            {"started": True},
            {"progress": [HUGE, 1]},
            {"progress": [1, HUGE]},
            {"progress": [-1, 1]},
            {"progress": [True, 1]},
            {"progress": [1.5, 2]},
            {"progress": [1]},
            {"progress": "12"},
            {"progress": None},
            {"\x1b[2J": "\ud800"},
        ],
        ids=lambda message: str(message)[:30],
    )
    def test_what_has_no_place_is_a_breach_of_contract(
        self, hear: Callable[..., Outcome], message: dict[str, Any]
    ) -> None:
        outcome = hear(lambda child: (child.say(locked=FACTS), child.say(**message)))
        if "started" in message:  # that has its place: then it is silent
            assert outcome.error is not None
            assert outcome.error["kind"] == "died"
            return
        assert outcome.error is not None
        assert outcome.error["kind"] == "contract"
        assert outcome.error["message"].isprintable()
        assert outcome.array is None

    @pytest.mark.parametrize(
        "script",
        [
            lambda child: child.raw(b"{"),
            lambda child: child.raw(b"[]"),
            lambda child: child.raw(b"\xff\xfe"),
            lambda child: child.raw(b'{"locked": NaN}'),
            lambda child: child.raw(b'{"locked": ' + b"9" * 5000 + b"}"),
            lambda child: child.raw(b"[" * 100_000),
            lambda child: child.raw(b"{}", length=(1 << 20) + 1),
            lambda child: child.raw(b"{}", length=2**32 - 1),
            lambda child: child.raw(b"{}", length=10),
        ],
    )
    def test_what_is_no_message_is_one_too(
        self, hear: Callable[..., Outcome], script: Callable[[Script], object]
    ) -> None:
        error = hear(script).error
        assert error is not None
        assert error["kind"] == "contract"

    @pytest.mark.parametrize("words", [b"", b"\0", b"\0\0\0"])
    def test_a_child_that_falls_silent_has_died(
        self, hear: Callable[..., Outcome], words: bytes
    ) -> None:
        error = hear(lambda child: child.channel.sendall(words)).error
        assert error is not None
        assert error["kind"] == ("contract" if words else "died")
        assert "before it answered" in error["message"] or "truncated" in error["message"]

    def test_descriptors_from_a_child_are_closed(self, hear: Callable[..., Outcome]) -> None:
        def script(child: Script) -> None:
            body = json.dumps({"progress": [1, 1]}).encode()
            child.say(locked=FACTS)
            for _ in range(20):
                child.raw(body, fds=(0, 1, 2))
                child.raw(body, fds=(0,))

        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        hear(script)
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208

    def test_a_failure_is_told_in_words_that_can_be_printed(
        self, hear: Callable[..., Outcome]
    ) -> None:
        failure = {
            "kind": "\x1b]0;x\x07",
            "message": "\ud800 red \x1b[31m\r\b",
            "traceback": "line\n\tline\x00" + "x" * 10**5,
            "more": "x",
        }
        error = hear(lambda child: child.say(failed=failure)).error
        assert error is not None
        assert set(error) == {"kind", "message", "traceback"}
        for text in error.values():
            assert "".join(text.split("\n")).replace("\t", "").isprintable()
            text.encode()
        assert error["traceback"].startswith("line\n\tline")
        assert len(error["traceback"]) == MAX_TEXT

    @pytest.mark.parametrize("failure", [None, [], "x", {}, {"kind": 5, "message": {"a": [1]}}])
    def test_a_failure_without_words(self, hear: Callable[..., Outcome], failure: Any) -> None:
        error = hear(lambda child: child.say(failed=failure)).error
        assert error is not None
        assert all(isinstance(text, str) for text in error.values())

    @pytest.mark.parametrize(
        ("notes", "expected"),
        [
            ({"total_steps": HUGE, "sequential_steps": True}, {"log": []}),
            ({"total_steps": -1, "sequential_steps": 1.0}, {"log": []}),
            ({"log": "x", "total_steps": 3}, {"log": [], "total_steps": 3}),
            (
                {"log": [{"a": HUGE, "b": "x", "c": None, "d": True, "e": 1}, 5, [], {"f": 2.5}]},
                {"log": [{"e": 1.0}, {"f": 2.5}]},
            ),
            ({"log": [{str(i): 1 for i in range(51)}]}, {"log": []}),
            ({"log": [{"x" * 100: 1}]}, {"log": [{"x" * 50: 1.0}]}),
            ({"log": [{"a": 1}] * 5000}, {"log": [{"a": 1.0}] * MAX_LOG_ROWS}),
            ({"notes": "x"}, {"log": []}),
        ],
    )
    def test_notes_are_numbers(
        self, hear: Callable[..., Outcome], notes: dict[str, Any], expected: dict[str, Any]
    ) -> None:
        def script(child: Script) -> None:
            child.begin()
            child.adapt(**notes)

        outcome = hear(script)
        assert outcome.notes == {"notes": [], **expected}

    @pytest.mark.parametrize("notes", [None, [], 5, "x"])
    def test_notes_that_are_none(self, hear: Callable[..., Outcome], notes: Any) -> None:
        outcome = hear(lambda child: (child.begin(), child.say(adapted=notes)))
        assert outcome.notes == {}

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "wrote 0 bytes"),
            (b"\0" * 47, "wrote 47 bytes"),
            (b"\0" * 49, "wrote 49 bytes"),
            (np.full(12, np.nan, np.float32).tobytes(), "NaN or infinite"),
            (np.full(12, np.inf, np.float32).tobytes(), "NaN or infinite"),
        ],
    )
    def test_an_array_is_measured(
        self, hear: Callable[..., Outcome], data: bytes, words: str
    ) -> None:
        outcome = hear(lambda child: child.answer(data))
        assert outcome.array is None
        assert outcome.error is not None
        assert words in outcome.error["message"]

    def test_facts_are_short_texts(self, hear: Callable[..., Outcome]) -> None:
        facts = {**{f"f{i}": i for i in range(30)}, "x": "y"}
        outcome = hear(lambda child: child.answer(**{"a\x1b" * 60: "b\ud800" * 300, **facts}))
        assert outcome.error is None
        assert len(outcome.facts) == 20
        for name, value in outcome.facts.items():
            assert len(name) <= 50
            assert len(value) <= 200
            assert (name + value).isprintable()

    @pytest.mark.parametrize(
        ("said", "believed"),
        [(7 << 30, 7 << 30), (0, 0), (-1, None), (HUGE, None), (1.5, None), (True, None)],
    )
    def test_memory_of_a_device_is_a_number_of_the_cost(
        self, hear: Callable[..., Outcome], said: Any, believed: int | None
    ) -> None:
        outcome = hear(lambda child: child.answer(torch="2", device_peak_memory=said))
        assert outcome.cost.get("device_peak_memory") == believed
        assert outcome.facts == {"torch": "2"}

    def test_a_child_that_goes_on_after_its_last_word_is_killed(
        self, hear: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "FINISH_SECONDS", 0.2)

        def script(child: Script) -> None:
            child.answer()
            time.sleep(1)

        begun = time.monotonic()
        assert hear(script).error is None
        assert time.monotonic() - begun < 5

    @pytest.mark.parametrize("facts", [[], FACTS[:-1], None, "all of them", {"a": 1}])
    def test_required_isolation_that_is_not_had_ends_everything(
        self, hear: Callable[..., Outcome], facts: Any
    ) -> None:
        """On a kernel without Landlock the child tells so before any code of a method runs."""
        with pytest.raises(RunError, match="--isolation required"):
            hear(lambda child: child.say(locked=facts), required=tuple(FACTS))

    def test_it_is_on_the_record_where_it_is_not_required(
        self, hear: Callable[..., Outcome]
    ) -> None:
        assert hear(lambda child: child.say(locked=["no-network"])).isolation == ["no-network"]

    def test_the_end_of_the_server_is_no_result(self, hear: Callable[..., Outcome]) -> None:
        with pytest.raises(RunError, match="exited before the run finished"):
            hear(lambda child: child.answer(), alive=False)

    def test_asking(self, tmp_path: Path) -> None:
        job = AddressJob(str(tmp_path), {})
        server: Any = FakeServer(lambda child: (child.say(locked=FACTS), child.say(done=[1])))
        assert request(server, job, tmp_path) == {"done": [1]}
        server = FakeServer(lambda child: child.say(failed={"message": "no"}))
        assert request(server, job, tmp_path)["failed"]["message"] == "no"
        server = FakeServer(lambda child: child.say(locked=[]), required=tuple(FACTS))
        with pytest.raises(RunError, match="--isolation required"):
            request(server, job, tmp_path)


# --- limits --------------------------------------------------------------------------------------


class TestLimits:
    @pytest.fixture
    def child(self, tmp_path: Path) -> Iterator[Callable[..., Child]]:
        scratch, output = tmp_path / "scratch", tmp_path / "output.txt"
        scratch.mkdir()
        with contextlib.ExitStack() as stack:

            def make(**limits: Any) -> Child:
                server: Any = FakeServer(lambda child: None)
                server.pids = {1: os.getpid()}
                ours, theirs = socket.socketpair()
                stack.enter_context(theirs)
                file = stack.enter_context(output.open("ab"))
                made = Child(server, 1, ours, scratch, file.fileno(), Limits(**limits))
                return stack.enter_context(made)

            yield make

    def test_none_is_passed_by_doing_nothing(self, child: Callable[..., Child]) -> None:
        quiet = child()
        quiet.check_limits()
        assert quiet.killed_for == ""

    def test_time(self, child: Callable[..., Child]) -> None:
        slow = child(seconds=0.01)
        time.sleep(0.02)
        slow.check_limits()
        assert "longer than the limit of 0.01 s" in slow.killed_for

    def test_memory(self, child: Callable[..., Child]) -> None:
        fat = child(memory=1 << 20)
        fat.check_limits()
        assert "of memory; the limit is 1 MiB" in fat.killed_for

    def test_printed_output(self, child: Callable[..., Child], tmp_path: Path) -> None:
        loud = child(output=10)
        (tmp_path / "output.txt").write_text("x" * 11)
        loud.check_limits()
        assert "of printed output" in loud.killed_for

    def test_scratch_files(self, child: Callable[..., Child], tmp_path: Path) -> None:
        big = child(scratch=1000)
        folder = tmp_path / "scratch" / "a" / "b"
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"x" * 900)
        (tmp_path / "scratch" / "link").symlink_to("/usr")
        big.check_limits()
        assert big.killed_for == ""
        big._checked_scratch = 0
        (tmp_path / "scratch" / "y").write_bytes(b"x" * 200)
        big.check_limits()
        assert "of scratch files" in big.killed_for

    def test_folders_nested_too_deeply(self, child: Callable[..., Child], tmp_path: Path) -> None:
        """A walk by recursion would end the thread that watches over every run."""
        deep, here = child(), os.open(tmp_path / "scratch", os.O_RDONLY)
        for _ in range(2048):  # a path holds no more
            os.mkdir("d", dir_fd=here)
            inner = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(here)
        deep.check_limits()
        _remove(tmp_path / "scratch")  # pytest's own cleaning recurses
        assert "cannot be read: File name too long" in deep.killed_for

    @pytest.mark.skipif(os.geteuid() == 0, reason="root sees into every folder")
    def test_folders_that_are_closed(self, child: Callable[..., Child], tmp_path: Path) -> None:
        closed = child()
        (tmp_path / "scratch" / "a").mkdir(0o300)
        closed.check_limits()
        assert "cannot be read: Permission denied" in closed.killed_for

    def test_once_is_enough(self, child: Callable[..., Child]) -> None:
        slow = child(seconds=0)
        slow.check_limits()
        slow.check_limits()
        assert slow._server.killed == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Exit(3, None, 0), "exited with code 3"),
        (Exit(None, signal.SIGSEGV, 0), "was killed by SIGSEGV"),
        (Exit(None, 40, 0), "was killed by signal 40"),
        (Exit(None, 64, 0), "was killed by SIGRTMAX"),
    ],
)
def test_an_end_in_words(how: Exit, words: str) -> None:
    assert str(how) == words


# --- the fork server -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTBENCH_TEST_SECRET", "secret")
        with ForkServer() as running:
            yield running


@pytest.fixture
def described(server: ForkServer, tmp_path: Path) -> Callable[[str], tuple[dict[str, Any], str]]:
    """The answer of a child that imports some code, and what it printed."""

    def run(code: str) -> tuple[dict[str, Any], str]:
        path = tmp_path / "method.py"
        path.write_text(code)
        (tmp_path / "scratch").mkdir(exist_ok=True)
        job = DescribeJob(str(tmp_path / "scratch"), MethodCode(None, None, str(path)))
        answer = request(server, job, tmp_path)
        return answer, (tmp_path / "output.txt").read_text()

    return run


class TestForkServer:
    def test_a_child_knows_nothing_of_the_users_environment(
        self, described: Callable[[str], tuple[dict[str, Any], str]]
    ) -> None:
        _, printed = described("import os\nprint(dict(os.environ), flush=True)")
        names = set(eval(printed))
        assert "HTBENCH_TEST_SECRET" not in names
        assert "HTBENCH_DATA" not in names
        assert "secret" not in printed
        assert "OMP_WAIT_POLICY" in names

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("import os; os._exit(7)", "exited with code 7"),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
            ("import os; os.kill(os.getpid(), 40)", "was killed by signal 40"),
            ("raise KeyboardInterrupt", "exited with code 1"),
            ("import sys; sys.exit()", "exited with code 1"),
        ],
    )
    def test_a_child_that_ends_is_told_of(
        self, described: Callable[[str], tuple[dict[str, Any], str]], code: str, words: str
    ) -> None:
        answer, _ = described(code)
        assert answer["failed"]["kind"] == "died"
        assert words in answer["failed"]["message"]

    def test_a_child_that_closes_its_channel_is_ended(
        self,
        described: Callable[[str], tuple[dict[str, Any], str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(client, "FINISH_SECONDS", 0.3)
        answer, _ = described("import os, time\nos.closerange(3, 99)\ntime.sleep(60)")
        assert "killed by SIGKILL" in answer["failed"]["message"]

    def test_it_serves_on_after_all_that(
        self, described: Callable[[str], tuple[dict[str, Any], str]]
    ) -> None:
        answer, _ = described(
            "from htbench import Method\nclass A(Method):\n    name = 'a'\n"
            "    def adapt(self, source, target, run): ..."
        )
        assert answer["done"]["name"] == "a"


def test_a_server_that_is_gone_starts_nothing(tmp_path: Path) -> None:
    with ForkServer() as running:
        os.kill(running._process.pid, signal.SIGKILL)
        running._process.wait()
        with (tmp_path / "out").open("wb") as output, pytest.raises(RunError, match="exited"):
            running.start(AddressJob(str(tmp_path), {}), output.fileno())
    assert not running.alive


def test_required_isolation_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a kernel without Landlock: one sentence that says what is missing."""
    lacking = sandbox.Availability(0, True, ("Landlock: this kernel does not have it",))
    monkeypatch.setattr(sandbox, "available", lambda: lacking)
    monkeypatch.setattr(client.subprocess, "Popen", None)
    with Session(isolation="required") as session, pytest.raises(UsageError) as refused:
        _ = session.server
    assert "Landlock: this kernel does not have it" in str(refused.value)
    assert "--isolation auto" in str(refused.value)
