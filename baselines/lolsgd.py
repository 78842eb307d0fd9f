"""Leave-out local SGD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.averaging import Mean
from htbench import Batch, Classifier, Method, Run, SourceModel, TargetData, cosine, fit

Penalty = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class LOLSGD(Method):
    """Leave-out local SGD: average local models that each trained without some seen classes.

    Tu et al., "Holistic Transfer", NeurIPS 2023. A round starts M local models from the current
    weights; each takes ``local_steps`` of SGD on the seen classes less a random subset; the new
    weights are the mean of the M. What all of them agree on is the shift of the domain; what
    each forgets of the classes it left out averages away.

    10 local models and a tenth of the classes left out (3 of 30 on Office-Home) are believed to
    be the paper's choice (unconfirmed). This suite's choice: M x local_steps x rounds are the
    recipe's steps, momentum restarts each round, the rate follows the recipe's cosine over rounds
    and BatchNorm buffers are averaged like weights.
    """

    name = "lolsgd"
    local_models: int = 10
    local_steps: int = 5
    left_out: float = 0.1

    def __post_init__(self) -> None:
        if min(self.local_models, self.local_steps) < 1 or not 0 <= self.left_out <= 1:
            raise ValueError(
                f"local_models is {self.local_models}, local_steps {self.local_steps} and left_out "
                f"{self.left_out}; the two count from 1, and left_out is a share of the classes"
            )

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """theta <- mean over m of SGD(theta; D without the classes left out by m), per round."""
        rounds = self._rounds(run.recipe.steps)
        model = source.copy()
        for number in range(rounds):
            start = {name: value.clone() for name, value in model.state_dict().items()}
            mean = Mean()
            sequential = run.sequential_steps
            for _ in range(self.local_models):
                model.load_state_dict(start)
                kept = self._kept_classes(target, run)
                self.train_locally(model, source, target.only(kept), run, cosine(number, rounds))
                mean.add(model.state_dict())
            model.load_state_dict(mean.state)
            # The M local models could train at the same time: a round is local_steps deep.
            run.sequential_steps = sequential + self.local_steps
        return model

    def _rounds(self, steps: int) -> int:
        """Rounds such that all gradient steps together are the recipe's."""
        each = self.local_models * self.local_steps
        if steps % each:
            raise ValueError(
                f"local_models x local_steps = {each} must divide the recipe's {steps} steps"
            )
        return steps // each

    def _kept_classes(self, target: TargetData, run: Run) -> Tensor:
        """A random subset of the seen classes: at least one is kept and, if it can, left out."""
        seen = target.seen.nonzero().squeeze(1)
        out = min(max(1, round(self.left_out * len(seen))), len(seen) - 1)
        order = torch.randperm(len(seen), generator=run.stream("method"))
        return seen[order.to(seen.device)[out:]]

    def train_locally(
        self, model: Classifier, source: SourceModel, target: TargetData, run: Run, factor: float
    ) -> None:
        """Train one local model in place, at the rate of its round."""
        fit(
            model,
            target,
            run,
            train=self.part(model),
            penalties=self.penalties(source, target),
            steps=self.local_steps,
            rate=lambda _: factor,
        )

    def part(self, model: Classifier) -> nn.Module:
        """What of a local model trains: all of it. A combination may say otherwise."""
        return model

    def penalties(self, source: SourceModel, target: TargetData) -> list[Penalty]:
        """What is added to the loss of a local model: nothing. Combinations add terms."""
        return []
