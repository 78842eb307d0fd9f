"""Named conformance checks for a method: what the contract says, and where methods often fail.

Most checks adapt in the current process, on a slice of the icons; some look at a run in the lock.
A check that passes returns; one that fails raises :class:`CheckFailure`; one that does not apply
raises ``unittest.SkipTest``, which pytest shows as a skipped test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import SkipTest

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark import check_cases, numerics
from benchmark.check_cases import Case, base_case, plain_case
from benchmark.check_lock import LockedRun
from benchmark.check_subject import Adapted, CheckFailure, Subject, copied
from benchmark.child.steps import StepCounter
from benchmark.isolation.answers import ROUNDING, TOLERANCE
from benchmark.method import Run
from benchmark.torch_state import kept_torch_state, torch_state

MAX_SECONDS = 20.0  # of adapting to the slice; finetune takes a tenth of a second
MAX_MEMORY = 4 << 30  # bytes; finetune takes half a GiB
LEAST_ACCURACY = 50.0  # per cent of seen training images; the source model has 98


@dataclass(frozen=True)
class Check:
    """A named check of a method: call it.

    Attributes:
        name: such as ``same-seed``; also ``__name__``, so that pytest shows it.
        purpose: what the method must do, in a few words.
    """

    name: str
    purpose: str
    _check: Callable[[], None]

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self) -> None:
        """Check the method; global settings of torch are put back afterwards.

        Raises:
            CheckFailure: the method does not pass.
            unittest.SkipTest: the check does not apply to the method.
        """
        with kept_torch_state():
            numerics.configure()
            self._check()


def checks_of(subject: Subject) -> Iterator[Check]:
    """The checks of a method; the others need the first."""
    for name, purpose, check in _CHECKS:
        yield Check(name, purpose, partial(check, subject))


# --- what adapt returns ---------------------------------------------------------------------------


def _finite_logits(subject: Subject) -> None:
    subject.predict(subject.adapted, base_case().images)


def _column_order(subject: Subject) -> None:
    target = base_case().target
    images = target.images[torch.arange(len(target))]
    predicted = subject.predict(subject.adapted, images).argmax(dim=1)
    accuracy = 100 * (predicted == target.labels).double().mean().item()
    if accuracy < LEAST_ACCURACY:
        raise CheckFailure(
            f"the adapted model is right on {accuracy:.0f} % of its own training images, and the "
            f"source model on 98 %. Column i of the logits must belong to target.classes[i]: check "
            "that the head keeps this order, and that training does not diverge"
        )


def _same_seed(subject: Subject) -> None:
    if subject.repeat_gap:
        raise CheckFailure(
            f"two adaptations with seed 0 differ by up to {subject.repeat_gap:.3g} in a logit. "
            'Draw all random numbers from run.stream("method") or the global generators of torch, '
            "NumPy and Python, give each generator of your own a seed, and do not depend on the "
            "time or on the order of a set"
        )


def _other_seed(subject: Subject) -> None:
    images = base_case().images
    one = subject.predict(subject.adapted, images)
    counter = StepCounter()
    other = subject.adapt(base_case(), seed=1)
    untouched = torch.Generator().manual_seed(numerics.derive(1, "global")).get_state()
    has_drawn = not torch.equal(torch.get_rng_state(), untouched) or _drawn(other.run)
    if not torch.equal(one, subject.predict(other, images)):
        return
    if not (has_drawn and counter.count):
        raise SkipTest("the method is deterministic: another seed gives the same predictions")
    raise CheckFailure(
        "the method draws random numbers and trains, but seeds 0 and 1 give the same predictions. "
        'Do not seed generators yourself; take them from run.stream("method")'
    )


def _drawn(run: Run) -> bool:
    """Whether random numbers were drawn from a run's streams."""
    fresh = numerics.Streams(run.stream.seed)
    return any(
        not torch.equal(run.stream(name).get_state(), fresh(name).get_state())
        for name in numerics.STREAMS
    )


