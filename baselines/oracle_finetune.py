"""Fine-tuning on target data of all classes: a reference."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class OracleFinetune(Method):
    """Fine-tune on the target's training data of all classes, including missing ones.

    The oracle of Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420). In practice this
    data is not available, so the method is shown but not ranked. It is a reference with all
    classes, not an upper bound on every column. The recipe is that of ``finetune``, for as many
    passes over the data: the steps grow with the number of images, because with equal steps it
    would see each image less often.
    """

    name = "oracle-finetune"
    track = "oracle"
    needs = ("training images of missing classes",)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(z(x), y) over seen and missing (x, y), in theta, from theta_S.

        It takes steps * N_all / N_seen steps.
        """
        everything = target.with_missing()
        steps = round(run.recipe.steps * len(everything) / len(target))
        return fit(source.copy(), everything, run, steps=steps)
