"""The source model as it is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData


@dataclass(frozen=True)
class Source(Method):
    """The source model as it is, without any adaptation: the line that harm is measured from."""

    name = "source"

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """theta = theta_S."""
        return source.copy()