def _batch_mates(subject: Subject) -> None:
    images = base_case().images
    together = subject.predict(subject.adapted, images)
    alone = torch.cat([subject.predict(subject.adapted, image[None]) for image in images[::5]])
    _compare(
        together[::5],
        alone,
        "is predicted alone or together with others",
        "Normalise by running statistics in evaluation mode, and compute nothing from a batch",
    )


def _order(subject: Subject) -> None:
    images = base_case().images
    used = subject.adapted
    adapted = Adapted(copied(used.model), used.source, used.run)  # it may remember what it predicts
    first = subject.predict(adapted, images, fresh=False)
    for part in torch.split(images.flip(0), 16):
        subject.predict(adapted, part, fresh=False)
    _compare(
        first,
        subject.predict(adapted, images, fresh=False),
        "is predicted before or after others",
        "Keep nothing from test images, and draw no random numbers in forward()",
    )


def _compare(one: Tensor, other: Tensor, when: str, remedy: str) -> None:
    """Compare logits by the rule that a run's answers are compared by."""
    before, now = one.double(), other.double()
    height = before.amax(dim=1) - before.median(dim=1).values
    gap = (now - before).abs()
    is_other = gap > TOLERANCE * height[:, None] + ROUNDING * before.abs()
    if is_other.any():
        raise CheckFailure(
            f"the logits of {int(is_other.any(dim=1).sum())} of {len(one)} images change by up to "
            f"{gap.max().item():.3g} with whether an image {when}. {remedy}"
        )


# --- what must not change -------------------------------------------------------------------------


