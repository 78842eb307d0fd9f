"""`htbench show` prints any record that can be read: one field is one line."""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmark.errors import RecordError
from benchmark.files import digest_json
from benchmark.isolation.conversation import OUTPUT_FILE
from benchmark.manifest.manifest import Manifest
from benchmark.patterns import TRACKS
from benchmark.records import RECORD_FILE, RunRecord
from benchmark.text import REPLACEMENT
from htbench.cli.output import plot_curve
from htbench.cli.show import MAX_FIELD, MAX_LINES
from tests.htbench.command import Htbench
from tests.leaderboard.runs import FAILED, WriteRun

# What forges lines or hides text: line breaks of every kind, escapes, bidirectional controls.
EVIL = (
    "x\nkey  forged\r\x1b[2J\x1b[1A\u2028\u2029\x85\x0b\x0c\x1c\u202e\u2066\u200b\ud800\x00\u3164"
)
BAD = set(EVIL) - set("xkeyforged []2JA1\n")

text = st.one_of(st.text(max_size=20), st.just(EVIL), st.just("long " * 400), st.just("a" * 5000))
whole = st.integers(-(2**63) + 1, 2**63 - 1)
real = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e308, -1e308, 1.7976931348623157e308, 5e-324, 0.0, -0.0]),
)
number = st.one_of(whole, real)
value = st.recursive(
    st.one_of(st.none(), st.booleans(), number, text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
made_from = st.dictionaries(
    st.one_of(text, st.sampled_from(["manifest", "base", "search", "model", "seed"])),
    value,
    max_size=4,
)
search = st.fixed_dictionaries(
    {},
    optional={
        "by": value,
        "folds": value,
        "steps": value,
        "chosen": value,
        "tried": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "settings": st.dictionaries(text, value, max_size=2),
                    "seen": value,
                    "score": value,
                },
            )
            | value,
            max_size=3,
        ),
    },
)
log_row = st.dictionaries(st.one_of(text, st.sampled_from(["loss", "step"])), number, max_size=3)
COST = ("adapt_seconds", "predict_seconds", "wall_seconds", "peak_memory", "device_peak_memory")
record_fields = st.fixed_dictionaries(
    {
        "manifest": text,
        "task": text,
        "method": text,
        "label": text,
        "config": st.dictionaries(text, value, max_size=3),
        "track": st.sampled_from(TRACKS),
        "seed": whole,
        "status": st.sampled_from(["ok", "failed", "not-applicable"]),
        "error": st.none()
        | st.dictionaries(text | st.sampled_from(["kind", "message", "traceback"]), text),
        "cost": st.dictionaries(text | st.sampled_from(COST), real, max_size=3).filter(
            lambda cost: not any(name.endswith("_steps") for name in cost)
        ),
        "environment": st.dictionaries(text, value, max_size=3),
        "isolation": st.lists(text, max_size=3),
        "log": st.lists(log_row, max_size=5),
        "notes": st.lists(text, max_size=3),
    }
)


def write(folder: Path, made: Any, fields: dict[str, Any]) -> Path:
    """Write a record; return the run's folder."""
    run = RunRecord(key=digest_json(made), made_from=made, **fields)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD_FILE).write_bytes(run.to_bytes())
    return folder


BASE: dict[str, Any] = {
    "manifest": "icons@2.0",
    "task": "outline-solid",
    "method": "mine",
    "label": "mine",
    "config": {},
    "track": "standard",
    "seed": 0,
    **FAILED,
}


