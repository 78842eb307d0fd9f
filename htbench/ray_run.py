"""Run the unfinished runs of a suite on the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.driver import SuitePlan, open_stores, target_needs, unfinished_runs
from benchmark.executors.local import slots
from benchmark.progress import Monitor
from benchmark.records import RunRecord
from benchmark.remote.chains import chains_of
from benchmark.remote.executor import RemoteExecutor
from benchmark.remote.ray_cluster import RayCluster, connected
from leaderboard.published import relative_costs
from leaderboard.rows import check_record


def execute_on_ray(
    plan: SuitePlan, options: Mapping[str, Any], address: str, jobs: int | None, monitor: Monitor
) -> list[RunRecord]:
    """Train missing source models and build image stores here, and run the rest on a cluster.

    Args:
        plan: the runs.
        options: what the plan was made from: arguments of ``plan_suite``, and ``suite``.
        address: see :func:`benchmark.remote.ray_cluster.connected`.
        jobs: chains of runs at a time on each node, or on each of its GPUs.
        monitor: shows the progress.

    Returns:
        The records of the runs that were carried out now.

    Raises:
        UsageError: the cluster, or none of its nodes, can be used.
        RunError: nodes failed for reasons that are not those of a method.
    """
    with plan.workspace as place:
        plan.prepare(jobs or slots(plan.device), monitor)
        runs = unfinished_runs(plan.ready, place)
        if not runs:
            return []
        if plan.manifest.document["images"] != "embedded":  # nodes do not have the images
            open_stores(plan.manifest, target_needs(run.planned for run in runs), monitor)
        chains = chains_of(runs, relative_costs())
        with connected(address) as connection, monitor.jobs(len(chains)) as reporter:
            cluster = RayCluster(connection, plan.device, jobs)
            executor = RemoteExecutor(
                discover=cluster.joined,
                options={**options, "device": plan.device},
                workspace=place,
                check=check_record,
                reporter=reporter,
                log=monitor.log,
            )
            return executor.execute(chains)
