"""A job survives its way as JSON, and anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmark.jobs import (
    JOBS,
    CodeModule,
    DescribeJob,
    FeatureRows,
    ImageFile,
    ImageFormat,
    MethodCode,
    Network,
    RunJob,
    Setup,
    job_message,
    read_job,
)

CODE = MethodCode(
    "baselines.finetune",
    "Finetune",
    (CodeModule("baselines", None, ("/folder",)), CodeModule("baselines.finetune", "/file", ())),
    ("/file",),
)
RUN = RunJob(
    scratch="/scratch",
    setup=Setup("cpu", 1, {"steps": 2, "lr": 0.1, "nesterov": True}, {"pad": 4}),
    network=Network({"name": "convnet", "width": 4}, ("a", "b"), 32),
    images=ImageFormat(32, "raw"),
    seen=(0,),
    train=(ImageFile("/train-0", 0, 3),),
    missing=(),
    features=FeatureRows("/features", 8, ((0, 3),)),
    source="/source",
    source_digest="0" * 64,
    base=None,
    method=CODE,
    code=(("finetune.py", "1" * 64),),
    config={"alpha": 0.5, "steps": 3, "fast": True, "name": "x"},
    keep_weights=False,
)


def by_wire(message: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(message))
    return read


@pytest.mark.parametrize("job", [RUN, DescribeJob("/scratch", CODE)])
def test_there_and_back(job: Any) -> None:
    assert read_job(by_wire(job_message(job, 7))) == (job, 7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, r"RunJob: expected \["),
        ({"seen": [True]}, r"RunJob.seen\[0\]: expected <class 'int'>, got bool"),
        ({"keep_weights": 0}, "RunJob.keep_weights"),
        ({"features": []}, "RunJob.features"),
        ({"train": [["a", 0, 1]]}, r"RunJob.train\[0\]: expected \['count', 'label', 'path'\]"),
        ({"code": [["a"]]}, r"RunJob.code\[0\]"),
        ({"config": {"a": [1]}}, "RunJob.config.a"),
        ({"base": 3}, "RunJob.base"),
    ],
)
def test_what_is_malformed_is_named(change: dict[str, Any], words: str) -> None:
    message = by_wire(job_message(RUN, 7))
    message["job"] |= change
    with pytest.raises(ValueError, match=words):
        read_job(message)


@pytest.mark.parametrize("message", [{}, {"kind": "dance", "job": {}, "file_limit": 1}])
def test_what_is_no_job(message: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a job"):
        read_job(message)


def test_every_kind_has_its_name() -> None:
    assert {job.kind for job in JOBS.values()} == set(JOBS)
