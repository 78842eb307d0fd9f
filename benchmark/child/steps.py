"""Count the optimizer steps that any code takes in this process."""

from __future__ import annotations

from typing import Any

from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.weak import WeakIdKeyDictionary

from benchmark.child.job import ContractError
from benchmark.method import Run


class StepCounter:
    """Counts every step of every optimizer of torch from the moment it is created.

    A step that calls another optimizer's step (a wrapper, or a subclass that calls its parent)
    counts the inner steps only.

    Attributes:
        count: steps so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._open: Any = WeakIdKeyDictionary()  # optimizer to counts at the start of its steps
        register_optimizer_step_pre_hook(self._before)
        register_optimizer_step_post_hook(self._after)

    def facts(self, run: Run) -> dict[str, Any]:
        """The counts, and what the method declares in ``run``, for the driver.

        Raises:
            ContractError: the method declares something else than a number of steps.
        """
        return {
            "counted_steps": self.count,
            "total_steps": _whole("total_steps", run.total_steps),
            "sequential_steps": _whole("sequential_steps", run.sequential_steps),
        }

    def _before(self, optimizer: Optimizer, *_: Any) -> None:
        self._open.setdefault(optimizer, []).append(self.count)

    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        if self._open[optimizer].pop() == self.count:
            self.count += 1


def _whole(name: str, value: Any) -> int:
    """A count that a method declares; sums of NumPy's or torch's numbers are counts too."""
    try:
        number = int(value) if float(value).is_integer() else -1
    except (OverflowError, RuntimeError, TypeError, ValueError):
        number = -1
    if number < 0:
        raise ContractError(f"run.{name} is {value!r:.100}; it must be a whole number of steps")
    return number
