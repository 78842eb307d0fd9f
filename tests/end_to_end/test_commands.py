"""Every command besides `run`: what it answers, in words and as JSON, and its help."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from htbench.cli.main import htbench as group
from leaderboard.gamma_star import NAME as GAMMA_STAR
from leaderboard.gamma_star import derived_key
from leaderboard.rows import METRICS

DIGEST = re.compile(r"[0-9a-f]{64}")


@pytest.fixture
def at(finished):
    return ("--workspace", finished.workspace)


# --- score -------------------------------------------------------------------------------------


def test_score_of_a_key_is_the_row_of_the_results(htbench, mini, finished, at):
    row = finished.row(method="finetune", task="outline-solid", seed=0)
    said = htbench("score", row["key"][:12], "--suite", mini.suite, *at, "--json")
    found = json.loads(said.stdout)
    assert found["run"] == row["key"]
    assert {name: found[name] for name in METRICS} == {name: row[name] for name in METRICS}
    assert (found["n_seen"], found["n_missing"]) == (row["n_seen"], row["n_missing"])


def test_score_of_a_bare_file_is_that_of_its_run(htbench, mini, finished, tmp_path):
    row = finished.row(method="finetune", task="outline-solid", seed=0)
    file = tmp_path / "anything.parquet"
    shutil.copy(finished.workspace / "runs" / row["key"] / "predictions.parquet", file)
    said = htbench("score", file, "--suite", mini.suite, "--task", "outline-solid", "--json")
    found = json.loads(said.stdout)
    assert {name: found[name] for name in METRICS} == {name: row[name] for name in METRICS}
    text = htbench("score", file, "--suite", mini.suite, "--task", "outline-solid").stdout
    assert f"{row['overall']:.2f}" in text


def test_score_of_what_cannot_be_scored(htbench, mini, finished, at, tmp_path):
    row = finished.row(method="finetune", task="outline-solid", seed=0)
    file = finished.workspace / "runs" / row["key"] / "predictions.parquet"
    text = tmp_path / "text.parquet"
    text.write_text("not Parquet")
    suite = ("--suite", mini.suite)
    for arguments, words in {
        (file, *suite): ["name its task with --task"],
        (file, *suite, "--task", "nope"): ["nope"],
        (file, *suite, "--task", "solid-outline"): [str(file), "unknown"],
        (text, *suite, "--task", "outline-solid"): [str(text), "Parquet"],
        ("0" * 12, *suite, *at): ["no run", "0" * 12],
        ("", *suite, *at): ["is not a file"],
        ("nope", *suite, *at): ["'nope'", "is not a file"],
        (row["key"][:12], *suite, *at, "--task", "solid-outline"): ["outline-solid, not"],
        (row["key"][:12], *at): ["mini@0.1", "--suite"],
    }.items():
        said = htbench("score", *arguments)
        for word in words:
            assert word in said.sentence


def test_the_beginning_of_several_keys_is_ambiguous(htbench, mini, finished, at, tmp_path):
    keys = sorted(r["key"] for r in finished.runs())
    firsts = [key[0] for key in keys]
    digit = next(d for d in firsts if firsts.count(d) > 1)  # 17 runs at most have none
    said = htbench("score", digit, "--suite", mini.suite, *at)
    assert f"{firsts.count(digit)} runs begin with '{digit}'" in said.sentence
    assert next(key for key in keys if key[0] == digit)[:12] in said.sentence


@pytest.mark.parametrize("command", ["show", "score"])
def test_the_key_of_gamma_star_is_refused_and_the_message_names_the_run_behind_it(
    htbench, mini, finished, at, command
):
    base = finished.row(method="finetune", task="outline-solid", seed=0)
    star = finished.row(method=GAMMA_STAR, task="outline-solid", seed=0)
    for key in (star["key"], star["key"][:12]):
        said = htbench(command, key, "--suite", mini.suite, *at).sentence
        assert said.count("\n") == 1
        assert f"is not a run but the row of gamma-star derived from run {base['key'][:12]}" in said
        assert f"`htbench show {base['key'][:12]}` shows both" in said
    other = finished.row(method="source", task="outline-solid", seed=0)
    said = htbench(command, derived_key(other["key"]), "--suite", mini.suite, *at).sentence
    assert "no run in" in said, "it is beside finetune only"
    shown = htbench("show", base["key"], "--suite", mini.suite, *at).stdout
    assert f"gamma-star (oracle): overall {star['overall']:.2f}, seen {star['seen']:.2f}" in shown


def test_list_runs_has_a_line_for_gamma_star(htbench, mini, finished, at):
    found = json.loads(htbench("list", "runs", "--suite", mini.suite, *at, "--json").stdout)
    stars = [entry for entry in found if entry["label"] == GAMMA_STAR]
    assert len(stars) == 4
    for entry in stars:
        row = finished.row(key=entry["key"])
        assert (entry["overall"], entry["seconds"]) == (row["overall"], None)
    text = htbench("list", "runs", "--suite", mini.suite, *at).stdout
    line = next(line for line in text.splitlines() if line.startswith(stars[0]["key"][:12]))
    assert line.split()[-2:] == ["-", "convnet"]


# --- leaderboard -------------------------------------------------------------------------------


def test_the_board_in_every_format(htbench, mini, finished, at, tmp_path):
    printed = {
        kind: htbench("leaderboard", "--suite", mini.suite, *at, "--format", kind).stdout
        for kind in ("markdown", "csv", "json")
    }
    assert printed["markdown"] == finished.first.stdout
    lines = list(csv.DictReader(io.StringIO(printed["csv"])))
    (table,) = json.loads(printed["json"])
    assert len(lines) == len(table["cells"]) == 5 * 3  # gamma-star is the fifth
    rows = [
        r for r in finished.rows() if r["method"] == "finetune" and r["task"] == "solid-outline"
    ]
    mean = sum(r["overall"] for r in rows) / 2
    for cells in (lines, table["cells"]):
        (cell,) = [c for c in cells if (c["label"], c["task"]) == ("finetune", "solid-outline")]
        assert float(cell["overall"]) == pytest.approx(mean)
    for kind, text in printed.items():
        out = tmp_path / f"board.{kind}"
        said = htbench("leaderboard", "--suite", mini.suite, *at, "--format", kind, "--out", out)
        assert (said.returncode, said.stdout) == (0, "")
        assert str(out) in said.stderr
        assert out.read_text() == text


def test_a_workspace_without_runs(htbench, mini, tmp_path):
    said = htbench("leaderboard", "--suite", mini.suite, "--workspace", tmp_path / "ws")
    assert f"{tmp_path / 'ws'} has no run of suite mini" in said.sentence
    assert "run `htbench run` with the same --suite first" in said.sentence
    assert not (tmp_path / "ws").exists()


# --- list --------------------------------------------------------------------------------------


def test_list_methods(htbench, plugin):
    path = plugin("return source.copy()", name="of-a-test")
    found = json.loads(htbench("list", "methods", "--plugin", path, "--json").stdout)
    assert [m["method"] for m in found] == sorted(m["method"] for m in found)
    by_name = {m["method"]: m for m in found}
    assert {"source", "finetune", "lolsgd", "of-a-test"} <= set(by_name)
    assert by_name["of-a-test"]["from"] == str(path)
    assert by_name["of-a-test"]["summary"] == "A method of a test."
    assert by_name["calibrated-alg"]["base"] == "finetune"
    assert by_name["lolsgd"]["fields"]["local_models"] == 10
    text = htbench("list", "methods", "--plugin", path).stdout
    for name in by_name:
        assert name in text


def test_list_methods_with_the_means_of_a_suite(htbench, mini, finished, at):
    arguments = ("list", "methods", "--suite", mini.suite, *at)
    found = {e["method"]: e for e in json.loads(htbench(*arguments, "--json").stdout)}
    assert list(found) == ["calibrated-alg", "finetune", "frozen-classifier", GAMMA_STAR, "source"]
    for name, entry in found.items():
        rows = [r for r in finished.rows() if r["method"] == name]
        for metric in ("seen", "missing", "overall"):
            mean = sum(r[metric] for r in rows) / 4
            assert entry[metric] == pytest.approx(mean)
    assert found[GAMMA_STAR]["track"] == "oracle"
    assert found[GAMMA_STAR]["papers"][0] == "mai2024finetuning"
    text = htbench(*arguments).stdout
    assert f"{found['finetune']['seen']:.1f}" in text
    table = htbench(*arguments, "--markdown").stdout
    names = re.findall(r"^\| ([a-z0-9-]+) ", table, re.MULTILINE)
    assert names == ["method", "source", "finetune", "calibrated-alg", "frozen-classifier",
                     GAMMA_STAR]  # fmt: skip
    assert f" {found['finetune']['overall']:.1f} |" in table


def test_list_methods_without_any_run(htbench, mini, tmp_path):
    workspace = tmp_path / "ws"
    arguments = ("list", "methods", "--suite", mini.suite, "--workspace", workspace)
    found = json.loads(htbench(*arguments, "--json").stdout)
    assert {entry["overall"] for entry in found} == {None}
    rows = [r for r in htbench(*arguments, "--markdown").stdout.splitlines() if r[:3] == "| s"]
    assert len(rows) == 1
    assert [cell.strip() for cell in rows[0].split("|")[-4:-1]] == ["-", "-", "-"]
    assert not workspace.exists()


def test_gamma_star_cannot_be_run_and_is_listed_only_with_numbers(htbench):
    plain = {m["method"] for m in json.loads(htbench("list", "methods", "--json").stdout)}
    assert GAMMA_STAR not in plain
    assert f"| {GAMMA_STAR} " in htbench("list", "methods", "--markdown").stdout


def test_the_table_of_methods_is_written_into_a_file(htbench, mini, at, tmp_path):
    arguments = ("list", "methods", "--suite", mini.suite, *at)
    table = htbench(*arguments, "--markdown").stdout
    file = tmp_path / "README.md"
    around = "# Ä\r\n\n<!-- methods: of a test -->\n{}<!-- end of methods -->\nlast, no line break"
    file.write_bytes(around.format("old\n\nlines\n").encode())
    link = tmp_path / "link.md"
    link.symlink_to(file)
    for path in (file, link, file):
        said = htbench(*arguments, "--into", path)
        assert (said.returncode, said.stdout) == (0, "")
        assert f"wrote the table of 5 methods into {path}" in said.stderr
        assert file.read_bytes() == around.format(table).encode()
    assert link.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "link.md"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "has no line <!-- methods: ... -->"),
        ("<!-- methods: x -->\n", "has no line <!-- end of methods -->"),
        ("<!-- end of methods -->\n", "has no line <!-- methods: ... -->"),
        ("<!-- methods: x -->\n" * 2 + "<!-- end of methods -->", "has 2 line"),
        ("<!-- end of methods -->\n<!-- methods: x -->\n", "comes before"),
        (None, "cannot read"),
    ],
)
def test_a_file_that_has_no_place_for_the_table(htbench, mini, at, tmp_path, text, words):
    file = tmp_path / "README.md"
    if text is not None:
        file.write_text(text)
    said = htbench("list", "methods", "--suite", mini.suite, *at, "--into", file)
    assert str(file) in said.sentence
    assert words in said.sentence
    assert (file.read_text() if file.exists() else None) == text


def test_numbers_are_not_written_over_with_dashes(htbench, mini, tmp_path):
    file = tmp_path / "README.md"
    text = "<!-- methods: x -->\nold\n<!-- end of methods -->\n"
    file.write_text(text)
    arguments = ("list", "methods", "--into", file)
    assert "name the suite with --suite" in htbench(*arguments).sentence
    empty = ("--suite", mini.suite, "--workspace", tmp_path / "ws")
    assert "for 5 of 5 methods: " in htbench(*arguments, *empty).sentence
    assert file.read_text() == text


def test_a_table_is_no_json(htbench):
    for option in (["--markdown"], ["--into", "README.md"]):
        assert "cannot be combined" in htbench("list", "methods", "--json", *option).sentence


def test_list_tasks_suites_and_data_sets(htbench, mini):
    def listed(*arguments):
        found = json.loads(htbench("list", *arguments, "--json").stdout)
        text = htbench("list", *arguments).stdout
        lines = text.partition("\n\n")[0].splitlines()  # recipes to expand come after a blank
        assert len(lines) == len(found) + 2, "a heading, a line and the entries"
        return found

    suites = {s["name"]: s for s in listed("suites")}
    suite = suites["icons"]
    count = len(suites["icons-full"]["methods"])
    assert count > len(suite["methods"])
    lines = map(str.split, htbench("list", "suites").stdout.splitlines())
    (line,) = [line for line in lines if line[0] == "icons-full"]
    assert line[:5] == ["icons-full", "icons@1.0", "3", str(count), "3"]
    (icons,) = [d for d in listed("datasets") if d["manifest"] == suite["manifest"]]
    assert icons["classes"] == 65
    tasks = {t["task"]: t for t in listed("tasks", "--suite", "icons")}
    assert list(tasks) == suite["tasks"]
    assert set(tasks) <= {t["task"] for t in listed("tasks")}
    assert tasks["outline-solid"]["seen"] + tasks["outline-solid"]["missing"] == 65
    assert [t["task"] for t in listed("tasks", "--suite", mini.suite)] == [
        "outline-solid",
        "solid-outline",
    ]
    assert "nope" in htbench("list", "tasks", "--suite", "nope").sentence


# --- manifest ----------------------------------------------------------------------------------


def test_manifest_show(htbench, mini):
    found = json.loads(htbench("manifest", "show", mini.manifest, "--json").stdout)
    assert (found["manifest"], len(found["classes"])) == ("mini@0.1", 12)
    task = found["tasks"][0]
    assert (task["task"], task["test_seen"], task["test_missing"]) == ("outline-solid", 109, 102)
    text = htbench("manifest", "show", mini.manifest).stdout
    assert found["digest"] in text
    assert "outline-solid" in text


def test_manifest_digest_and_verify(htbench, mini):
    digest = htbench("manifest", "digest", mini.manifest).stdout.strip()
    assert DIGEST.fullmatch(digest)
    found = json.loads(htbench("manifest", "verify", mini.manifest, "--json").stdout)
    assert (found["manifest"], found["digest"], found["pinned"]) == ("mini@0.1", digest, False)
    text = htbench("manifest", "verify", mini.manifest).stdout
    assert f"{found['images']} images decoded; all checks passed" in text
    assert "not pinned" in text


def test_the_shipped_manifest_is_the_pinned_one(htbench):
    found = json.loads(htbench("manifest", "verify", "icons@1.0", "--json").stdout)
    assert found["pinned"] is True


@pytest.mark.parametrize("action", ["show", "verify", "digest"])
def test_a_manifest_that_is_not_there(htbench, tmp_path, action):
    for name in ("nope@1.0", "icons@9.9", "icons", tmp_path):
        assert str(name) in htbench("manifest", action, name).sentence


def test_verify_finds_what_was_changed(htbench, mini, tmp_path):
    folder = shutil.copytree(mini.manifest, tmp_path / "mini" / "0.1")
    digest = htbench("manifest", "digest", folder).stdout
    text = (folder / "manifest.toml").read_text()
    (folder / "manifest.toml").write_text(text.replace("steps = 20", "steps = 21"))
    assert htbench("manifest", "digest", folder).stdout != digest
    (folder / "manifest.toml").write_text(text.replace('"outline-solid"', '"outline/solid"'))
    assert "outline/solid" in htbench("manifest", "verify", folder).sentence
    (folder / "manifest.toml").write_text(text)
    (folder / "images.parquet").write_bytes(b"PAR1")
    assert "images.parquet" in htbench("manifest", "verify", folder).sentence


# --- doctor ------------------------------------------------------------------------------------


def test_doctor(htbench, mini, finished, at, tmp_path):
    found = json.loads(htbench("doctor", *at, "--json").stdout)
    assert found["versions"]["holistic-transfer-bench"]
    assert found["workspace"] == {"folder": str(finished.workspace), "runs": 16}
    assert found["data"]["folder"] == str(mini.data)
    assert found["data"]["cached sources"].startswith("2 (")
    text = htbench("doctor", "--workspace", tmp_path / "ws").stdout
    assert "(does not exist yet)" in text
    assert not (tmp_path / "ws").exists()


# --- help --------------------------------------------------------------------------------------


def commands(command=group, path=("htbench",)):
    """Every command and subcommand, with the words that call it."""
    yield pytest.param(path, command, id=" ".join(path))
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from commands(found, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(commands()))
def test_help_has_two_examples_that_can_be_read(htbench, path, command):
    said = htbench(*path[1:], "--help")
    assert said.returncode == 0
    examples = said.stdout.partition("Examples:\n")[2].splitlines()
    examples = [line.split() for line in examples]
    examples = [words for words in examples if words[: len(path)] == list(path)]
    assert len(examples) >= 2
    for words in examples:
        assert parses(words[1:]), " ".join(words)


def parses(words):
    """Whether the commands and options of a line are there; nothing is carried out."""
    words = words[: next((i for i, w in enumerate(words) if w in ("#", "|")), len(words))]
    command = group
    while isinstance(command, click.Group):
        with click.Context(command) as context:
            found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    options = {name for p in command.params for name in p.opts}
    return all(w in options for w in words if w.startswith("--"))


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom htbench.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'pyarrow', 'rich'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "htbench run --suite icons" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["run"], ["run", "--suite"], ["score"], ["list", "nope"], ["doctor", "--nope"]],
    ids=" ".join,
)
def test_a_command_that_click_refuses(htbench, arguments):
    assert re.match("Usage: htbench|Error: Option", htbench(*arguments).sentence)


def test_version(htbench):
    assert re.fullmatch(r"htbench, version \d+\.\d+\.\d+\n", htbench("--version").stdout)


# --- Ctrl-C ------------------------------------------------------------------------------------


def processes(name: str) -> list[int]:
    """Processes of a name, zombies aside."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
            if f"({name})" in text and text.rpartition(")")[2].split()[0] != "Z":
                found.append(int(folder.name))
        except OSError:
            pass  # it ended, or is not ours
    return found


