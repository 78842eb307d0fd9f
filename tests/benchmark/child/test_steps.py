"""Steps of any optimizer of torch are counted, whatever the method declares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import optimizer as optimizers

from benchmark.child.steps import StepCounter


@pytest.fixture
def counter() -> Iterator[StepCounter]:
    hooks = (optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks)
    before = [dict(table) for table in hooks]
    yield StepCounter()
    for table, old in zip(hooks, before, strict=True):
        table.clear()
        table.update(old)


def parameter() -> nn.Parameter:
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    return weight


class Wrapper(torch.optim.Optimizer):
    """Calls the step of another optimizer, as SAM does."""

    def __init__(self, inner: torch.optim.Optimizer, times: int = 1) -> None:
        super().__init__(inner.param_groups, {})
        self.inner, self.times = inner, times

    def step(self, closure: Any = None) -> None:
        for _ in range(self.times):
            self.inner.step()


class Derived(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class Own(torch.optim.Optimizer):
    """An update rule that is not in torch."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> None:
        pass


@pytest.mark.parametrize(
    ("create", "steps"),
    [
        (lambda: torch.optim.SGD([parameter()], lr=0.1), 1),
        (lambda: torch.optim.Adam([parameter()]), 1),
        (lambda: Own([parameter()]), 1),
        (lambda: Derived([parameter()], lr=0.1), 1),
        (lambda: Wrapper(torch.optim.SGD([parameter()], lr=0.1)), 1),
        (lambda: Wrapper(torch.optim.SGD([parameter()], lr=0.1), times=5), 5),
    ],
)
def test_a_step_counts_once(
    counter: StepCounter, create: Callable[[], torch.optim.Optimizer], steps: int
) -> None:
    torch.optim.SGD([parameter()], lr=0.1)  # from now on torch reports the steps of every SGD
    optimizer = create()
    for _ in range(3):
        optimizer.step()
    assert counter.count == 3 * steps


def test_a_step_that_fails_does_not_stop_the_count(counter: StepCounter) -> None:
    optimizer = torch.optim.SGD([parameter()], lr=0.1)

    def closure() -> float:
        raise ValueError("diverged")

    for _ in range(2):
        with pytest.raises(ValueError, match="diverged"):
            optimizer.step(closure)
    optimizer.step()
    assert counter.count == 1
