"""Calibration of a fine-tuned model by pseudo cross-validation (PCV)."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from baselines.calibrated_alg import Calibrated
from baselines.finetune import Finetune
from htbench import Method, NotApplicable, Run, SourceModel, TargetData, check_share, predict

MIN_SEEN_CLASSES = 4  # with fewer, a half would be a single class


@dataclass(frozen=True)
class CalibratedPCV(Method):
    """Fine-tune, then add gamma to the missing-class logits, chosen by pseudo cross-validation.

    The idea is from Mai et al., "Fine-Tuning is Fine, if Calibrated", NeurIPS 2024 (arXiv
    2409.16223). This suite's variant: three times, a share of the seen classes S plays missing, and
    a fifth of the images of every seen class is held out. The model is fine-tuned with the same
    recipe on the other images of the classes that do not play missing. Gamma is added to all
    columns that this model was not trained on. The chosen one maximises the accuracy on the
    held-out images over all C columns, provided that the classes that play missing are not
    predicted worse than by the source model. The final gamma is the mean of the three. So a repeat
    is the deployment in small, with the same columns and the same proportions of the two groups.
    (The released code judges on training images, and takes the curve of the classes that are really
    missing.)

    Further choices:

    - If a whole interval of gammas is best, its midpoint is chosen, or its finite end if it is
      unbounded on one side. Among several intervals, the one nearest to 0 is chosen.
    - Repeats in which no gamma satisfies the condition are ignored. If this holds for all repeats,
      gamma is 0 and the leaderboard row has a note.
    """

    name = "calibrated-pcv"
    base = "finetune"
    needs = ("at least four seen classes", "a seen class with two images")
    search = {}
    repeats: int = 3
    share: float = 0.5  # of the seen classes plays missing
    held_out: float = 0.2

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}; it must be at least 1")
        check_share("share", self.share)
        check_share("held_out", self.held_out)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> Calibrated:
        """Predict argmax over c of z_c + gamma * 1(c in U); gamma is the mean of gamma_r over r.

        gamma_r is the g that maximises the accuracy of argmax over c of z_c + g * 1(c in U or P_r)
        on the held-out images of all of S, provided that the accuracy on P_r is at least the source
        model's. P_r are the classes that play missing and z the logits of the model that was
        fine-tuned without them.
        """
        assert run.base is not None
        if (count := int(target.seen.sum())) < MIN_SEEN_CLASSES:
            raise NotApplicable(
                f"pseudo cross-validation needs at least {MIN_SEEN_CLASSES} seen classes; the task "
                f"has {count}"
            )
        gammas = [self._gamma(source, target, run) for _ in range(self.repeats)]
        run.sequential_steps = run.recipe.steps  # the repeats could train in parallel
        valid_gammas = [gamma for gamma in gammas if gamma is not None]
        gamma = fmean(valid_gammas) if valid_gammas else 0.0
        if not valid_gammas:
            run.note(
                f"gamma is 0, because in none of the {self.repeats} repeats did any gamma keep the "
                "pseudo-missing classes at least at the source model's accuracy"
            )
        run.log(gamma=gamma, repeats_that_count=len(valid_gammas))
        return Calibrated(run.base, ~target.seen, gamma)

    def _gamma(self, source: SourceModel, target: TargetData, run: Run) -> float | None:
        """Return the gamma of one repeat; None if no gamma satisfies the condition."""
        fold = target.fold(self.share, self.held_out, run.stream("method"))
        if not fold.held_out:
            raise NotApplicable(
                "pseudo cross-validation holds out images; every seen class has only one"
            )
        device = target.labels.device
        train, held_out = (
            torch.tensor(rows, device=device) for rows in (fold.train, fold.held_out)
        )
        model = Finetune().adapt(source, target.rows(train), run)
        validation = target.rows(held_out)
        source_logits, logits = (
            predict(m, validation.images, run).cpu() for m in (source.copy(), model)
        )
        labels = validation.labels.cpu()
        plays_missing = torch.zeros(len(target.classes), dtype=torch.bool)
        plays_missing[list(fold.missing)] = True
        correct = source_logits.argmax(dim=1) == labels
        floor = int(correct[plays_missing[labels]].sum())
        not_trained = ~target.seen.cpu() | plays_missing
        return best_gamma(logits, labels, not_trained, floor)


def best_gamma(logits: Tensor, labels: Tensor, missing: Tensor, floor: int) -> float | None:
    """Return the constant for the missing columns that maximises accuracy, subject to a floor.

    The prediction of a sample changes to a missing class when gamma exceeds the sample's margin:
    its largest seen logit minus its largest missing logit. Both accuracies are therefore constant
    between neighbouring margins. All intervals are evaluated in O(N log N).

    Args:
        logits: float (N, K).
        labels: int64 (N,), columns of ``logits``.
        missing: bool (K,), the columns that get the constant; at least one true, one false.
        floor: the minimum number of correct samples whose label is one of these columns.

    Returns:
        The midpoint of the best interval, its finite end if it is unbounded on one side, or 0 if
        it is unbounded on both sides; among several best intervals, the one nearest to 0. None if
        no gamma satisfies ``floor``.
    """
    values = logits.double()
    best, winner = values.masked_fill(missing, -torch.inf).max(dim=1)
    best_missing, winner_missing = values.masked_fill(~missing, -torch.inf).max(dim=1)
    margins = best - best_missing
    lost = (winner == labels).long()  # correct below the margin
    won = (winner_missing == labels).long()  # correct above the margin; never both
    matters = (lost | won).bool()  # other samples are never correct
    edges, position = margins[matters].unique(return_inverse=True)  # type: ignore[no-untyped-call]
    change = torch.zeros(2, len(edges) + 1, dtype=torch.int64, device=edges.device)
    change[0].index_add_(0, position + 1, (won - lost)[matters])
    change[1].index_add_(0, position + 1, won[matters])  # missing classes only gain with gamma
    change[0, 0] = lost.sum()
    correct, correct_missing = change.cumsum(dim=1)
    reaches_floor = correct_missing >= floor
    if not reaches_floor.any():
        return None
    is_best = reaches_floor & (correct == correct[reaches_floor].max())
    ends = [-torch.inf, *edges.tolist(), torch.inf]
    return _middle(min(_merge(is_best.tolist(), ends), key=_distance_to_zero))


def _merge(is_best: list[bool], ends: list[float]) -> list[tuple[float, float]]:
    """Return the best intervals, neighbours merged; interval i is from end i to end i + 1."""
    intervals: list[tuple[float, float]] = []
    for i, best in enumerate(is_best):
        if best and i and is_best[i - 1]:
            intervals[-1] = (intervals[-1][0], ends[i + 1])
        elif best:
            intervals.append((ends[i], ends[i + 1]))
    return intervals


def _distance_to_zero(interval: tuple[float, float]) -> float:
    return max(interval[0], -interval[1], 0.0)


def _middle(interval: tuple[float, float]) -> float:
    finite_ends = [end for end in interval if abs(end) < torch.inf]
    return fmean(finite_ends) if finite_ends else 0.0