def until(condition, seconds=60.0):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    htbench, start, mini, finished, tmp_path
):
    workspace, name = tmp_path / "ws", "ctrl-c"
    arguments = ["run", "--suite", mini.suite, "--workspace", workspace, "--jobs", "2",
                 "--task", "outline-solid"]  # fmt: skip
    process = start(mini, *arguments, name=name)

    def events(kind):
        journal = workspace / "journal.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [json.loads(line)["key"] for line in lines if json.loads(line)["event"] == kind]

    until(lambda: len(events("ok")) >= 2 and len(events("start")) >= 4)
    assert len(processes(name)) >= 2, "the driver and the fork server at least"
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Interrupted. Finished runs are kept; run the same command again to resume." in err
    assert "Traceback" not in err
    until(lambda: not processes(name), seconds=20)
    assert list((workspace / "tmp").iterdir()) == []
    kept = {folder.name for folder in (workspace / "runs").iterdir()}
    assert kept == set(events("ok"))
    assert 2 <= len(kept) < 8
    assert {r["status"] for r in mini.records(workspace)} == {"ok"}, "no run failed by Ctrl-C"

    again = htbench(*arguments)
    assert again.returncode == 0, again.stderr
    assert len(events("ok")) == 8, "what was done is not done again"
    ours = mini.rows(workspace)
    theirs = [row for row in finished.rows() if row["task"] == "outline-solid"]
    assert [r["predictions_sha256"] for r in ours] == [r["predictions_sha256"] for r in theirs]
