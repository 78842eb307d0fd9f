"""Adapt a source model with a method, then predict the test images."""

from __future__ import annotations

import sys
from typing import Any

import safetensors.torch
from torch import nn

from benchmark import numerics
from benchmark.child.data import on_device, open_model, open_training
from benchmark.child.job import ContractError, Worker
from benchmark.child.notes import log_and_notes
from benchmark.child.plugin import check_code, load_method
from benchmark.child.predict import predict_tests
from benchmark.child.steps import StepCounter
from benchmark.failpoints import reach
from benchmark.jobs import RunJob
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
        {**steps.facts(run), **log_and_notes(run)},
        safetensors.torch.save(weights_of(model)) if is_kept else b"",
    )
    memory = predict_tests(worker, model, job.images, len(job.network.classes), run)
    check_code(set(sys.modules) - loaded, job.code, worker.scratch)
    return {**steps.facts(run), **memory}
