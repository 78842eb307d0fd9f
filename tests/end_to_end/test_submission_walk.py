"""The tutorial of docs/submitting.md, command by command: author and maintainer in two clones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

from benchmark.isolation import sandbox
from leaderboard.accepted import VERIFIED, read_accepted, read_log
from tests.docs.test_examples import plugins
from tests.end_to_end.conftest import CHECKOUT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(sandbox.available().missing), reason="no sandbox"),
]
PAGE = CHECKOUT / "docs" / "submitting.md"
REPOSITORY = CHECKOUT / "docs" / "results-repository"
PARTS = ("baselines", "benchmark", "data_manifests", "docs", "htbench", "leaderboard")


def commands(who: str) -> list[str]:
    """The blocks of commands of the tutorial that somebody runs."""
    pattern = rf"<!-- walk: {who} -->\n```bash\n(.*?)^```$"
    blocks = re.findall(pattern, PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    return blocks


class Shell:
    """Runs scripts as ``bash`` does, with the benchmark of a checkout."""

    def __init__(self, checkout: Path, data: str) -> None:
        scripts = sysconfig.get_path("scripts")
        identity = {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", "A"), ("EMAIL", "a@example.org"))
        }
        self.environment = {
            **os.environ,
            **identity,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "HTBENCH_DATA": data,
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "PYTHONPATH": str(checkout),
        }

    def __call__(self, folder: Path, script: str, **environment: str) -> str:
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert result.returncode == 0, f"{script}\n{result.stdout[-3000:]}{result.stderr[-3000:]}"
        return result.stdout + result.stderr


def test_a_method_becomes_a_verified_row_by_the_commands_of_the_tutorial(tmp_path: Path) -> None:
    checkout, hub = tmp_path / "benchmark", tmp_path / "hub"
    author, maintainer = tmp_path / "author", tmp_path / "maintainer"
    for part in PARTS:
        shutil.copytree(CHECKOUT / part, checkout / part, ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, checkout)
    run = Shell(checkout, os.environ.get("HTBENCH_DATA", str(tmp_path / "data")))

    # The repository of submissions, with the Action, and a clone of it for each.
    run(tmp_path, "git init --quiet --bare --initial-branch main hub")
    run(tmp_path, f"git clone --quiet {hub} maintainer")
    shutil.copytree(REPOSITORY, maintainer, dirs_exist_ok=True)
    run(maintainer, "git add --all && git commit --quiet -m 'Begin' && git push --quiet")
    run(tmp_path, f"git clone --quiet {hub} author")
    (author / "half_way.py").write_text(plugins()["half_way.py"])
    run(checkout, "git init --quiet && git add --all && git commit --quiet -m 'Begin'")

    for script in commands("author"):
        run(author, script)
    # The Action, in its own clone as on GitHub; it installs the benchmark before.
    run(tmp_path, f"git clone --quiet --branch half-way {hub} action")
    base = run(maintainer, "git rev-parse HEAD").strip()
    workflow = yaml.safe_load((author / ".github/workflows/submissions.yml").read_text("utf-8"))
    (job,) = workflow["jobs"].values()
    assert "submissions/half-way" in run(tmp_path / "action", job["steps"][-1]["run"], BASE=base)

    verify, accept = commands("maintainer")
    out = run(maintainer, verify)
    assert "identical: outline-solid, seed 0 (overall +0.00" in out
    assert "outline-solid, seed 71" in out
    assert "this seed was not announced" in out
    assert "accept: 15 rows of half-way on icons, verified" in run(maintainer, accept)
    tracked = run(maintainer, "git ls-tree -r --name-only origin/main").splitlines()
    assert "submissions/half-way/submission.toml" in tracked
    assert not any(name.endswith("verification.json") for name in tracked)

    published = checkout / "leaderboard" / "published"
    (accepted,) = read_accepted(published)
    assert set(accepted.results["provenance"].to_pylist()) == {VERIFIED}
    assert [entry.action for entry in read_log(published)] == ["accept"]
    (script,) = commands("checkout")
    run(checkout, script.replace("make board", "python docs/boards.py --site build/board"))
    assert "half-way (verified)" in (checkout / "docs" / "board.md").read_text("utf-8")
    assert (
        '<span class="badge">verified</span>' in (checkout / "build/board/index.html").read_text()
    )
    assert "leaderboard/published/submissions/log.jsonl" in run(checkout, "git show --stat=200")
