"""Averages of weights, which several methods share."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

State = Mapping[str, Tensor]


class Mean:
    """The running weighted mean of states of one network.

    Attributes:
        state: the mean, by name; empty before the first state.
        weight: the sum of the weights.
    """

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self.weight = 0

    def add(self, state: State, weight: int = 1) -> None:
        """Add a state, which is copied.

        Args:
            state: tensors by name, the same names and shapes in every call.
            weight: its weight, relative to the other states.
        """
        if not self.state:
            self.state = {name: value.clone() for name, value in state.items()}
        self.weight += weight
        interpolate_(self.state, state, weight / self.weight)


def interpolate_(state: State, other: State, share: float) -> None:
    """Replace a state in place with (1 - share) * state + share * other.

    The result is exact at both ends, and values that are equal in both states do not change by a
    bit, so frozen parts stay frozen. BatchNorm's running statistics are interpolated like weights;
    integers (counters) are copied from ``other``.

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
