"""A pretended second device: CPU tensors that say ``cuda`` and refuse to meet other CPU tensors.

It finds code that forgets to move a tensor, on a machine without a GPU. It says nothing about
kernels, speed or memory. As on CUDA, an index and a number of no dimensions may be on the CPU, and
an operation that has no deterministic CUDA kernel is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda")
# From the documentation of torch.use_deterministic_algorithms: those that the benchmark could meet.
NOT_DETERMINISTIC = {
    "adaptive_max_pool2d",
    "ctc_loss",
    "histc",
    "kthvalue",
    "median",
    "put_",
}
# Tensors of two devices may meet in these: an index, a copy.
MEETINGS = {"__getitem__", "__setitem__", "copy_", "_parse_to"}


class Pretended(Tensor):
    """A CPU tensor that says that it is on a CUDA device."""

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return call(function, args, dict(kwargs or {}))


class PretendCuda(TorchFunctionMode):
    """Creates tensors on the pretended device where the real code asks for ``cuda``."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return call(function, args, dict(kwargs or {}))


@contextlib.contextmanager
def pretended_cuda() -> Iterator[torch.device]:
    """In the block, ``cuda`` is the pretended device; modules moved there get new parameters."""
    future = torch.__future__
    before = future.get_overwrite_module_params_on_conversion()
    future.set_overwrite_module_params_on_conversion(True)
    try:
        with PretendCuda():
            yield CUDA
    finally:
        future.set_overwrite_module_params_on_conversion(before)


def call(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Call a function of torch as a machine with two devices would."""
    name = getattr(function, "__name__", "")
    owner = getattr(function, "__self__", None)
    if name == "__get__":
        if owner is Tensor.device:
            return CUDA if isinstance(args[0], Pretended) else torch.device("cpu")
        if owner is Tensor.is_cuda:
            return isinstance(args[0], Pretended)
    if name in ("to", "cpu", "cuda") and args and isinstance(args[0], Tensor):
        return _move(name, args, kwargs)
    if name == "_has_compatible_shallow_copy_type":
        return len({isinstance(tensor, Pretended) for tensor in args}) == 1
    if name == "__deepcopy__":
        return _deepcopy(args[0], args[1])
    target = None
    if kwargs.get("device") is not None:
        target = torch.device(kwargs.pop("device")).type
    tensors = list(_tensors([*args, *kwargs.values()]))
    ours = [t for t in tensors if isinstance(t, Pretended)]
    if ours and name not in MEETINGS:
        others = [t for t in tensors if not isinstance(t, Pretended) and t.dim() > 0]
        if others:
            raise RuntimeError(f"{name}: tensors on two devices, cuda and cpu")
    if ours and name in NOT_DETERMINISTIC:
        raise RuntimeError(f"{name} does not have a deterministic implementation")
    if name == "__getitem__" and not isinstance(args[0], Pretended) and ours:
        raise RuntimeError("an index on cuda of a tensor on the CPU")
    if ours and name == "numpy":
        raise TypeError("can't convert cuda tensor to numpy")
    with torch._C.DisableTorchFunction():
        result = function(*args, **kwargs)
    is_ours = bool(ours) if target is None else target == "cuda"
    if name == "__setitem__" or result is None:
        return result
    if name == "__getitem__" and target is None:
        is_ours = isinstance(args[0], Pretended)
    return _marked(result) if is_ours else result


def _move(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    tensor, *rest = args
    device: Any = {"cpu": "cpu", "cuda": "cuda"}.get(name, kwargs.pop("device", None))
    for value in rest:
        if isinstance(value, torch.device | str):
            device = value
        elif isinstance(value, Tensor):
            device = "cuda" if isinstance(value, Pretended) else "cpu"
            kwargs["dtype"] = value.dtype
        elif isinstance(value, torch.dtype):
            kwargs["dtype"] = value
    source = isinstance(tensor, Pretended)
    target = source if device is None else torch.device(device).type == "cuda"
    with torch._C.DisableTorchFunction():
        kwargs.pop("non_blocking", None)
        moved = tensor.to(**kwargs) if name == "to" and kwargs else tensor
        if target != source:
            moved = moved.clone()
        moved = moved.as_subclass(Tensor)
    return _marked(moved) if target else moved


def _deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    if id(tensor) in memo:
        return memo[id(tensor)]  # type: ignore[no-any-return]
    with torch._C.DisableTorchFunction():
        copy = tensor.detach().clone(memory_format=torch.preserve_format)
        copy = copy.as_subclass(type(tensor))
        copy.requires_grad_(tensor.requires_grad)
        if isinstance(tensor, torch.nn.Parameter) and isinstance(tensor, Pretended):
            copy._is_param = True  # type: ignore[attr-defined]
    memo[id(tensor)] = copy
    return copy


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _marked(value: Any) -> Any:
    if isinstance(value, Tensor):
        if isinstance(value, Pretended):
            return value
        with torch._C.DisableTorchFunction():
            return value.as_subclass(Pretended)
    if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
        marked = [_marked(v) for v in value]
        return type(value)(*marked) if hasattr(value, "_fields") else type(value)(marked)
    return value
