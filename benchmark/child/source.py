"""Train a source model, and compute its features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from benchmark import numerics
from benchmark.checkpoint import Checkpoints
from benchmark.child.data import on_device, open_model, open_training
from benchmark.child.job import ContractError, Worker, build_network, write
from benchmark.child.predict import predict_tests
from benchmark.jobs import FeaturesJob, SourceJob
from benchmark.networks.build import all_finite, load_backbone, weights_of
from benchmark.training import fit, predict


def train_source(worker: Worker, job: SourceJob) -> dict[str, Any]:
    """Train a source model on every class; return facts about its predictions.

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
    worker.enter_sandbox(write=[Path(plan.folder)])
    worker.send(started=True)
    model = model.to(run.device)
    fit(model, on_device(target, run.device), run, checkpoints=checkpoints)
    if not all_finite(model):
        raise ContractError(
            "training the source model diverged: its weights contain NaN or infinite values; lower "
            "the learning rate in [source]"
        )
    worker.send(adapted={"total_steps": run.total_steps})
    tests = worker.receive_tests()
    write(tests.weights, safetensors.torch.save(weights_of(model)))
    return predict_tests(model, tests, len(network.classes), run)


def extract_features(worker: Worker, job: FeaturesJob) -> dict[str, Any]:
    """Write the source model's features of every training image, in the order of the job.

    Raises:
        ContractError: a feature is not finite.
    """
    run = worker.start_run(job.setup)
    target = open_training(job, job.train, range(len(job.network.classes)))
    model = open_model(job.network, job.source)
    worker.enter_sandbox()
    worker.send(started=True)
    worker.send(adapted={})
    tests = worker.receive_tests()
    features = predict(model.to(run.device).backbone, target.images, run)
    if not torch.isfinite(features).all():
        raise ContractError("the source model's features contain NaN or infinite values")
    write(tests.array, features.cpu().numpy().tobytes())
    return {"width": features.shape[1]}
