"""`htbench cluster`: run a suite on many machines."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.errors import UsageError
from htbench.cli.options import out_file_option, suite_option, workspace_option
from htbench.cli.output import print_or_write


@click.group("cluster")
def command() -> None:
    """Run a suite on many machines of a cluster.

    \b
    Examples:
      htbench cluster script --slurm --suite icons --shards 8 --out htbench.sh
      htbench cluster script --kubernetes --suite icons --shards 8
    """


@command.command()
@click.option("--slurm", "system", flag_value="slurm", help="Write a SLURM job array.")
@click.option("--kubernetes", "system", flag_value="kubernetes", help="Write an indexed job.")
@click.option("--htcondor", "system", flag_value="htcondor", help="Write an HTCondor submit file.")
@suite_option(required=True)
@click.option(
    "--shards",
    type=click.IntRange(min=1, max=10_000),
    required=True,
    metavar="N",
    help="Number of parts, each of which is a job.",
)
@workspace_option
@out_file_option("File to write.  [default: standard output]")
@click.argument("run_options", nargs=-1, type=click.UNPROCESSED)
def script(
    system: str | None,
    suite: str,
    shards: int,
    workspace: Path,
    out: Path | None,
    run_options: tuple[str, ...],
) -> None:
    """Print an array job that runs a suite in N shards, for you to read, edit and submit.

    Each shard has its own workspace, in a folder beside --workspace. The script says how to merge
    them. Options of `htbench run` can follow after `--`.

    \b
    Examples:
      htbench cluster script --slurm --suite icons --shards 8 --out htbench.sh
      htbench cluster script --htcondor --suite icons --shards 8 -- --method finetune --seed 0-2
    """
    from benchmark.manifest.suite import load_suite
    from htbench.cli.run import command as run_command
    from htbench.cluster import array_job

    if system is None:
        raise UsageError("choose a batch system with --slurm, --kubernetes or --htcondor")
    words = [*run_options, "--suite", suite, "--shard", f"1/{shards}"]
    options = run_command.make_context("htbench run", words).params  # checks them
    text = array_job(
        system,
        load_suite(suite),
        shards,
        workspace,
        run_options,
        network=options["network"],
        device=options["device"],
    )
    print_or_write(text, out)