def check_output(out: str) -> None:
    lines = out.split("\n")
    assert not BAD & set(out)
    assert all(unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp") for c in out if c != "\n")
    assert not any(line.startswith("key  forged") for line in lines), "a line was forged"
    assert max(map(len, lines)) < MAX_FIELD + 300
    assert len(lines) < 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


class TestAnyRecord:
    @settings(
        deadline=None,
        database=None,
        max_examples=60,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(made=made_from, found=st.none() | search, fields=record_fields)
    @example(made={}, found=None, fields=BASE | {"error": {}})
    @example(made={"manifest": None, "base": [1]}, found={}, fields=BASE | {"status": "ok"})
    def test_is_shown(
        self, htbench: Htbench, folder: Path, made: Any, found: Any, fields: dict[str, Any]
    ) -> None:
        if found is not None:
            made = {**made, "search": found}
        run = write(folder / "run", made, fields)
        try:
            record = RunRecord.read(run)
        except RecordError:  # such as a lone surrogate in a key
            return
        status, out, err = htbench("show", run)
        assert status in ((2,) if record.status == "ok" else (0,)), err
        assert "Traceback" not in err
        check_output(out)
        assert out.count("\ninputs (the run's key is their SHA-256)\n") == 1
        assert f"  key          {record.key}" in out.split("\n")
        assert len(err.encode()) <= 2048
        status, out, err = htbench("show", run, "--json")
        assert status in (0, 2)
        assert not BAD & set(out)
        report = json.loads(out)
        for name in ("label", "log", "notes", "environment", "error", "config"):
            assert report[name] == getattr(record, name)


FIELDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "error kind": lambda t: {"error": {"kind": t, "message": "m", "traceback": ""}},
    "error message": lambda t: {"error": {"kind": "k", "message": t, "traceback": ""}},
    "traceback": lambda t: {"error": {"kind": "k", "message": "m", "traceback": t}},
    "log key": lambda t: {"log": [{t: 1.0}]},
    "label": lambda t: {"label": t},
    "task": lambda t: {"task": t},
    "manifest": lambda t: {"manifest": t},
    "note": lambda t: {"notes": [t]},
    "isolation": lambda t: {"isolation": [t, "b"]},
    "environment key": lambda t: {"environment": {t: "1"}},
    "environment value": lambda t: {"environment": {"torch": [t]}},
    "setting": lambda t: {"config": {t: t}},
}


class TestForgedText:
    @pytest.mark.parametrize("name", FIELDS)
    @pytest.mark.parametrize("content", [EVIL, "x" * 10**6], ids=["lines", "long"])
    def test_in_a_field(self, htbench: Htbench, tmp_path: Path, name: str, content: str) -> None:
        plain = htbench("show", write(tmp_path / "a", {}, BASE | FIELDS[name]("plain")))[1]
        status, out, _ = htbench("show", write(tmp_path / "b", {}, BASE | FIELDS[name](content)))
        assert status == 0
        check_output(out)
        extra = len(content.splitlines()) if name == "traceback" else 0
        assert len(out.splitlines()) <= len(plain.splitlines()) + extra
        assert (REPLACEMENT in out) == (content == EVIL)

    def test_in_the_inputs(self, htbench: Htbench, tmp_path: Path) -> None:
        text = EVIL.replace("\ud800", "")
        _, out, _ = htbench("show", write(tmp_path / "a", {text: text, "b": {text: [text]}}, BASE))
        check_output(out)

    def test_in_what_the_run_printed(self, htbench: Htbench, tmp_path: Path) -> None:
        run = write(tmp_path / "a", {}, BASE)
        (run / OUTPUT_FILE).write_bytes(b"\x1b[2J" * 10**6 + b"\r\xff\nlast line\n")
        _, out, _ = htbench("show", run)
        check_output(out)
        assert "  | last line" in out.splitlines()

    def test_a_long_log_is_cut(self, htbench: Htbench, tmp_path: Path) -> None:
        log = [{"accuracy": float(i)} for i in range(10_000)]
        _, out, _ = htbench("show", write(tmp_path / "a", {}, BASE | {"log": log}))
        check_output(out)
        assert f"  ({10_000 - MAX_LINES:,} more lines)" in out.splitlines()

    def test_lines_of_several_long_values_are_cut(self, htbench: Htbench, tmp_path: Path) -> None:
        long = "long " * 1000
        fields = {
            "error": {"kind": long, "message": long, "traceback": ""},
            "environment": dict.fromkeys("abc", long),
        }
        _, out, _ = htbench("show", write(tmp_path / "a", {}, BASE | fields))
        check_output(out)

    def test_in_lists_and_scores(
        self, htbench: Htbench, tmp_path: Path, icons: Manifest, write_run: WriteRun
    ) -> None:
        record = write_run(tmp_path, "mine", label=f"mine({EVIL.replace(chr(0xD800), '')})")
        at = ("--workspace", tmp_path)
        _, plain, _ = htbench("list", "runs", *at)
        assert len(plain.splitlines()) == 3, "one row"
        for arguments in (
            ("list", "runs", *at),
            ("list", "runs", *at, "--json"),
            ("score", record.key, *at),
            ("score", record.key, *at, "--json"),
            ("show", record.key, *at),
            *(("leaderboard", *at, "--format", form) for form in ("markdown", "csv", "json")),
        ):
            status, out, err = htbench(*arguments)
            assert status == 0, err
            assert not BAD & set(out)


class TestCurve:
    @pytest.mark.parametrize(
        "values",
        [
            [1e308, -1e308, 0.0],
            [math.nan, 1.0, math.inf, -math.inf, 2.0],
            [5e-324, 0.0],
            [2**62, 1],
            [3.0],
            [1.0] * 10_000,
        ],
    )
    def test_any_numbers(self, values: list[float]) -> None:
        lines = plot_curve(values)
        assert len(lines) == 6
        assert max(map(len, lines)) <= 80

    @pytest.mark.parametrize("values", [[], [math.nan], [math.inf]])
    def test_nothing_to_plot(self, values: list[float]) -> None:
        assert plot_curve(values) == []

    def test_bars(self) -> None:
        lines = plot_curve([0.0, 1.0, 2.0], height=2)
        assert lines == ["       2 |  █", "       0 | ██"]


def test_a_run_that_cannot_be_scored_is_shown(
    htbench: Htbench, tmp_path: Path, write_run: WriteRun
) -> None:
    record = write_run(tmp_path, "mine", made={"manifest": "f" * 64})
    status, out, err = htbench("show", record.key, "--workspace", tmp_path)
    assert status == 2
    assert "mine on outline-solid, seed 0" in out
    assert "no manifest with that digest was found" in err


def test_every_field_of_a_record_is_covered() -> None:
    """A new field of the record needs a place in the strategies of this file."""
    names = {field.name for field in dataclasses.fields(RunRecord)}
    here = {*BASE, "cost", "environment", "isolation", "log", "notes"}
    files = {"predictions_sha256", "weights_sha256"}
    assert names - here == {"key", "made_from", "format", *files}


def test_score_and_show_print_both_areas_with_four_digits(
    htbench: Htbench, tmp_path: Path, write_run: WriteRun
) -> None:
    record = write_run(tmp_path, "source", "outline-solid", 0)
    at = ("--workspace", tmp_path, "--suite", "icons")
    values = json.loads(htbench("score", record.key, *at, "--json")[1])
    lines = htbench("score", record.key, *at)[1].splitlines()
    scored = dict(line.split()[:2] for line in lines if line)
    shown = htbench("show", record.key, *at)[1].splitlines()
    heading = next(i for i, line in enumerate(shown) if "AUSUC" in line)
    assert shown[heading].split()[-2:] == ["AUSUC", "OpenworldAUC"]
    areas = [f"{values[name]:.4f}" for name in ("ausuc", "openworld_auc")]
    assert [scored["ausuc"], scored["openworld_auc"]] == areas
    assert next(line for line in shown if "per sample" in line).split()[-2:] == areas
