"""Array jobs of `htbench cluster script`: what each job runs, with any names of files."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from benchmark.driver import plan_suite, target_needs
from benchmark.manifest.suite import load_suite
from benchmark.runs.workspace import Workspace
from htbench.cluster import SYSTEMS
from tests.htbench.command import Htbench, parse

SHARDS = 8
OPTIONS = ("--device", "cuda", "--plugin", 'it\'s "my" $method.py', "--set", "x=a  b")
PLUGIN = ("--plugin", "my_method.py")  # without one, the real Python would plan the runs
WORKSPACE = 'it\'s "my" $workspace'


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that takes the place of htbench and of Python: it prints its arguments."""
    folder = tmp_path / "a program"
    folder.mkdir()
    for name in ("python", "htbench"):
        path = folder / name
        path.write_text(
            f"#!{sys.executable}\nimport json, os, sys\n"
            "print(json.dumps([sys.argv[1:], os.environ.get('HTBENCH_DATA')]))\n"
        )
        path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "my data"))
    (tmp_path / "my folder").mkdir()
    monkeypatch.chdir(tmp_path / "my folder")
    return folder


def script(htbench: Htbench, system: str, *options: str, workspace: str = WORKSPACE) -> str:
    words = ("--suite", "icons", "--shards", SHARDS, "--workspace", workspace, "--", *options)
    status, out, err = htbench("cluster", "script", f"--{system}", *words)
    assert status == 0, err
    return out


def run(command: Sequence[str], **variables: str) -> tuple[list[str], str]:
    """The arguments and the data folder that the program was started with."""
    result = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    words, data = json.loads(result.stdout)
    return words, data


def check(words: list[str], number: str, folder: str) -> None:
    """That these words run one shard with the options."""
    where = ["--shard", number, "--workspace", f"{WORKSPACE}-shards/{folder}"]
    assert words == ["run", "--suite", "icons", *OPTIONS, *where]
    parse(words)


def test_source_models_are_trained_on_the_device_of_the_jobs(htbench: Htbench, program) -> None:
    for system in SYSTEMS:
        text = script(htbench, system, *PLUGIN, "--device", "cuda")
        before, _, after = text.partition("source models, which all shards use.\n")
        assert "a GPU if the" in before
        assert "source train --suite icons --device cuda\n" in after.partition("# 2.")[0]


def test_a_job_has_nobody_to_ask_before_a_long_run(htbench: Htbench, program: Path) -> None:
    for system in SYSTEMS:
        assert "more than a day on a CPU needs --yes:" in script(htbench, system, *PLUGIN)
    text = script(htbench, "slurm", *PLUGIN, "--yes")
    words, _ = run(["bash", "-c", text], SLURM_ARRAY_TASK_ID="3")
    assert "--yes" in words


def test_a_slurm_job_runs_its_shard(htbench: Htbench, program: Path, tmp_path: Path) -> None:
    text = script(htbench, "slurm", *OPTIONS)
    words, data = run(["bash", "-c", text], SLURM_ARRAY_TASK_ID="3")
    assert words[:2] == ["-m", "htbench"]
    check(words[2:], "3/8", "3")
    assert data == str(tmp_path / "my data")
    directives = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.MULTILINE))
    assert directives["array"] == f"1-{SHARDS}"
    assert shlex.split(directives["chdir"]) == [str(tmp_path / "my folder")]
    assert directives["gres"] == "gpu:1"
    assert "\n##SBATCH --gres=gpu:1\n" in script(htbench, "slurm", *PLUGIN)


def test_a_kubernetes_job_runs_its_shard(htbench: Htbench, program: Path) -> None:
    job = yaml.safe_load(script(htbench, "kubernetes", *OPTIONS))["spec"]
    assert (job["completionMode"], job["completions"]) == ("Indexed", SHARDS)
    (container,) = job["template"]["spec"]["containers"]
    words, _ = run([*container["command"], *container["args"]], JOB_COMPLETION_INDEX="2")
    check(words, "auto/8", "2")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    plain = yaml.safe_load(script(htbench, "kubernetes", *PLUGIN))["spec"]["template"]["spec"]
    assert plain["containers"][0]["resources"]["limits"] == {"cpu": "8", "memory": "32Gi"}


def condor_words(line: str, **macros: str) -> list[str]:
    """The words of a line of arguments by the rules of HTCondor's manual for submit files.

    The line is in double quotes, and two of them mean one. Words are separated by blanks, unless
    in single quotes, where two of them mean one.
    """
    assert line[0] == line[-1] == '"'
    assert '"' not in line[1:-1].replace('""', "")
    line = line[1:-1].replace('""', '"')
    for name, value in macros.items():
        line = line.replace(f"$({name})", value).replace(f"$INT({name})", value)
    words = re.findall(r"(?:[^\s']|'(?:[^']|'')*')+", line)
    return [re.sub(r"'((?:[^']|'')*)'", lambda m: m[1].replace("''", "'"), w) for w in words]


