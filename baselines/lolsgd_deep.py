"""Leave-out local SGD with as many sequential steps as fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.lolsgd import LOLSGD


@dataclass(frozen=True)
class LOLSGDDeep(LOLSGD):
    """Leave-out local SGD with as many steps in sequence as ``finetune``, and M times as many.

    ``lolsgd`` has as many steps in total as ``finetune``, so its model has moved M times fewer
    steps away from the source model. Here every chain of local steps is as long as the recipe.
    """

    name = "lolsgd-deep"

    def default_rounds(self, steps: int) -> int:
        """Return the number of rounds whose local steps in sequence are the recipe's steps."""
        return self.rounds_of(steps, self.local_steps)
