"""Adapt a source model with a method, then predict the test images."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import safetensors.torch
from torch import nn

from benchmark import numerics
from benchmark.child.data import on_device, open_model, open_training
from benchmark.child.job import ContractError, Worker
from benchmark.child.plugin import check_code, load_method
from benchmark.child.predict import predict_tests
from benchmark.child.steps import StepCounter
from benchmark.failpoints import reach
from benchmark.jobs import MAX_LOG_ROWS, MAX_NOTES, RunJob
from benchmark.method import SourceModel
from benchmark.networks.build import Classifier, weights_of


def adapt_and_predict(worker: Worker, job: RunJob) -> dict[str, Any]:
    """Carry out a run; return its steps, also those that the model took while it predicted.

    Raises:
        ContractError: the method breaks the contract.
        NotApplicable: the method does not apply; any other exception is the method's own.
    """
    run = worker.start_run(job.setup)
    target = open_training(job, job.train, job.seen, missing=job.missing, features=job.features)
    source = open_model(job.network, job.source)
    base = open_model(job.network, job.base) if job.base else None
    worker.enter_sandbox(job.method, device=run.device)
    steps = StepCounter()  # before the method is imported
    target = on_device(target, run.device)
    run.base = base.to(run.device).eval() if base else None
    before = set(sys.modules)
    method = load_method(job.method)(**job.config)
    check_code(set(sys.modules) - before, job.code, worker.scratch)
    loaded = set(sys.modules)
    numerics.seed_globals(job.setup.seed)
    model = method.adapt(SourceModel(source.to(run.device), job.source_digest), target, run)
    if not isinstance(model, nn.Module):
        raise ContractError(
            f"adapt() returned {type(model).__name__}; it must return a torch.nn.Module"
        )
    check_code(set(sys.modules) - loaded, job.code, worker.scratch)
    reach("model-adapted")
    is_kept = job.keep_weights and isinstance(model, Classifier)
    worker.adapted(
        {
            **steps.facts(run),
            "log": _rows(run.history),
            "notes": [str(note) for note in run.notes[:MAX_NOTES]],
        },
        safetensors.torch.save(weights_of(model)) if is_kept else b"",
    )
    memory = predict_tests(worker, model, job.images, len(job.network.classes), run)
    check_code(set(sys.modules) - loaded, job.code, worker.scratch)
    return {**steps.facts(run), **memory}


def _rows(history: Sequence[Any]) -> list[dict[str, float]]:
    """The rows of the training log, to which a method may also add without ``run.log``.

    Raises:
        ContractError: one is not a dictionary of numbers by name.
    """
    try:
        rows = [
            {
                str(name): numerics.one_number(f"{name} in run.history", value)
                for name, value in row.items()
            }
            for row in history[:MAX_LOG_ROWS]
        ]
    except (AttributeError, TypeError) as error:
        raise ContractError(f"{error}; add rows with run.log") from None
    finite = [{name: n for name, n in row.items() if math.isfinite(n)} for row in rows]
    return [row for row in finite if row]
