"""`htbench run`: what it says and asks before it starts."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.driver import SuitePlan
from benchmark.errors import UsageError
from benchmark.isolation.conversation import OUTPUT_FILE
from benchmark.session import Session
from htbench.long_runs import duration
from htbench.run import run_suite
from htbench.smoke import IMAGES
from tests.conftest import Draft
from tests.htbench.command import Htbench

DAY = 86400


@pytest.fixture
def suite(
    draft: Draft,
    own_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    session: Session,
) -> Path:
    """A suite of a small manifest, which no test runs; commands share one fork server."""
    for module in ("driver", "session"):
        shared = f"benchmark.{module}.Session"
        monkeypatch.setattr(shared, lambda **_: contextlib.nullcontext(session))
    draft.write()
    file = tmp_path / "mine.toml"
    file.write_text(
        'title = "Mine"\nmanifest = "mini"\ntasks = ["outline-solid"]\nmethods = ["finetune"]\n'
        "seeds = [0]\n"
    )
    monkeypatch.chdir(tmp_path)

    def start(*_: Any) -> None:
        raise UsageError("started")

    monkeypatch.setattr(SuitePlan, "execute", start)
    return file


def options(suite: Path) -> tuple[object, ...]:
    return ("run", "--suite", suite, "--device", "cpu", "--jobs", 1)


def test_a_dry_run_times_a_step_where_nothing_is_known(suite: Path, htbench: Htbench) -> None:
    status, out, _ = htbench(*options(suite), "--dry-run")
    assert status == 0
    estimate = re.search(r"estimated time: about (\S+) s, based on one step of the network", out)
    assert estimate
    assert 0 < float(estimate[1]) < 60


def test_a_dry_run_prints_the_same_estimate_as_json(suite: Path, htbench: Htbench) -> None:
    status, out, _ = htbench(*options(suite), "--dry-run", "--json")
    assert status == 0
    (run,) = json.loads(out)
    assert 0 < run["estimated_seconds"] < 60


def test_a_dry_run_for_a_gpu_that_is_elsewhere_gives_gpu_hours(
    suite: Path, htbench: Htbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.driver.resolve_device", lambda choice: "cpu")
    cell = ("--task", "Art-Clipart", "--method", "finetune", "--seed", 0, "--seed", 1)
    status, out, _ = htbench(
        "run", "--suite", "office-home", *cell, "--device", "cuda", "--dry-run"
    )
    assert status == 0
    # Two runs and the source model, each of 640,000 images, and 2 x 1,330 predictions at a third.
    assert "not measured: 1.45 on V100 16 GB, float32; 0.569 on A100 80 GB, TF32" in out
    assert "no time estimate: this machine has no CUDA device\n" in out


def test_a_dry_run_of_a_shard_shows_its_runs(suite: Path, htbench: Htbench) -> None:
    suite.write_text(suite.read_text().replace("seeds = [0]", "seeds = [0, 1]"))
    seeds = []
    for number in (1, 2):
        words = (*options(suite), "--shard", f"{number}/2", "--dry-run", "--json")
        status, out, err = htbench(*words)
        assert (status, err) == (0, f"shard {number} of 2: 1 run\n")
        seeds += [run["seed"] for run in json.loads(out)]
    assert sorted(seeds) == [0, 1]
    status, _, err = htbench(*options(suite), "--shard", "1/3", "--dry-run")
    assert status == 2
    assert "use at most 2 shards" in err
    assert "is not of the form I/N" in htbench(*options(suite), "--shard", "1")[2]
    with pytest.raises(UsageError, match="use at most 2 shards"):
        run_suite(suite, shard="1/3", device="cpu")


def test_settings_with_which_the_process_of_a_method_ends_are_refused_with_the_reason(
    suite: Path, htbench: Htbench
) -> None:
    Path("ends.py").write_text(
        "from dataclasses import dataclass\nfrom os import _exit\nfrom htbench import Method\n\n"
        "@dataclass(frozen=True)\nclass Ends(Method):\n    name = 'ends'\n"
        "    alpha: float = 1.0\n\n"
        "    def __post_init__(self):\n        if self.alpha < 1:\n            _exit(7)\n\n"
        "    def adapt(self, *_): ...\n"
    )
    words = (*options(suite), "--plugin", "ends.py", "--set", "alpha=0.3", "--dry-run")
    status, _, err = htbench(*words)
    ended = "its process exited with code 7 before it returned a result"
    assert (status, err) == (2, f"htbench: ends(alpha=0.3): {ended}\n")


def test_defaults_that_a_method_rejects_are_refused_before_anything_runs(
    suite: Path, htbench: Htbench
) -> None:
    """A field that must be set: each run failed, once source models were trained."""
    Path("needs.py").write_text(
        "from dataclasses import dataclass\nfrom htbench import Method\n\n"
        "@dataclass(frozen=True)\nclass Needs(Method):\n    name = 'needs'\n"
        "    which: str = ''\n\n"
        "    def __post_init__(self):\n        if not self.which:\n"
        "            raise ValueError('set which')\n\n    def adapt(self, *_): ...\n"
    )
    words = (*options(suite), "--plugin", "needs.py", "--dry-run")
    status, _, err = htbench(*words)
    assert (status, err) == (2, "htbench: needs: set which\n")
    assert htbench(*words, "--set", "which=a")[0] == 0


def test_the_estimate_grows_with_the_steps(draft: Draft, suite: Path, htbench: Htbench) -> None:
    draft.document["recipe"]["steps"] = 10**8
    draft.write()
    _, out, _ = htbench(*options(suite), "--dry-run")
    assert re.search(r"estimated time: about \S+ days", out)


def test_a_run_of_more_than_a_day_on_a_cpu_asks_for_yes(
    draft: Draft, suite: Path, htbench: Htbench
) -> None:
    draft.document["recipe"]["steps"] = 10**8
    draft.write()
    status, _, err = htbench(*options(suite))
    assert status == 2
    assert re.fullmatch(
        r"htbench: on this CPU, the runs will take about \S+ days \(estimate\); "
        r"add --yes to start them, or use --device cuda\n",
        err,
    )
    assert "started" in htbench(*options(suite), "--yes")[2]


def test_a_search_of_more_than_a_day_asks_for_yes(
    draft: Draft, suite: Path, htbench: Htbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft.document["recipe"]["steps"] = 10**8
    for task in draft.document["tasks"]:
        task["seen"] = list(draft.document["classes"][:4])  # folds need as many
    draft.write()
    monkeypatch.setattr("htbench.tune.TuningPlan.choose", SuitePlan.execute)
    options = ("tune", "lolsgd", "--suite", suite, "--grid", "local_models=5,10", "--device", "cpu")
    status, _, err = htbench(*options)
    assert status == 2
    assert re.search(r"on this CPU, the runs will take about \S+ days .*; add --yes", err)
    assert "started" in htbench(*options, "--yes")[2]


def test_folds_that_can_hold_out_no_image_are_refused_before_any_search(
    draft: Draft, suite: Path, htbench: Htbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = draft.document["classes"][:4]
    for task in draft.document["tasks"]:
        task["seen"] = list(names)
    for name in names:
        others = draft.rows_of(domain="solid", split="train", **{"class": name})[1:]
        draft.rows[:] = [row for row in draft.rows if row not in others]
    draft.write()
    monkeypatch.setattr("htbench.tune.TuningPlan.choose", SuitePlan.execute)
    options = ("tune", "lolsgd", "--suite", suite, "--grid", "local_models=5,10", "--device", "cpu")
    status, _, err = htbench(*options)
    assert status == 2
    assert "task outline-solid has no image to hold out of the seen classes that stay seen" in err
    assert not Path("workspace").exists()


def test_the_answer_no_ends_the_command_before_anything_is_done(
    draft: Draft, suite: Path, htbench: Htbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft.document["recipe"]["steps"] = 10**8
    draft.write()
    for answer, ending in (("n\n", (1, "nothing was done")), ("y\n", (2, "started"))):
        terminal = io.StringIO(answer)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", terminal)
        status, _, err = htbench(*options(suite))
        assert (status, ending[1] in err, "Interrupted" in err) == (ending[0], True, False)
        assert not Path("workspace").exists()


def test_a_call_from_python_says_that_it_takes_more_than_a_day(
    draft: Draft, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draft.document["recipe"]["steps"] = 10**8
    draft.write()
    for progress in (True, False):
        with pytest.raises(UsageError, match="started"):
            run_suite(suite, device="cpu", progress=progress)
        assert ("on this CPU, the runs will take about" in capsys.readouterr().err) is progress


def test_a_short_run_does_not_ask(suite: Path, htbench: Htbench) -> None:
    assert "started" in htbench(*options(suite))[2]


def test_images_are_checked_before_weights_are_downloaded(
    draft: Draft, suite: Path, htbench: Htbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: Any) -> None:
        raise AssertionError("downloaded")

    monkeypatch.undo()
    monkeypatch.chdir(suite.parent)
    monkeypatch.setenv("HTBENCH_DATA", str(suite.parent / "data"))
    monkeypatch.setattr("benchmark.driver.download_pretrained", download)
    draft.document["images"] = "folder"
    draft.document["model"] = {
        "name": "mobilenet_v2",
        "weights": "MobileNet_V2_Weights.IMAGENET1K_V1",
    }
    draft.write(draft.table().drop_columns(["image"]))
    for words in (options(suite), ("source", "train", "--manifest", "mini")):
        status, _, err = htbench(*words)
        assert status == 2
        assert re.search(r"\d+ images missing \(outline \d+", err)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "about 0.04 s"),
        (75, "about 75 s"),
        (600, "about 10 minutes"),
        (5 * 3600, "about 5 hours"),
        (3.5 * DAY, "about 3.5 days"),
        (1234 * DAY, "about 1234 days"),
    ],
)
def test_a_duration_is_easy_to_read(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class TestPrints:
    @pytest.fixture
    def echoed(self, suite: Path, htbench: Htbench, monkeypatch: pytest.MonkeyPatch) -> str:
        """Run with a stand-in for the run, which prints; return standard error."""

        def execute(plan: SuitePlan, *_: Any) -> list[Any]:
            key = f"{len(plan.cells):064}"
            folder = plan.workspace.folder(key)
            folder.mkdir(parents=True)
            (folder / OUTPUT_FILE).write_text(
                "".join(f"line {i}\n" for i in range(150)) + "\x1b[2J"
            )
            return [SimpleNamespace(key=key, status="ok")]

        monkeypatch.setattr(SuitePlan, "execute", execute)
        self.run = lambda *words: htbench(*options(suite), *words)[2]
        return self.run()

    def test_of_a_single_run_are_shown_safely_and_at_most_100_lines(self, echoed: str) -> None:
        assert "(only the last 100 lines that the run printed)\n  | line 51\n" in echoed
        assert "line 50\n" not in echoed
        assert "  | line 149\n  | \N{REPLACEMENT CHARACTER}[2J\n" in echoed

    def test_of_its_base_do_not_matter_but_of_several_runs_none_is_shown(self, echoed: str) -> None:
        assert "| line 149" in self.run("--method", "wise-ft")
        assert "| line" not in self.run("--method", "wise-ft", "--method", "lwf")


class TestSmoke:
    PLUGIN = "class Mine(Method):\n    name = 'mine'\n    def adapt(self, source, target, run):\n"

    @pytest.fixture
    def smoke(self, draft: Draft, own_data: Path, tmp_path: Path, htbench: Htbench, monkeypatch):
        draft.document["source"] |= {"steps": 10**6}
        draft.document["recipe"] |= {"steps": 10**6}
        draft.write()
        file = tmp_path / "mine.toml"
        file.write_text(
            'title = "Mine"\nmanifest = "mini"\ntasks = ["outline-solid", "solid-outline"]\n'
            'methods = ["finetune", "lwf"]\nseeds = [3, 4]\n'
        )
        (own_data / "images").mkdir(parents=True)
        (own_data / "images" / "photo.jpg").write_text("a photo")
        (tmp_path / "temporary").mkdir()
        monkeypatch.setitem(IMAGES, "train", 2)  # of three in the slice
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        monkeypatch.chdir(tmp_path)
        return lambda *words: htbench(*options(file), "--smoke", *words)

    def test_takes_two_steps_and_keeps_nothing(self, smoke, own_data: Path, tmp_path: Path) -> None:
        before = set(own_data.rglob("*"))
        (tmp_path / "mine.py").write_text(
            f"from htbench import Method, fit\n{self.PLUGIN}"
            "        print(len(target), 'images', run.recipe.steps, 'steps', len(target.classes))\n"
            "        return fit(source.copy(), target, run)\n"
        )
        status, out, err = smoke("--plugin", "mine.py")
        assert status == 0, err
        # three seen classes of two images
        assert "| 6 images 2 steps 5\n" in err
        assert out == (
            "1 of 1 run finished, 0 failed\ntwo steps on a few images; nothing is recorded\n"
        )
        assert not list((tmp_path / "temporary").iterdir())
        assert not (tmp_path / "workspace").exists()
        computed = {path.relative_to(own_data).parts[0] for path in own_data.rglob("*")}
        assert computed.isdisjoint({"sources", "stores", "features"})
        assert before <= set(own_data.rglob("*"))
        assert (own_data / "images" / "photo.jpg").read_text() == "a photo"

    def test_a_failed_run_can_be_shown(self, smoke, tmp_path: Path, htbench: Htbench) -> None:
        (tmp_path / "mine.py").write_text(
            f"from htbench import Method\n{self.PLUGIN}        raise KeyError('no such colour')\n"
        )
        status, out, err = smoke("--plugin", "mine.py")
        assert status == 1
        assert "0 of 1 run finished, 1 failed\n" in out
        show = re.search(r"details: htbench (show .*)", err)
        assert show is not None
        assert "no such colour" in htbench(*show[1].split())[1]
        kept = [path.name for path in (tmp_path / "temporary").iterdir()]
        assert len(kept) == 1
        assert kept[0] in out

    def test_runs_source_and_finetune_on_the_first_task_and_seed(self, smoke) -> None:
        status, out, _ = smoke("--dry-run", "--json")
        runs = [(run["task"], run["method"], run["seed"]) for run in json.loads(out)]
        assert status == 0
        assert runs == [("outline-solid", "source", 3), ("outline-solid", "finetune", 3)]

    def test_of_a_shard_is_refused(self, smoke) -> None:
        status, _, err = smoke("--shard", "1/2")
        assert status == 2
        assert "--smoke and --shard exclude each other" in err

    def test_in_a_workspace_is_refused(self, smoke) -> None:
        status, _, err = smoke("--workspace", "mine", "--dry-run")
        assert status == 2
        assert "--workspace cannot be combined with --smoke, which records nothing" in err
