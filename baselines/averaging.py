"""Weight averaging, shared by several methods."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

State = Mapping[str, Tensor]


class Mean:
    """A running weighted mean of the state dicts of one network.

    Attributes:
        state: the mean state dict; empty until the first call of :meth:`add`.
        weight: the sum of the weights.
    """

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self.weight = 0.0

    def add(self, state: State, weight: float = 1) -> None:
        """Add a copy of a state dict to the mean.

        Args:
            state: the state dict; names and shapes must be the same in every call.
            weight: its weight, relative to the other state dicts.
        """
        if not self.state:
            self.state = {name: value.clone() for name, value in state.items()}
        self.weight += weight
        interpolate_(self.state, state, weight / self.weight)


def interpolate_(state: State, other: State, share: float) -> None:
    """Replace a state in place with (1 - share) * state + share * other.

    The result is exact for shares 0 and 1, and values that are equal in both states are bitwise
    unchanged, so frozen parts stay frozen. BatchNorm's running statistics are interpolated like
    weights; integers (counters) are copied from ``other``.

    Args:
        state: tensors by name, modified in place.
        other: tensors of the same names and shapes.
        share: the weight of ``other``, between 0 and 1.
    """
    for name, value in state.items():
        if value.is_floating_point():
            value.lerp_(other[name], share)
        else:
            value.copy_(other[name])
