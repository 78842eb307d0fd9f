"""A suite on the nodes of a cluster, with Ray replaced by a node in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.driver import plan_suite
from benchmark.images.place import images_folder
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import load_suite
from benchmark.progress import Silent
from benchmark.remote.node import Node
from benchmark.runs.workspace import Workspace
from htbench import ray_run
from leaderboard.gamma_star import DERIVED
from tests.conftest import Draft


class LocalNode(Node):
    """A node of this machine, which is called without Ray."""

    name, slots = "local", 1

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self, method)(*arguments)


@pytest.fixture
def folder_suite(draft: Draft, own_data: Path, tmp_path: Path) -> Path:
    """The suite of one run, whose manifest is of images in files."""
    draft.document["images"] = "folder"
    files = {row["path"]: row.pop("image")["bytes"] for row in draft.rows}
    manifest: Manifest = draft.read()
    for path, content in files.items():
        file = images_folder(manifest) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    suite = tmp_path / "one.toml"
    suite.write_text(
        f'title = "One run"\nmanifest = "{draft.root}"\ntasks = ["outline-solid"]\n'
        'methods = ["source"]\nseeds = [0]\n'
    )
    return suite


def test_image_stores_are_built_before_nodes_need_them(
    folder_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [LocalNode()]

    def joined() -> Iterator[LocalNode]:
        while nodes:
            yield nodes.pop()

    monkeypatch.setattr(ray_run, "connected", lambda address: contextlib.nullcontext())
    monkeypatch.setattr(ray_run, "RayCluster", lambda *_: SimpleNamespace(joined=joined))
    suite, place = load_suite(str(folder_suite)), Workspace(tmp_path / "workspace")
    with plan_suite(suite, place, derived=DERIVED, device="cpu", elsewhere=True) as plan:
        options = {"suite": suite.location, "derived": dict(DERIVED)}
        records = ray_run.execute_on_ray(plan, options, "auto", 1, Silent())
    assert [record.status for record in records] == ["ok"]


@pytest.mark.parametrize(("device", "jobs", "width"), [("cuda", None, 1), ("cuda", 3, 3)])
def test_a_gpu_trains_one_source_model_at_a_time(
    tmp_path: Path, device: str, jobs: int | None, width: int
) -> None:
    """As with ``htbench run``: one for each core would take more than its memory."""
    widths: list[int] = []
    plan: Any = SimpleNamespace(
        workspace=Workspace(tmp_path),
        device=device,
        ready=[],
        prepare=lambda width, monitor: widths.append(width),
    )
    assert ray_run.execute_on_ray(plan, {}, "auto", jobs, Silent()) == []
    assert widths == [width]
