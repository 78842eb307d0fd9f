"""A method that is checked: adapted in this process, and run in the lock."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn
from unittest import SkipTest

import torch
from torch import Tensor, nn

from benchmark.check_cases import Case, base_case, icons_slice
from benchmark.check_layer import LayeredRun, run_in_layer
from benchmark.check_lock import LockedRun, run_in_lock
from benchmark.child.job import ContractError
from benchmark.child.predict import predict_logits
from benchmark.errors import NotApplicable, UsageError
from benchmark.in_process import adapt
from benchmark.method import Method, Run, SourceModel
from benchmark.methods.describe import MethodDescription
from benchmark.methods.places import place_in
from benchmark.temporary import temporary_folder


class CheckFailure(AssertionError):
    """A method does not pass a check; the message says what was seen and what to do."""


@dataclass(frozen=True)
class Adapted:
    """An adapted model, and what it was adapted from and with."""

    model: nn.Module
    source: SourceModel
    run: Run

    def predict(self, images: Tensor, *, fresh: bool = True) -> Tensor:
        """Logits (N, C) of images, uint8 (N, 3, H, W), in one batch.

        Args:
            images: the images.
            fresh: whether a copy of the model predicts, so that it cannot remember anything.
        """
        model = copied(self.model) if fresh else self.model
        classes = self.source.head.out_features
        with torch.inference_mode():
            return predict_logits(model, images, self.run, classes).to(torch.float32)


def copied(model: nn.Module) -> nn.Module:
    """A copy of a model, or the model if it cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception:
        return model


@dataclass(frozen=True)
class Locked:
    """How to run the method in the lock.

    Attributes:
        methods: descriptions, bases first.
        settings: hyper-parameters as text.
    """

    methods: Sequence[MethodDescription]
    settings: Mapping[str, str]


@dataclass
class Subject:
    """A method that is checked.

    Attributes:
        chain: the method, last, after those that it starts from.
        locked: finds out how to run it in the lock; may raise ``UsageError`` if that cannot be.
    """

    chain: Sequence[Method]
    locked: Callable[[], Locked]

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        """The files that define the methods, and the classes they derive from."""
        classes = {c for method in self.chain for c in type(method).__mro__} - set(Method.__mro__)
        files = map(inspect.getsourcefile, classes)
        return tuple(Path(file) for file in files if file)

    def adapt(self, case: Case, seed: int = 0) -> Adapted:
        """Adapt to a case.

        Raises:
            SkipTest: the method says that it does not apply.
            CheckFailure: it raises anything else, or does not return a module.
        """
        source = case.source()
        with temporary_folder() as scratch:
            try:
                model, run = adapt(
                    self.chain, source, case.target, lambda: case.run(seed, scratch), seed
                )
            except NotApplicable as reason:
                raise SkipTest(f"the method is not applicable: {reason}") from None
            except (Exception, SystemExit) as error:
                self._fail("adapt()", error)
        return Adapted(model, source, run)

    def logits(self, case: Case, seed: int = 0) -> Tensor:
        """Adapt to a case and predict its images."""
        return self.predict(self.adapt(case, seed), case.images)

    def predict(self, adapted: Adapted, images: Tensor, *, fresh: bool = True) -> Tensor:
        """Predict images; as :meth:`Adapted.predict`, but every exception is a failure."""
        try:
            return adapted.predict(images, fresh=fresh)
        except (Exception, SystemExit) as error:
            self._fail("the adapted model", error)

    @cached_property
    def adapted(self) -> Adapted:
        """The method adapted to the slice with seed 0."""
        return self.adapt(base_case())

    @cached_property
    def repeat_gap(self) -> float:
        """By how much a second adaptation to the slice with seed 0 differs in a logit; 0 if not."""
        images = base_case().images
        one = self.predict(self.adapted, images)
        two = self.predict(self.adapt(base_case()), images)
        return (one - two).abs().max().item()

    @cached_property
    def run_in_lock(self) -> LockedRun:
        """The outcome of a run in the lock.

        Raises:
            SkipTest: the method cannot be run there.
        """
        locked = self._locked()
        return run_in_lock(locked.methods, locked.settings, icons_slice())

    @cached_property
    def run_in_layer(self) -> LayeredRun:
        """The outcome of a run in the lock, from an environment on top of this one.

        Raises:
            SkipTest: the method cannot be run there.
        """
        locked = self._locked()
        run = run_in_layer(locked.methods, locked.settings)
        if run is None:
            raise SkipTest("this Python cannot create environments")
        return run

    def _locked(self) -> Locked:
        try:
            return self.locked()
        except UsageError as error:
            raise SkipTest(str(error)) from None

    def _fail(self, what: str, error: Exception | SystemExit) -> NoReturn:
        """Report an exception of the method's code with its place."""
        if isinstance(error, ContractError):
            raise CheckFailure(str(error)) from error
        place = place_in(traceback.format_exc(), self._files)
        where = f" at {place}" if place else ""
        raise CheckFailure(f"{what} raised {type(error).__name__}{where}: {error}") from error
