"""Predict the test images batch by batch, and check the logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.child.job import ContractError, Worker
from benchmark.failpoints import reach
from benchmark.images.store import jpeg
from benchmark.images.store.tensors import as_images
from benchmark.jobs import ImageFormat
from benchmark.method import Run
from benchmark.records import DEVICE_MEMORY
from benchmark.training import predict_batch


def predict_tests(
    worker: Worker, model: nn.Module, form: ImageFormat, classes: int, run: Run
) -> dict[str, Any]:
    """Answer every batch that the driver hands out with its logits; return facts for the driver.

    Raises:
        ContractError: as :func:`predict_logits`.
    """
    for encoded in worker.batches():
        worker.answer(predict_logits(model, decode(encoded, form), run, classes))
    reach("answer-written")
    return device_memory(run.device)


def predict_logits(model: nn.Module, images: Tensor, run: Run, classes: int) -> Tensor:
    """The logits (N, C) that an adapted model returns for one batch of images, uint8.

    Raises:
        ContractError: they are not a tensor, have another shape, or are not finite; or the model
            has weights of a precision that cannot take the images. Other exceptions are its own.
    """
    try:
        logits = predict_batch(model, images, run)
    except RuntimeError as error:
        dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
        if others := sorted(str(dtype) for dtype in dtypes - {torch.float32}):
            raise ContractError(
                "the model that adapt() returned cannot predict float32 images, and has weights of "
                f"{', '.join(others)}; return model.float(), or convert the images in its "
                f"forward() ({error})"
            ) from error
        raise
    return check_logits(logits, len(images), classes)


def decode(encoded: list[bytes], form: ImageFormat) -> Tensor:
    """The images of a batch, uint8 (B, 3, S, S)."""
    size = form.size
    if form.store == "jpeg":
        images = [jpeg.decode(data, size, index) for index, data in enumerate(encoded)]
        return torch.from_numpy(np.stack(images))
    pixels = torch.frombuffer(bytearray(b"".join(encoded)), dtype=torch.uint8)
    return as_images(pixels, size, form.store)


def device_memory(device: torch.device) -> dict[str, int]:
    """On CUDA, the peak bytes of this process's tensors, which the kernel cannot measure."""
    if device.type != "cuda":
        return {}
    return {DEVICE_MEMORY: torch.cuda.max_memory_allocated(device)}


def check_logits(logits: Any, count: int, classes: int) -> Tensor:
    """Check what a model returned for a batch of ``count`` images.

    Raises:
        ContractError: it is not a finite tensor (``count``, ``classes``).
    """
    if not isinstance(logits, Tensor):
        raise ContractError(
            f"the model that adapt() returned gives {_kind(logits)} instead of a tensor of logits; "
            f"it must return one tensor, ({count}, {classes}) for {count} images: wrap it in a "
            "torch.nn.Module whose forward() returns only the logits"
        )
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
    return logits


def _kind(value: object) -> str:
    """What a value is, with the names that may hold the logits."""
    if isinstance(value, dict):  # and the outputs of the transformers library
        return f"a {type(value).__name__} with {', '.join(map(str, value)) or 'no entries'}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