def test_an_htcondor_job_runs_its_shard(htbench: Htbench, program: Path, tmp_path: Path) -> None:
    text = script(htbench, "htcondor", *OPTIONS)
    lines = dict(re.findall(r"^(\w+) = (.*)$", text, re.MULTILINE))
    assert lines["executable"] == str(program / "python")
    words = condor_words(lines["arguments"], Shard="3", DOLLAR="$")
    assert words[:2] == ["-m", "htbench"]
    assert "--jobs" not in words  # a GPU has one run at a time
    check(words[2:], "3/8", "3")
    assert condor_words(lines["environment"]) == [f"HTBENCH_DATA={tmp_path / 'my data'}"]
    assert lines["initialdir"] == str(tmp_path / "my folder")
    assert text.endswith(f"\nqueue {SHARDS}\n")


def test_an_htcondor_job_uses_only_the_cores_that_it_asks_for(htbench: Htbench) -> None:
    for options, jobs in (((), "8"), (("--jobs", "3"), "3")):
        text = script(htbench, "htcondor", *options)
        lines = dict(re.findall(r"^(\w+) = (.*)$", text, re.MULTILINE))
        words = condor_words(lines["arguments"], Shard="3", request_cpus=lines["request_cpus"])
        assert words.count("--jobs") == 1
        assert words[words.index("--jobs") + 1] == jobs


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_commands_in_comments_can_be_run(system: str, htbench: Htbench, program: Path) -> None:
    text = script(htbench, system, *OPTIONS)
    lines = [shlex.split(line) for line in re.findall(r"^# {6}(htbench .*)$", text, re.MULTILINE)]
    assert len(lines) >= 4
    for _, *words in lines:
        parse(words)
    assert ["source", "train", "--suite", "icons", "--device", "cuda"] in [w[1:] for w in lines]


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_merge_names_the_workspaces_of_all_shards(
    system: str, htbench: Htbench, program: Path
) -> None:
    for number in ("1", "2"):
        Path(f"{WORKSPACE}-shards", number).mkdir(parents=True)
    text = script(htbench, system, *PLUGIN)
    (line,) = re.findall(r"^# {6}(.* workspace merge .*)$", text, re.MULTILINE)
    if system == "slurm":
        *submit, wrapped = shlex.split(line)
        assert submit == ["sbatch", "--dependency=afterany:$job", "--wrap"]
        line = wrapped
    words, _ = run(["sh", "-c", line])
    words = words[words.index("workspace") :]
    parts = [f"{WORKSPACE}-shards/{number}" for number in ("1", "2")]
    assert words == ["workspace", "merge", *parts, "--into", WORKSPACE]
    parse(words)


def test_a_workspace_is_not_read_as_options(htbench: Htbench, program: Path) -> None:
    Path("-w-shards", "1").mkdir(parents=True)
    text = script(htbench, "htcondor", *PLUGIN, workspace="-w")
    (line,) = re.findall(r"^# {6}(.* workspace merge .*)$", text, re.MULTILINE)
    words, _ = run(["sh", "-c", line])
    words = words[words.index("workspace") :]
    assert words == ["workspace", "merge", "./-w-shards/1", "--into", "-w"]
    parse(words)


def test_a_workspace_may_begin_with_a_tilde(
    htbench: Htbench, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w-shards" / "1").mkdir(parents=True)
    text = script(htbench, "htcondor", *PLUGIN, workspace="~/w")
    (line,) = re.findall(r"^# {6}(.* workspace merge .*)$", text, re.MULTILINE)
    words, _ = run(["sh", "-c", line])
    assert words[-3:] == [str(tmp_path / "w-shards" / "1"), "--into", str(tmp_path / "w")]


@pytest.mark.parametrize("workspace", [".", "x/.."])
def test_the_shards_of_this_folder_are_beside_it(
    htbench: Htbench, program: Path, workspace: str
) -> None:
    here = Path.cwd()
    Path("x").mkdir()
    shard = here.with_name(f"{here.name}-shards") / "1"
    shard.mkdir(parents=True)
    text = script(htbench, "htcondor", *PLUGIN, workspace=workspace)
    (line,) = re.findall(r"^# {6}(.* workspace merge .*)$", text, re.MULTILINE)
    words, _ = run(["sh", "-c", line])
    assert words[-3:] == [str(shard), "--into", str(here)]


def test_what_cannot_be_written_is_refused(htbench: Htbench, tmp_path: Path) -> None:
    words = ("cluster", "script", "--suite", "icons", "--shards", "8")
    for systems in ((), ("--slurm", "--kubernetes")):
        assert "choose one batch system" in htbench(*words, *systems)[2]
    assert "control character" in htbench(*words, "--slurm", "--workspace", "a\nb")[2]
    status, _, err = htbench(*words, "--slurm", "--", "--sed", "0")
    assert status == 2
    assert re.search("No such option.* '?--sed", err)
    for option in (("--suite", "pacs"), ("--shard", "1/2"), ("--workspace", "w"), ("--dry-run",)):
        status, out, err = htbench(*words, "--slurm", "--", *option)
        assert (status, out) == (2, "")
        assert f"{option[0]} cannot be one of the options after --; remove it there" in err
    ray = ("cluster", "run", "--suite", "icons", "--address", "auto", "--", "--suite", "pacs")
    assert "--suite cannot be one of the options after --" in htbench(*ray)[2]
    suite = tmp_path / "tuned.toml"
    suite.write_text(
        'title = "T"\nmanifest = "icons@2.0"\ntasks = ["outline-solid"]\nmethods = ["lwf"]\n'
        "seeds = [0]\ntuned = true\n"
    )
    status, _, err = htbench("cluster", "script", "--slurm", "--suite", suite, "--shards", "2")
    assert status == 2
    assert "has tuned methods" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "finetune"], "--method is an option of `htbench run`; write it after `--`"),
        (["--meth", "finetune"], "No such option"),
        (["--", "--", "--method", "finetune"], "-- is given twice; write it once"),
        (["--", "--method", "finetun"], "no method 'finetun'; did you mean finetune or"),
        (["--", "--task", "solid"], "--task solid is not in suite icons"),
        (["--", "--plugin", "elsewhere.py", "--seed", "3"], "--seed 3 is not in suite icons"),
        (["--", "--model", "resnet19"], "--model resnet19: "),
        (["--", "--set", "x=1"], "--set x: no selected method has this field"),
        (["--", "--method", "source", "--seed", "0"], "use at most 5 shards"),
    ],
)
def test_what_every_job_would_refuse_is_refused(
    htbench: Htbench, words: list[str], message: str
) -> None:
    status, out, err = htbench(
        "cluster", "script", "--slurm", "--suite", "icons", "--shards", "8", *words
    )
    assert (status, out) == (2, "")
    assert message in err


