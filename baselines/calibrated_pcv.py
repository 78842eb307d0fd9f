"""Fine-tuning, then a constant added to the missing classes' logits (PCV)."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from baselines.calibrated_alg import Calibrated
from baselines.finetune import Finetune
from htbench import Method, NotApplicable, Run, SourceModel, TargetData, check_share, predict

FEWEST = 4  # seen classes: in a half of fewer there would be one, and nothing to tell it from


@dataclass(frozen=True)
class CalibratedPCV(Method):
    """Fine-tuning plus gamma on the missing classes, gamma chosen where seen classes play missing.

    Mai et al., "Fine-Tuning is Fine, if Calibrated", NeurIPS 2024 (arXiv 2409.16223): three times,
    half of the seen classes S are drawn to play missing, the rest is fine-tuned on by the same
    recipe, and the gamma is taken that is best for accuracy over S while the pseudo-missing classes
    are no worse than under the source model; gamma is the mean of the three.

    This suite's choices: a fifth of the images of every pseudo-seen class is held out of
    fine-tuning; accuracies are over these and all images of the pseudo-missing classes (which so
    weigh about five times as much), argmax over the columns S, in evaluation mode with the
    evaluation transform, the source model's too; of the gammas that are equally good the middle is
    taken (the finite end where there is none, and those nearest to 0 where they lie apart). A
    repeat in which no gamma is good enough does not count; if none does gamma is 0 and the row
    says so.
    """

    name = "calibrated-pcv"
    base = "finetune"
    needs = ("four seen classes",)
    repeats: int = 3
    held_out: float = 0.2

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}; there must be one at least")
        check_share("held_out", self.held_out)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """argmax over c of z_c + gamma * 1(c in U), gamma the mean of gamma_r over repeats r.

        gamma_r is the g with the best accuracy of argmax over c in S of z_c + g * 1(c in P_r) for
        which the accuracy on P_r is not below the source model's; P_r are the pseudo-missing
        classes, z the logits of the model that was fine-tuned without them.
        """
        assert run.base is not None
        if (count := int(target.seen.sum())) < FEWEST:
            raise NotApplicable(f"halving the seen classes needs {FEWEST}; there are {count}")
        found = [self._gamma(source, target, run) for _ in range(self.repeats)]
        run.sequential_steps = run.recipe.steps  # the repeats could train at the same time
        good = [gamma for gamma in found if gamma is not None]
        gamma = fmean(good) if good else 0.0
        if not good:
            run.note(
                f"gamma is 0: in none of {self.repeats} repeats a gamma kept the pseudo-missing "
                "classes at the source model's accuracy"
            )
        run.log(gamma=gamma, repeats_that_count=len(good))
        return Calibrated(run.base, ~target.seen, gamma)

    def _gamma(self, source: SourceModel, target: TargetData, run: Run) -> float | None:
        """The gamma of one repeat; None where none is good enough."""
        seen = target.seen.nonzero().squeeze(1)
        drawn = torch.randperm(len(seen), generator=run.stream("method")).to(seen.device)
        missing = seen[drawn[: len(seen) // 2]]
        is_missing = torch.isin(target.labels, missing)
        kept, held = target.hold_out(self.held_out, run.stream("method"))
        model = Finetune().adapt(source, target.rows(kept[~is_missing[kept]]), run)
        tests = target.rows(torch.cat([held[~is_missing[held]], is_missing.nonzero().squeeze(1)]))
        before, after = (
            predict(m, tests.images, run)[:, seen].cpu() for m in (source.copy(), model)
        )
        labels = torch.searchsorted(seen, tests.labels).cpu()  # columns of S
        columns = torch.isin(seen, missing).cpu()
        right = before.argmax(dim=1) == labels
        return best_gamma(after, labels, columns, int(right[columns[labels]].sum()))


def best_gamma(logits: Tensor, labels: Tensor, missing: Tensor, floor: int) -> float | None:
    """The constant on some columns that is best for accuracy while their classes keep a floor.

    A sample turns to the missing columns where gamma passes its margin, its best other logit less
    its best missing one. So both accuracies are constant between neighbouring margins, and every
    interval is looked at, in O(N log N).

    Args:
        logits: float (N, K); ``labels``: int64 (N,); ``missing``: bool (K,), some true, some not.
        floor: how many samples of missing classes must be right, at least.

    Returns:
        The middle of the best interval, its finite end where it has one only, 0 where it is
        everything; of several, of the one nearest to 0. None where no gamma keeps the floor.
    """
    values = logits.double()
    best, winner = values.masked_fill(missing, -torch.inf).max(dim=1)
    best_missing, winner_missing = values.masked_fill(~missing, -torch.inf).max(dim=1)
    margins = best - best_missing
    lost = (winner == labels).long()  # right up to the margin
    won = (winner_missing == labels).long()  # right beyond it; never both
    turns = (lost | won).bool()  # where another sample turns nothing changes
    edges, place = margins[turns].unique(return_inverse=True)  # type: ignore[no-untyped-call]
    change = torch.zeros(2, len(edges) + 1, dtype=torch.int64, device=edges.device)
    change[0].index_add_(0, place + 1, (won - lost)[turns])
    change[1].index_add_(0, place + 1, won[turns])  # samples of missing classes are only ever won
    change[0, 0] = lost.sum()
    correct, correct_missing = change.cumsum(dim=1)
    kept = correct_missing >= floor
    if not kept.any():
        return None
    good = kept & (correct == correct[kept].max())
    ends = [-torch.inf, *edges.tolist(), torch.inf]
    return _middle(min(_stretches(good.tolist(), ends), key=_distance))


def _stretches(good: list[bool], ends: list[float]) -> list[tuple[float, float]]:
    """Neighbouring good intervals as one, in order; interval i is from end i to end i + 1."""
    found: list[tuple[float, float]] = []
    for i, is_good in enumerate(good):
        if is_good and i and good[i - 1]:
            found[-1] = (found[-1][0], ends[i + 1])
        elif is_good:
            found.append((ends[i], ends[i + 1]))
    return found


def _distance(stretch: tuple[float, float]) -> float:
    """From 0, which may lie inside."""
    return max(stretch[0], -stretch[1], 0.0)


def _middle(stretch: tuple[float, float]) -> float:
    finite = [end for end in stretch if abs(end) < torch.inf]
    return fmean(finite) if finite else 0.0
