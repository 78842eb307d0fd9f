"""Progress without a terminal: lines at the end of jobs, and about those that take long."""

from __future__ import annotations

import re
import sys
import time

import pytest

from htbench.progress import JobBars, JobLines, StepLines, Terminal, step_bars


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_short_jobs_print_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with JobLines(2) as jobs:
        for name in ("one", "two"):
            jobs.begin(name)
            jobs.step(name, 1, 2)
            jobs.end(name, "0.1 s")
    assert lines(capsys) == ["[1/2] one: 0.1 s", "[2/2] two: 0.1 s"]


def test_long_jobs_print_their_steps_and_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with JobLines(3, seconds=0.2) as jobs:
        jobs.begin("short")
        jobs.end("short", "0.1 s")
        jobs.begin("training")
        jobs.begin("silent")
        jobs.step("training", 0, 1000)
        time.sleep(0.1)
        jobs.step("training", 10, 1000)  # 100 steps a second: 990 take about 10 s
        time.sleep(0.15)
        jobs.end("silent", "failed: no reason")
    first, line, *_, last = lines(capsys)
    assert (first, last) == ("[1/3] short: 0.1 s", "[2/3] silent: failed: no reason")
    steps = re.fullmatch(
        r"\[1/3\] running: training: step 10 of 1000, about (\d+) s left; "
        r"silent: for about 0\.\d+ s",
        line,
    )
    assert steps is not None, line
    assert 9 <= int(steps[1]) <= 90  # a loaded machine sleeps longer


def test_a_total_that_is_unknown_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with JobLines(1, seconds=0.05) as jobs:
        jobs.begin("open-ended")
        jobs.step("open-ended", 7, 0)
        time.sleep(0.1)
    assert lines(capsys)[0] == "[0/1] running: open-ended: step 7"


def test_a_total_that_grows_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A method that trains several times knows only the steps of the training that runs."""
    with JobLines(1, seconds=0.05) as jobs:
        jobs.begin("rounds")
        for done in range(190, 231, 10):
            jobs.step("rounds", done, max(200, done + 2))
        time.sleep(0.1)
    assert lines(capsys)[0] == "[0/1] running: rounds: step 230"


def test_a_bar_shows_no_total_that_grows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    with JobBars(1) as jobs:
        jobs.begin("rounds")
        for done, shown in ((190, "190/200"), (230, "230/?")):
            jobs.step("rounds", done, max(200, done + 2))
            time.sleep(0.2)  # the bars are drawn ten times a second
            assert shown in capsys.readouterr().err


@pytest.mark.parametrize(("total", "expected"), [(4000, " of 4000, "), (0, ", "), (826, ", ")])
def test_a_total_that_is_passed_is_not_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, total: int, expected: str
) -> None:
    """Of a manifest with some of the images, all are read: 2048 of 826 with -1 s left."""
    now = iter([0.0, 1.0, 3.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    steps = StepLines("decoding")
    steps(1024, total)
    steps(2048, total)
    first, second = lines(capsys)
    left = ", about 6 s left" if total > 2048 else ""
    assert first == f"decoding: 1024{expected.removesuffix(', ')}"
    assert second == f"decoding: 2048{expected}341/s{left}"


def test_bars_show_names_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name has the settings of its run, and brackets in them are not a style."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("COLUMNS", "200")
    name = "mine(prompt=[/b] a [red]{}) outline-solid seed 0"
    with JobBars(1) as jobs:
        jobs.begin(name)
        jobs.step(name, 1, 2)
        time.sleep(0.2)  # the bars are drawn ten times a second
        jobs.end(name, "0.1 s")
    assert name in capsys.readouterr().err


def test_a_process_without_standard_error_has_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Terminal().jobs(1) as jobs, step_bars() as progress_of:
        jobs.begin("one")
        jobs.end("one", "0.1 s")
        progress_of("decoding")(1, 2)
    assert isinstance(jobs, JobLines)