def test_a_plugin_is_checked_where_it_exists(htbench: Htbench, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from htbench import Method\n\n\nclass Mine(Method):\n    name = 'mine'\n\n"
        "    def adapt(self, source, target, run):\n        return source.copy()\n"
    )
    words = ("cluster", "script", "--slurm", "--suite", "icons", "--shards", "2", "--")
    status, out, err = htbench(*words, "--plugin", plugin, "--set", "alpha=1")
    assert (status, out) == (2, "")
    assert "--set alpha: no selected method has this field" in err
    status, out, err = htbench(*words, "--plugin", f"{plugin}:Mine")
    assert (status, err) == (0, "")
    assert f"{plugin}:Mine" in out
    status, out, err = htbench(*words, "--plugin", tmp_path / "mien.py:Mine")
    assert status == 0
    assert "mien.py:Mine: there is no such file on this machine; each job looks for it" in err


def test_ray_takes_options_of_run_after_the_dashes_too(htbench: Htbench) -> None:
    words = ("--suite", "icons", "--address", "auto", "--method", "finetune")
    status, _, err = htbench("cluster", "run", *words)
    assert status == 2
    assert "`htbench cluster run ... -- --method`" in err


def test_the_run_beforehand_needs_all_images_of_the_suite(tmp_path: Path) -> None:
    """That of `source`, which docs/cluster.md named before, leaves out the missing classes."""
    command = "htbench run --suite office-home --method ncm-source --seed 0"
    assert command in Path(__file__).parents[2].joinpath("docs", "cluster.md").read_text("utf-8")
    needs = []
    for options in ({"methods": ["ncm-source"], "seeds": [0]}, {}):
        suite, workspace = load_suite("office-home"), Workspace(tmp_path)
        with plan_suite(suite, workspace, device="cpu", **options) as plan:
            needs.append(target_needs(plan.cells))
    assert needs[0] == needs[1]


@pytest.mark.parametrize("system", SYSTEMS)
def test_it_can_be_written_to_a_file(system: str, htbench: Htbench, tmp_path: Path) -> None:
    """Whose name is that in the commands that submit it."""
    default, out = f"htbench.{SYSTEMS[system]}", tmp_path / f"my jobs.{SYSTEMS[system]}"
    words = ("cluster", "script", f"--{system}", "--suite", "icons", "--shards", "8")
    assert htbench(*words, "--out", out) == (0, "", "")
    _, text, _ = htbench(*words)
    submit = rf"(sbatch|kubectl apply|condor_submit) .*{re.escape(default)}"
    assert re.search(submit, text)
    assert out.read_text() == text.replace(default, f"'{out}'")


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("token", "Ray is not installed; install it with"), ("k8s", "RAY_AUTH_MODE=k8s turns off")],
)
def test_what_ray_needs_is_checked_first(
    htbench: Htbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, reason: str
) -> None:
    """Source models were trained, and a workspace was made, before Ray was looked for."""
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ("--suite", "icons", "--address", "127.0.0.1:1", "--workspace", tmp_path / "ws")
    status, _, err = htbench("cluster", "run", *words)
    assert status == 2
    assert reason in err
    assert not (tmp_path / "ws").exists()
