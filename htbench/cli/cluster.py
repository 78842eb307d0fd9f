"""`htbench cluster`: run a suite on many machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from benchmark.errors import UsageError
from htbench.cli.options import json_option, out_file_option, suite_option, workspace_option
from htbench.cli.output import print_or_write
from htbench.progress import Terminal, log

if TYPE_CHECKING:
    from benchmark.manifest.suite import Suite

# Options of `htbench run` that a plan is made from.
PLAN_OPTIONS = (
    "tasks",
    "methods",
    "seeds",
    "settings",
    "plugins",
    "network",
    "device",
    "isolation",
    "time_limit",
    "memory_limit",
)


def _checked(run_options: Sequence[str], own: Sequence[str], *refused: str) -> dict[str, Any]:
    """The parameters of `htbench run` with the options after ``--``.

    Args:
        run_options: these options.
        own: options that the command adds.
        refused: the names of parameters that may not be among the former.

    Raises:
        UsageError: one of those is.
        click.UsageError: an option does not exist, or its value is invalid.
    """
    from htbench.cli.run import command as run_command

    if "--" in run_options:
        raise UsageError("-- is given twice; write it once, before the options of `htbench run`")
    context = run_command.make_context("htbench run", [*run_options, *own])
    theirs = run_command.make_context("htbench run", [*run_options], resilient_parsing=True)
    for name in refused:
        if theirs.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} cannot be one of the options after --; remove it there")
    return context.params


class _WithRunOptions(click.Command):
    """A command that takes options of `htbench run` after ``--``, and says so of one before."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        from htbench.cli.run import command as run_command

        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            names = {name for option in run_command.params for name in option.opts}
            if error.option_name not in names:
                raise
            raise UsageError(
                f"{error.option_name} is an option of `htbench run`; write it after `--`, at the "
                f"end: `{ctx.command_path} ... -- {error.option_name}`"
            ) from None


run_options_argument = click.argument(
    "run_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS OF RUN]"
)


@click.group("cluster")
def command() -> None:
    """Run a suite on many machines of a cluster.

    \b
    Examples:
      htbench cluster script --slurm --suite icons --shards 8 --out htbench.sh
      htbench cluster run --suite icons --address 10.0.0.1:6379
    """


@command.command(cls=_WithRunOptions)
@click.option("--slurm", is_flag=True, help="Write a SLURM job array.")
@click.option("--kubernetes", is_flag=True, help="Write an indexed job.")
@click.option("--htcondor", is_flag=True, help="Write an HTCondor submit file.")
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
@run_options_argument
def script(
    suite: str,
    shards: int,
    workspace: Path,
    out: Path | None,
    run_options: tuple[str, ...],
    **systems: bool,
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
    from htbench.cluster import array_job

    chosen = [system for system, is_chosen in systems.items() if is_chosen]
    if len(chosen) != 1:
        raise UsageError("choose one batch system with --slurm, --kubernetes or --htcondor")
    words = ["--suite", suite, "--shard", f"1/{shards}"]
    options = _checked(run_options, words, "suite", "shard", "workspace", "smoke", "dry_run")
    loaded = load_suite(suite)
    text = array_job(
        chosen[0],
        loaded,
        shards,
        workspace,
        run_options,
        file=out,
        network=options["network"],
        device=options["device"],
        has_jobs=options["jobs"] is not None,
    )
    _check_names(loaded, shards, workspace, options)
    print_or_write(text, out)


def _check_names(suite: Suite, shards: int, workspace: Path, options: Mapping[str, Any]) -> None:
    """Check what each job would refuse: names, settings and the number of shards.

    A plugin may be on the machines of the jobs only; then only tasks and seeds are checked, and a
    message says so.

    Raises:
        HTBenchError: a name or a value cannot be used.
    """
    from benchmark.driver import plan_suite
    from benchmark.methods.find import is_method_file
    from htbench.results import open_workspace
    from htbench.run import shard_of
    from leaderboard.gamma_star import DERIVED

    suite.part(options["tasks"], options["seeds"])
    if absent := [plugin for plugin in options["plugins"] if not is_method_file(plugin)]:
        log(
            f"--plugin {absent[0]}: there is no such file on this machine; each job looks for it, "
            "and checks methods and settings then"
        )
        return
    part, costs = shard_of(f"1/{shards}")
    # Not isolation and limits, which depend on the machine of the job.
    names = ("tasks", "methods", "seeds", "settings", "plugins", "network", "device")
    with plan_suite(
        suite,
        open_workspace(workspace),
        **{name: options[name] for name in names},
        derived=DERIVED,
        shard=part,
        costs=costs,
        elsewhere=True,
    ):
        return  # a plan checks its names when it is entered


@command.command("run", cls=_WithRunOptions)
@click.option(
    "--address",
    required=True,
    metavar="HOST:PORT",
    help="Head node of a Ray cluster; auto on one of its machines.",
)
@suite_option(required=True)
@workspace_option
@json_option
@run_options_argument
def run_on_cluster(
    address: str, suite: str, workspace: Path, as_json: bool, run_options: tuple[str, ...]
) -> None:
    """Run a suite on the machines of a Ray cluster, and print the results.

    Each machine carries out one chain of runs per core, or one per GPU: a run and those that start
    from it. What it computes is verified here and renamed into the workspace. If a machine is lost,
    others repeat only the runs that it had not finished. Machines that join are used. After an
    interruption, the same command resumes.

    All machines need the same Python environment with the extra ray, and RAY_AUTH_MODE=token with
    the same token. Image stores and source models are sent to those that do not have them. Files
    that you name, such as a plugin, must be at the same path everywhere.

    \b
    Start the cluster:
      ray get-auth-token --generate        # once; copy ~/.ray/auth_token to every machine
      RAY_AUTH_MODE=token ray start --head --port 6379
      RAY_AUTH_MODE=token ray start --address 10.0.0.1:6379        # on the other machines

    Options of `htbench run` can follow after `--`.

    \b
    Examples:
      htbench cluster run --suite icons --address 10.0.0.1:6379
      htbench cluster run --suite office-home --address auto -- --device cuda --method finetune
    """
    from benchmark.driver import plan_suite
    from benchmark.folders import expanded
    from benchmark.manifest.suite import load_suite
    from benchmark.remote.ray_cluster import require_ray
    from htbench.cli.run import print_results
    from htbench.ray_run import execute_on_ray
    from htbench.results import open_workspace
    from leaderboard.gamma_star import DERIVED

    words = ["--suite", suite, "--workspace", str(workspace)]
    chosen = _checked(run_options, words, "suite", "workspace", "shard", "smoke", "dry_run")
    require_ray()
    loaded, place = load_suite(suite), open_workspace(workspace)
    options = {name: chosen[name] for name in PLAN_OPTIONS}
    options["plugins"] = [str(expanded(plugin).absolute()) for plugin in chosen["plugins"]]
    with plan_suite(loaded, place, **options, derived=DERIVED, elsewhere=True) as plan:
        records = execute_on_ray(
            plan,
            {"suite": loaded.location, "derived": dict(DERIVED), **options},
            address,
            chosen["jobs"],
            Terminal(),
        )
        asked = plan.keys()
    as_json = as_json or chosen["as_json"]
    print_results(loaded, place, plan, records, asked, chosen, as_json=as_json)
