"""Settings of torch and generators that are global to a process, and how to put them back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

_HOOKS: tuple[tuple[str, dict[int, Any]], ...] = (
    ("hooks of all modules before forward", modules._global_forward_pre_hooks),
    ("hooks of all modules after forward", modules._global_forward_hooks),
    ("hooks of all modules before backward", modules._global_backward_pre_hooks),
    ("hooks of all modules after backward", modules._global_backward_hooks),
    ("hooks of all optimizers before a step", optimizers._global_optimizer_pre_hooks),
    ("hooks of all optimizers after a step", optimizers._global_optimizer_post_hooks),
)

UNCLEAR = "unclear"  # an older setting that contradicts a newer one: torch refuses to say


def _older(get: Callable[[], Any]) -> Callable[[], Any]:
    """Read a setting of precision that newer ones replace, see :func:`_precisions`."""

    def read() -> Any:
        try:
            return get()
        except RuntimeError:
            return UNCLEAR

    return read


def _put_older(put: Callable[[Any], Any], value: Any) -> None:
    if value != UNCLEAR:
        put(value)


def _smallest_is_zero() -> bool:
    """Whether numbers below 1e-38 count as 0: torch can set this, but cannot read it."""
    return not (torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 1).item()


# name -> (get, set); the functions of torch have no types
_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "default device": (lambda: str(torch.get_default_device()), torch.set_default_device),
    "gradients enabled": (torch.is_grad_enabled, torch.set_grad_enabled),
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "anomaly detection": (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    "zero for numbers below 1e-38": (_smallest_is_zero, torch.set_flush_denormal),
    "precision of float32 products": (
        _older(torch.get_float32_matmul_precision),
        partial(_put_older, torch.set_float32_matmul_precision),
    ),
    "cudnn.allow_tf32": (
        _older(lambda: torch.backends.cudnn.allow_tf32),
        partial(_put_older, lambda value: setattr(torch.backends.cudnn, "allow_tf32", value)),
    ),
    "cudnn.benchmark": (
        lambda: torch.backends.cudnn.benchmark,
        lambda value: setattr(torch.backends.cudnn, "benchmark", value),
    ),
    "cudnn.deterministic": (
        lambda: torch.backends.cudnn.deterministic,
        lambda value: setattr(torch.backends.cudnn, "deterministic", value),
    ),
    "filling of new tensors": (
        lambda: torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        lambda value: setattr(torch.utils.deterministic, "fill_uninitialized_memory", value),
    ),
}


def _precisions() -> Iterator[tuple[str, tuple[Callable[[], Any], Callable[[Any], Any]]]]:
    """The settings of float32 that torch has since 2.9, each after those that it may follow."""
    for place in (
        "torch.backends",
        *("torch.backends.cuda.matmul", "torch.backends.cudnn", "torch.backends.mkldnn"),
        *("torch.backends.cudnn.conv", "torch.backends.cudnn.rnn"),
        *("torch.backends.mkldnn.matmul", "torch.backends.mkldnn.conv"),
        "torch.backends.mkldnn.rnn",
    ):
        with contextlib.suppress(AttributeError):
            owner: Any = attrgetter(place.partition(".")[2])(torch)
            get = partial(getattr, owner, "fp32_precision")
            get()
            yield f"{place}.fp32_precision", (get, partial(_put_precision, owner))


def _put_precision(owner: Any, value: str) -> None:
    if owner.fp32_precision != value:  # one that follows another stays so
        owner.fp32_precision = value


_SETTINGS |= dict(_precisions())


def torch_state() -> dict[str, Any]:
    """Every setting by name, with the numbers of hooks and the seed of the global generator."""
    settings = {name: get() for name, (get, _) in _SETTINGS.items()}
    hooks = {name: len(entries) for name, entries in _HOOKS}
    return {**settings, **hooks, "seed of the global generator": torch.initial_seed()}


@contextlib.contextmanager
def kept_torch_state() -> Iterator[None]:
    """Put every setting, the hooks and the global generators back at the end of the block."""
    before = {name: get() for name, (get, _) in _SETTINGS.items()}
    hooks = [(entries, dict(entries)) for _, entries in _HOOKS]
    generators = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        for name, (_, put) in _SETTINGS.items():
            put(before[name])
        for entries, kept in hooks:
            entries.clear()
            entries.update(kept)
        torch.set_rng_state(generators[0])
        np.random.set_state(generators[1])
        random.setstate(generators[2])