def _source_unchanged(subject: Subject) -> None:
    case = base_case()
    adapted = subject.adapt(case)
    subject.predict(adapted, case.images, fresh=False)
    model = adapted.source._model
    before, now = case.source()._model.state_dict(), model.state_dict()
    changed = [name for name in {**before, **now} if not _same(before.get(name), now.get(name))]
    if any(parameter.requires_grad for parameter in model.parameters()):
        changed.append("requires_grad")
    if any(module.training for module in model.modules()):
        changed.append("the training mode")
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        changed.append("forward hooks")
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise CheckFailure(
            f"adapt() or the adapted model changed the source model: {', '.join(changed[:3])}"
            f"{more}. Train source.copy(), and leave source as it is"
        )


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether a tensor of a model, which another model may lack, is the same in both."""
    if one is None or other is None:
        return False
    return one.dtype == other.dtype and torch.equal(one, other)


def _torch_state(subject: Subject) -> None:
    case = base_case()
    torch.manual_seed(numerics.derive(0, "global"))
    before = torch_state()
    subject.predict(subject.adapt(case), case.images)
    changed = [
        f"{name} from {before[name]} to {value}"
        for name, value in torch_state().items()
        if value != before[name]
    ]
    if changed:
        raise CheckFailure(
            f"adapt() or the adapted model changed global settings of torch: {'; '.join(changed)}. "
            "Put them back, or pass them as arguments (dtype=, device=, generator=)"
        )


# --- unusual tasks --------------------------------------------------------------------------------


def _survives(case: Callable[[], Case], subject: Subject) -> None:
    """Adapt to a case; the logits must be finite and have one column per class."""
    try:
        subject.logits(case())
    except CheckFailure as failure:
        raise CheckFailure(
            f"{failure}. Handle this case; where it makes no sense, raise "
            "htbench.NotApplicable(reason) in adapt()"
        ) from failure.__cause__


# --- a run ----------------------------------------------------------------------------------------


def _in_the_lock(subject: Subject) -> None:
    run = subject.run_in_lock
    if run.reason is not None:
        raise SkipTest(f"the method is not applicable: {run.reason}")
    if run.error is not None:
        raise CheckFailure(f"a run in the lock failed: {run.error}")
    if run.missing:
        raise SkipTest(
            f"the run succeeded, but this machine does not lock it fully ({', '.join(run.missing)})"
        )


def _same_in_the_lock(subject: Subject) -> None:
    run, logits = _run_with_predictions(subject)
    here = subject.predict(subject.adapt(plain_case()), run.images)
    try:
        _same_predictions(here.numpy(), logits)
    except CheckFailure:
        _needs_same_seed(subject)
        raise


def _needs_same_seed(subject: Subject) -> None:
    """Leave it to ``same-seed`` to say why predictions differ that also do so in one process."""
    if subject.repeat_gap:
        raise SkipTest("two adaptations with the same seed differ, see same-seed")


def _run_with_predictions(subject: Subject) -> tuple[LockedRun, NDArray[Any]]:
    run = subject.run_in_lock
    if run.logits is None:
        raise SkipTest("the run in the lock gave no predictions")
    return run, run.logits


def _same_predictions(here: NDArray[Any], there: NDArray[Any]) -> None:
    gap = np.abs(here - there).max()
    if gap > TOLERANCE * np.abs(there).max():
        raise CheckFailure(
            f"a run in the lock gives other logits than this process, by up to {gap:.3g}. The "
            "method depends on something else than its arguments and declared files, such as an "
            "environment variable, the order of a set, the time, or the current folder"
        )


def _same_in_a_layer(subject: Subject) -> None:
    _, logits = _run_with_predictions(subject)
    layered = subject.run_in_layer
    if layered.logits is None:
        raise CheckFailure(f"a run from an environment on top of this one failed: {layered.error}")
    if not np.array_equal(layered.logits, logits):
        _needs_same_seed(subject)
        raise CheckFailure(
            "a run from an environment on top of this one gives other logits. The method depends "
            "on its environment, such as on sys.prefix or on what sys.path contains"
        )


def _time_and_memory(subject: Subject) -> None:
    run, _ = _run_with_predictions(subject)
    if run.seconds > MAX_SECONDS:
        raise CheckFailure(
            f"adapting takes {run.seconds:.1f} s for {check_cases.RECIPE['steps']} steps of the "
            f"recipe; at most {MAX_SECONDS:g} s are allowed. Train for run.recipe.steps, and "
            "predict in batches"
        )
    if run.memory > MAX_MEMORY:
        raise CheckFailure(
            f"the run takes {run.memory / 2**30:.1f} GiB of memory; at most "
            f"{MAX_MEMORY / 2**30:g} GiB are allowed. Index target.images batch by batch, and keep "
            "few copies of the model"
        )


_CHECKS: tuple[tuple[str, str, Callable[[Subject], None]], ...] = (
    ("finite-logits", "adapts, and returns finite logits (N, C)", _finite_logits),
    ("column-order", "columns are in the order of target.classes", _column_order),
    ("same-seed", "the same seed gives the same bytes", _same_seed),
    ("other-seed", "another seed gives other predictions", _other_seed),
    ("batch-mates", "a prediction does not depend on its batch", _batch_mates),
    ("order", "a prediction does not depend on earlier ones", _order),
    ("source-unchanged", "the source model stays as it is", _source_unchanged),
    ("torch-state-unchanged", "global settings of torch stay as they are", _torch_state),
    (
        "one-seen-class",
        "adapts to a single seen class",
        partial(_survives, check_cases.one_seen_class),
    ),
    (
        "class-of-one-image",
        "adapts to a class of one image",
        partial(_survives, check_cases.class_of_one_image),
    ),
    (
        "last-batch-of-one",
        "adapts if the last batch has one image",
        partial(_survives, check_cases.last_batch_of_one),
    ),
    (
        "no-batch-norm",
        "adapts a network without BatchNorm",
        partial(_survives, check_cases.without_batch_norm),
    ),
    ("many-classes", "adapts to 345 classes", partial(_survives, check_cases.many_classes)),
    ("in-the-lock", "needs no file, process or network of others", _in_the_lock),
    ("same-in-the-lock", "a run gives what this process gives", _same_in_the_lock),
    ("same-in-a-layer", "a run from an environment on top gives the same", _same_in_a_layer),
    ("time-and-memory", "keeps to a budget of time and memory", _time_and_memory),
)
