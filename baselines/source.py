"""The source model without adaptation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData


@dataclass(frozen=True)
class Source(Method):
    """The source model without adaptation: the reference against which harm is measured."""

    name = "source"

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Return a model with theta = theta_S."""
        return source.copy()
