"""Write array jobs for batch systems from the templates in ``cluster_template``."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from benchmark.commands import command
from benchmark.errors import UsageError
from benchmark.folders import data_folder, expanded
from benchmark.manifest.suite import Suite, manifest_of

# Batch systems, and the suffixes of their files.
SYSTEMS = {"slurm": "sh", "kubernetes": "yaml", "htcondor": "sub"}


def array_job(
    system: str,
    suite: Suite,
    shards: int,
    workspace: Path,
    options: Sequence[str],
    *,
    file: Path | None,
    network: str | None,
    device: str,
    has_jobs: bool,
) -> str:
    """The text of an array job that runs a suite in shards.

    Args:
        system: a key of ``SYSTEMS``.
        suite: the suite.
        shards: their number.
        workspace: where the shards' workspaces are merged; theirs are in a folder beside it.
        options: more options of ``htbench run``.
        file: the file's name in the commands that submit it; None for ``htbench`` with a suffix.
        network, device: as among these options.
        has_jobs: whether ``--jobs`` is among them.

    Raises:
        UsageError: the suite is tuned, or a path or an option has a control character.
    """
    if suite.tuned:
        raise UsageError(
            f"suite {suite.name} has tuned methods, and `htbench tune` has no shards; choose "
            "another suite"
        )
    python = sys.executable
    program = ["htbench"] if system == "kubernetes" else [python, "-m", "htbench"]
    of_suite = ("--suite", suite.argument)
    run = ["run", *of_suite, *options]
    workspace = expanded(workspace)  # to a shell, a quoted ~ is the name of a folder
    if workspace.name in ("", ".."):  # of . and .., which have no name to put beside them
        workspace = workspace.resolve()
    parts = f"{workspace}-shards"
    if parts.startswith("-"):  # or it would be read as an option
        parts = f"./{parts}"
    # A shell expands the star, so it is not quoted.
    merge = " ".join(
        [
            shlex.join([*program, "workspace", "merge"]),
            f"{shlex.quote(parts)}/*",
            shlex.join(["--into", str(workspace)]),
        ]
    )
    model = ("--model", network) if network else ()
    # A job of HTCondor sees all cores of its machine, also those of other jobs; on a GPU there is
    # one run at a time anyway.
    condor_jobs = () if has_jobs or device == "cuda" else ("--jobs", "$(request_cpus)")
    reference = manifest_of(suite).argument
    values = {
        "NAME": suite.name,
        "SHARDS": str(shards),
        "DATA": command("data", "verify", reference),
        "PREPARE": command("source", "train", *of_suite, *model, "--device", device),
        "DRY_RUN": command(*run, "--shard", f"1/{shards}", "--dry-run"),
        "FILE": shlex.quote(str(file or f"htbench.{SYSTEMS[system]}")),
        "MERGE": merge,
        "WRAPPED_MERGE": shlex.quote(merge),
        "BOARD": command("leaderboard", *of_suite, "--workspace", workspace),
        "GPU": "" if device == "cuda" else "#",
        "KUBERNETES_GPU": ", nvidia.com/gpu: 1" if device == "cuda" else "",
        "DATA_FOLDER": shlex.quote(str(data_folder())),
        "SHARDS_FOLDER": shlex.quote(parts),
        "RUN": shlex.join([*program, *run]),
        "FOLDER": str(Path.cwd()),
        "QUOTED_FOLDER": shlex.quote(str(Path.cwd())),
        "PYTHON": python,
        "CONDOR_RUN": " ".join([*map(_condor, ["-m", "htbench", *run]), *condor_jobs]),
        "CONDOR_SHARDS_FOLDER": _condor(f"{parts}/", "$INT(Shard)"),
        "CONDOR_DATA_FOLDER": _condor(str(data_folder())),
    }
    for value in values.values():
        if not value.isprintable():
            raise UsageError(
                f"{value[:200]!r} has a control character, which a job's file cannot have"
            )
    text = resources.files("htbench").joinpath("cluster_template", f"{system}.txt").read_text()
    return re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], text)


def _condor(word: str, macro: str = "") -> str:
    """A word, and a macro after it, in the double-quoted arguments of an HTCondor submit file."""
    escaped = word.replace("$", "$(DOLLAR)").replace('"', '""').replace("'", "''") + macro
    return f"'{escaped}'" if re.search(r"[\s']", word) or not word else escaped
