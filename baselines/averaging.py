"""How methods average weights; no method itself."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

State = Mapping[str, Tensor]


class Mean:
    """The mean of states of one network, each of some weight.

    Attributes:
        state: the mean so far, by name; empty before the first.
        weight: the weights of all of them together.
    """

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self.weight = 0

    def add(self, state: State, weight: int = 1) -> None:
        """Take one more state into the mean."""
        if not self.state:
            self.state = {name: value.clone() for name, value in state.items()}
        self.weight += weight
        move(self.state, state, weight / self.weight)


def move(state: State, other: State, share: float) -> None:
    """Move a state in place to (1 - share) state + share other.

    It is exact at both ends, and a value on which the two agree stays as it is to the bit, so that
    a frozen part stays frozen. BatchNorm's running statistics count like weights; counters
    (integers) become the other's.
    """
    for name, value in state.items():
        if value.is_floating_point():
            value.lerp_(other[name], share)
        else:
            value.copy_(other[name])
