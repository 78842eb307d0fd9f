"""Train a source model, and compute its features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from benchmark import numerics
from benchmark.checkpoint import Checkpoints
from benchmark.child.data import on_device, open_model, open_training
from benchmark.child.job import ContractError, Worker, build_network
from benchmark.child.predict import decode, predict_tests
from benchmark.jobs import FeaturesJob, SourceJob
from benchmark.networks.build import all_finite, load_backbone, weights_of
from benchmark.training import fit, predict_batch


def train_source(worker: Worker, job: SourceJob) -> dict[str, Any]:
    """Train a source model on every class; return its steps.

    Raises:
        ContractError: the trained weights are not finite.
    """
    run = worker.start_run(job.setup)
    network = job.network
    target = open_training(job, job.train, range(len(network.classes)))
    pretrained = safetensors.torch.load_file(job.initial) if job.initial else {}
    torch.manual_seed(numerics.derive(job.setup.seed, "global"))
    model = build_network(network)
    if pretrained:
        load_backbone(model, pretrained, network.model, network.input_size)
    plan = job.checkpoints
    checkpoints = Checkpoints(Path(plan.folder), plan.key, model, run, plan.seconds)
    worker.enter_sandbox(device=run.device, write=[Path(plan.folder)])
    model = model.to(run.device)
    fit(model, on_device(target, run.device), run, checkpoints=checkpoints)
    if not all_finite(model):
        raise ContractError(
            "training the source model diverged: its weights contain NaN or infinite values; lower "
            "the learning rate in [source]"
        )
    steps = {"counted_steps": run.total_steps, "total_steps": run.total_steps}
    worker.adapted(steps, safetensors.torch.save(weights_of(model)))
    memory = predict_tests(worker, model, job.images, len(network.classes), run)
    return {**steps, **memory}


def extract_features(worker: Worker, job: FeaturesJob) -> dict[str, Any]:
    """Answer every batch that the driver hands out with the source model's features.

    Raises:
        ContractError: a feature is not finite.
    """
    run = worker.start_run(job.setup)
    model = open_model(job.network, job.source)
    worker.enter_sandbox(device=run.device)
    backbone = model.to(run.device).backbone
    worker.adapted({})
    for encoded in worker.batches():
        features = predict_batch(backbone, decode(encoded, job.images), run)
        if not torch.isfinite(features).all():
            raise ContractError("the source model's features contain NaN or infinite values")
        worker.answer(features)
    return {}
