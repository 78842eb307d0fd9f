"""Predict the test images, and check the logits."""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import numerics
from benchmark.child.job import ContractError, TestBatch, write
from benchmark.failpoints import reach
from benchmark.images.store.tensors import LazyImages
from benchmark.method import Run
from benchmark.records import DEVICE_MEMORY
from benchmark.training import predict

BATCH_INDEPENDENCE_IMAGES = 32
BATCH_INDEPENDENCE_TOLERANCE = 1e-3


def predict_tests(model: nn.Module, tests: TestBatch, classes: int, run: Run) -> dict[str, Any]:
    """Write the logits (N, C) of the test images as float32; return facts of the environment.

    Raises:
        ContractError: the logits have another shape, are not finite, or depend on the batch.
    """
    assert tests.images is not None
    logits = predict(model, tests.images, run)
    _check_logits(logits, len(tests.images), classes)
    _check_batch_independence(model, tests.images, logits, run)
    write(tests.array, logits.cpu().numpy().tobytes())
    reach("answer-written")
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **numerics.driver_facts(run.device),
        **_device_memory(run.device),
    }


def _device_memory(device: torch.device) -> dict[str, int]:
    """On CUDA, the peak bytes of this process's tensors, which the kernel cannot measure."""
    if device.type != "cuda":
        return {}
    return {DEVICE_MEMORY: torch.cuda.max_memory_allocated(device)}


def _check_logits(logits: Tensor, count: int, classes: int) -> None:
    if logits.shape != (count, classes):
        raise ContractError(
            f"the model returned logits of shape {tuple(logits.shape)} for {count} images, "
            f"but the shape must be ({count}, {classes}): one column per class"
        )
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).any(dim=1).sum())
        raise ContractError(
            f"the model returned NaN or infinite logits for {bad} of {count} images; check whether "
            "training diverged"
        )


def _check_batch_independence(
    model: nn.Module, images: Tensor | LazyImages, logits: Tensor, run: Run
) -> None:
    """A prediction must not depend on the other images of its batch."""
    some = images[:BATCH_INDEPENDENCE_IMAGES]
    chunks = [some.flip(0)[start : start + 5] for start in range(0, len(some), 5)]
    again = torch.cat([predict(model, part, run) for part in chunks]).flip(0)
    gap = float((again - logits[: len(some)]).abs().max())
    scale = max(1.0, float(logits.abs().max()))
    if gap > BATCH_INDEPENDENCE_TOLERANCE * scale:
        raise ContractError(
            "predictions depend on the other images in the batch: the logits of the same images "
            f"differ by {gap:.3g} between batches; return a model whose layers use running "
            "statistics in evaluation mode"
        )
