"""The driver's conversation with a child: whatever the child sends, the driver checks it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.errors import RunError
from benchmark.isolation import client
from benchmark.isolation.answers import HandOut
from benchmark.isolation.conversation import Outcome, reason_of, request, run_job
from benchmark.jobs import (
    MAX_LOG_ROWS,
    MAX_TEXT,
    AddressJob,
    ImageFormat,
    ImportJob,
    Network,
    Setup,
)
from tests.benchmark.isolation.scripted import FACTS, HUGE, SHAPE, FakeServer, Script


class FourImages:
    """Images that are handed out in two batches, and one of them twice."""

    size = 1

    def __len__(self) -> int:
        return SHAPE[0]

    def read(self, index: int) -> bytes:
        return f"image {index};".encode()


BATCHES = [[3, 0], [1, 2], [0, 1]]


@pytest.fixture
def hear(tmp_path: Path) -> Callable[..., Outcome]:
    """What the driver makes of a script."""
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
        hand_out = HandOut(FourImages(), BATCHES, SHAPE[1])
        return run_job(server, job, hand_out, tmp_path, progress, weights_limit=100)

    return run


class TestConversation:
    def test_a_good_one(self, hear: Callable[..., Outcome]) -> None:
        seen: list[tuple[int, int]] = []
        rows = np.arange(12, dtype=np.float32).reshape(SHAPE)

        def script(child: Script) -> None:
            child.say(locked=FACTS, environment={"torch": "2", "reviewed": "yes"})
            child.say(progress=[1, 2])
            child.adapt(
                weights=b"weights",
                counted_steps=7,
                total_steps=7,
                sequential_steps=5,
                log=[{"loss": 0.5, "step": 1}],
            )
            for batch in BATCHES:
                assert child.batch() == b"".join(b"image %d;" % i for i in batch)
                child.say(progress=[3, 2])
                child.rows(rows[batch].tobytes())
            assert child.batch() == b""
            child.say(done={"torch": "9", "counted_steps": 9, "total_steps": 7})

        outcome = hear(script, progress=lambda *steps: seen.append(steps))
        assert outcome.error is None
        assert outcome.array is not None
        assert outcome.array.tolist() == rows.tolist()
        assert outcome.weights is not None
        assert outcome.weights.read_bytes() == b"weights"
        assert outcome.isolation == FACTS
        assert outcome.environment == {"torch": "2"}, "from before the method, and known facts only"
        assert outcome.notes == {"log": [{"loss": 0.5, "step": 1.0}], "notes": []}
        assert outcome.cost["total_steps"] == 9, "also those that it took while it predicted"
        assert seen == [(1, 2)] + [(2, 2)] * 3, "never beyond 100 %"

    def test_a_batch_comes_when_the_one_before_is_answered(
        self, hear: Callable[..., Outcome]
    ) -> None:
        early: list[Any] = []

        def script(child: Script) -> None:
            child.begin()
            child.adapt()
            child.batch()
            early.append(child.early_byte())

        hear(script)
        assert early == [None]

    def test_the_weights_come_before_the_first_image(self, hear: Callable[..., Outcome]) -> None:
        def script(child: Script) -> None:
            child.begin()
            child.say(b"12", adapted={}, weights=3)
            early.append(child.early_byte())

        early: list[Any] = []
        error = hear(script).error
        assert early == [None]
        assert error is not None
        assert error["kind"] == "died"

    @pytest.mark.parametrize("size", [101, HUGE, -1, True, 1.5, "1", None, [1]])
    def test_weights_of_another_size(self, hear: Callable[..., Outcome], size: Any) -> None:
        error = hear(lambda child: (child.begin(), child.say(adapted={}, weights=size))).error
        assert error is not None
        assert error["kind"] == "contract"
        assert "weights" in error["message"]

    def test_a_changed_answer_fails(self, hear: Callable[..., Outcome]) -> None:
        def script(child: Script) -> None:
            child.begin()
            child.adapt()
            for number in range(len(BATCHES)):
                child.batch()
                child.rows(np.full((2, SHAPE[1]), number, np.float32).tobytes())

        outcome = hear(script)
        assert outcome.array is None
        assert outcome.error is not None
        assert outcome.error["kind"] == "contract"
        assert "depend on the other images in the batch" in outcome.error["message"]

    def test_the_test_images_come_after_adapting_and_not_before(
        self, hear: Callable[..., Outcome]
    ) -> None:
        early: list[Any] = []

        def script(child: Script) -> None:
            child.begin()
            child.say(progress=[1, 1])
            early.append(child.early_byte())

        hear(script)
        assert early == [None]

    @pytest.mark.parametrize(
        "message",
        [
            {},
            {"adapted": {}},
            {"done": {}},
            {"locked": FACTS, "environment": {"torch": "9"}},
            {"rows": 24},
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
        assert "before it returned a result" in error["message"] or "truncated" in error["message"]

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
            ({"log": "x", "total_steps": 3, "reviewed": "yes"}, {"log": []}),
            (
                {"log": [{"a": HUGE, "b": "x", "c": None, "d": True, "e": 1}, 5, [], {"f": 2.5}]},
                {"log": [{"e": 1.0}, {"f": 2.5}]},
            ),
            (
                {"log": [{str(i): 1 for i in range(51)}]},
                {"log": [{str(i): 1.0 for i in range(50)}]},
            ),
            ({"log": [{"x" * 100: 1}]}, {"log": [{"x" * 50: 1.0}]}),
            (
                {"log": [{"x" * 50: 1, "x" * 51: 2, "x" * 52: 3}]},
                {"log": [{"x" * 50: 1.0, "x" * 48 + "~2": 2.0, "x" * 48 + "~3": 3.0}]},
            ),
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

    @pytest.mark.parametrize(
        ("counts", "total", "depth", "declared"),
        [
            ({}, 0, 0, 0),
            ({"counted_steps": 9}, 9, 9, 0),  # the method keeps no count
            ({"counted_steps": 9, "total_steps": 9, "sequential_steps": 9}, 9, 9, 0),
            ({"counted_steps": 9, "total_steps": 9, "sequential_steps": 3}, 9, 3, 0),
            ({"counted_steps": 9, "total_steps": 9}, 9, 9, 0),
            ({"counted_steps": 9, "total_steps": 4, "sequential_steps": 2}, 9, 7, 0),
            ({"counted_steps": 9, "total_steps": 20, "sequential_steps": 20}, 20, 20, 11),
            ({"total_steps": 5}, 5, 5, 5),  # its own updates only
            ({"counted_steps": 9, "sequential_steps": 100}, 9, 9, 0),
            ({"counted_steps": HUGE, "total_steps": -1, "sequential_steps": True}, 0, 0, 0),
            ({"counted_steps": 1.0, "total_steps": "1", "sequential_steps": None}, 0, 0, 0),
        ],
    )
    def test_steps_are_counted_and_more_are_declared(
        self,
        hear: Callable[..., Outcome],
        counts: dict[str, Any],
        total: int,
        depth: int,
        declared: int,
    ) -> None:
        cost = hear(lambda child: (child.begin(), child.adapt(**counts))).cost
        names = ("total_steps", "sequential_steps", "declared_steps")
        assert [cost[name] for name in names] == [total, depth, declared]

    def test_time_counts_from_the_lock(self, hear: Callable[..., Outcome]) -> None:
        def script(child: Script) -> None:
            child.begin()
            time.sleep(0.3)  # such as training while the method is imported
            child.adapt()
            child.batch()
            time.sleep(0.2)

        cost = hear(script).cost
        # Half of what passed: on a busy machine, the driver hears of the lock late.
        assert cost["adapt_seconds"] >= 0.15
        assert cost["predict_seconds"] >= 0.1
        assert cost["wall_seconds"] >= cost["adapt_seconds"] + cost["predict_seconds"]

    @pytest.mark.parametrize("notes", [None, [], 5, "x"])
    def test_notes_that_are_none(self, hear: Callable[..., Outcome], notes: Any) -> None:
        outcome = hear(lambda child: (child.begin(), child.say(adapted=notes, weights=0)))
        assert outcome.notes == {}

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "returned 0 bytes"),
            (b"\0" * 23, "returned 23 bytes of logits for 2 images, but 24 were expected"),
            (b"\0" * 25, "returned 25 bytes"),
            (np.full(6, np.nan, np.float32).tobytes(), "NaN or infinite"),
            (np.full(6, np.inf, np.float32).tobytes(), "NaN or infinite"),
        ],
    )
    def test_an_array_is_measured(
        self, hear: Callable[..., Outcome], data: bytes, words: str
    ) -> None:
        outcome = hear(lambda child: child.answer(data))
        assert outcome.array is None
        assert outcome.error is not None
        assert words in outcome.error["message"]

    def test_facts_from_a_method_are_dropped(self, hear: Callable[..., Outcome]) -> None:
        forged = {"htbench": "9.9.9", "torch": "99.0", "device": "NVIDIA H100", "reviewed": "yes"}
        outcome = hear(lambda child: child.answer(**forged))
        assert outcome.error is None
        assert outcome.environment == {}
        assert set(outcome.cost) == {
            *("adapt_seconds", "predict_seconds", "wall_seconds", "peak_memory"),
            *("total_steps", "sequential_steps", "declared_steps"),
        }

    @pytest.mark.parametrize(
        ("said", "believed"),
        [(7 << 30, 7 << 30), (0, 0), (-1, None), (HUGE, None), (1.5, None), (True, None)],
    )
    def test_memory_of_a_device_is_a_number_of_the_cost(
        self, hear: Callable[..., Outcome], said: Any, believed: int | None
    ) -> None:
        outcome = hear(lambda child: child.answer(torch="2", device_peak_memory=said))
        assert outcome.cost.get("device_peak_memory") == believed
        assert outcome.environment == {}

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

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            ("ValueError: alpha: below 0", "alpha: below 0"),
            ("the run sent 5 bytes of weights", "the run sent 5 bytes of weights"),
            ("", ""),
        ],
    )
    def test_a_reason_is_without_the_type_of_the_exception(self, message: str, reason: str) -> None:
        """A breach of the rules has no type; its whole message was lost."""
        assert reason_of({"message": message}) == reason
