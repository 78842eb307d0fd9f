"""The interface for methods: the base class, and the objects passed to ``adapt``."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from benchmark.errors import ManifestError
from benchmark.folds import Fold, check_share, draw_fold, held_out_count
from benchmark.jobs import MAX_LOG_ROWS, MAX_METRICS
from benchmark.numerics import one_number

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from benchmark.images.augment import Transforms
    from benchmark.images.store.tensors import LazyImages
    from benchmark.networks.build import Classifier
    from benchmark.numerics import Streams

Track = Literal["standard", "oracle"]
LOG_ROWS = 50  # approximate number of rows in the training log, for any number of steps


@dataclass(frozen=True)
class Method(ABC):
    """Base class of methods, which adapt the source model. Subclasses are frozen dataclasses.

    The fields of the dataclass are the hyper-parameters: ``bool``, ``int``, ``float`` or ``str``,
    each with a default. ``htbench list methods`` lists them, ``--set field=value`` sets them, and
    they are part of the run's key. To reject invalid values before anything runs, raise a
    ``ValueError`` in ``__post_init__``. The first paragraph of the docstring is used as the
    method's summary in tables.

    Attributes:
        name: unique name of lower-case letters, digits and dashes.
        base: name of the method whose adapted model this one starts from; the model is passed as
            ``run.base``.
        track: ``standard``, or ``oracle`` for references that use data of missing classes
            (built-in methods only).
        uses_features: whether the method uses ``target.features``, the source model's features of
            the training images. They are computed once per source model and shared by all runs.
        needs: requirements on the network or the task, as phrases such as ``a BatchNorm layer``;
            ``htbench list methods`` shows them. If one is not met, ``adapt`` raises
            ``NotApplicable``.
        files: data files that the method reads, relative to the plugin's folder. They are part of
            the run's key; a run can read no other data file. Write them as a literal tuple, since
            they are read from the text of the class.
        search: the values of fields that ``htbench tune`` tries, such as ``{"alpha": (0.1, 1.0)}``,
            together with factors on the recipe's learning rates; ``{}`` for the factors alone.
            None, the default: the method is not tuned.

    Example:
        >>> from dataclasses import dataclass
        >>> from htbench import Method, fit
        >>> @dataclass(frozen=True)
        ... class LowerRate(Method):
        ...     '''Fine-tune the backbone only, at a constant rate.'''
        ...
        ...     name = "lower-rate"
        ...     factor: float = 0.1
        ...
        ...     def adapt(self, source, target, run):
        ...         model = source.copy()
        ...         return fit(model, target, run, train=model.backbone, rate=lambda _: self.factor)
        >>> adapted = LowerRate(factor=0.5).adapt(source, target, run)
    """

    name: ClassVar[str]
    base: ClassVar[str | None] = None
    track: ClassVar[Track] = "standard"
    uses_features: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()
    search: ClassVar[Mapping[str, Sequence[bool | int | float | str]] | None] = None

    @abstractmethod
    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Return a module that maps transformed images (N, 3, H, W) to finite logits (N, C).

        The columns are in the manifest's class order. The logits of an image must not depend on
        the other images of its batch. The benchmark computes the predictions itself: it hands out
        the test images batch by batch after this call has returned, asks some of them twice, and
        never gives the method any test labels.

        Args:
            source: the source model; it is frozen.
            target: training images of the seen classes of the target domain.
            run: device, recipe, transforms and random streams of this run.

        Raises:
            NotApplicable: the method cannot work on this network or this task. The leaderboard
                shows the reason. Any other exception makes the run a failed one.
        """


class SourceModel:
    """The frozen source model, in evaluation mode and without gradients.

    Attributes:
        backbone: frozen module that maps transformed images, float32 (N, 3, H, W), to features,
            float32 (N, d).
        head: frozen ``nn.Linear(d, C)``.
        digest: SHA-256 of the checkpoint, in hex.

    Example:
        >>> images = run.transforms.evaluate(target.images[:2])
        >>> tuple(source.logits(images).shape) == (2, len(target.classes))
        True
        >>> model = source.copy()  # trainable; the source model does not change
        >>> all(parameter.requires_grad for parameter in model.parameters())
        True
    """

    def __init__(self, model: Classifier, digest: str) -> None:
        self._model = model.eval().requires_grad_(False)
        self.backbone = model.backbone
        self.head = model.head
        self.digest = digest

    def features(self, images: Tensor) -> Tensor:
        """Return the features, float32 (N, d), of transformed images, float32 (N, 3, H, W)."""
        return self._model.features(images)

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits, float32 (N, C), of transformed images, float32 (N, 3, H, W)."""
        logits: Tensor = self._model(images)
        return logits

    def copy(self) -> Classifier:
        """Return a trainable copy."""
        return self._model.copy()


@dataclass(frozen=True)
class TargetData:
    """Training data of the target domain, restricted to the seen classes.

    Attributes:
        images: uint8 (N, 3, H, W). ``images[rows]``, with an int64 tensor or a slice, returns a
            tensor on the run's device. Use only indexing, ``len`` and ``shape``: the images of a
            large data set stay on disk and are read batch by batch. A batch of images above 128
            pixels may have ``channels_last`` strides: use ``flatten`` or ``reshape``, not ``view``.
        labels: int64 (N,), indices into ``classes``, on the run's device.
        classes: the C class names, in the manifest's order.
        seen: bool (C,), whether a class is seen in the task; on the run's device.
        features: float32 (N, d), features of the images under the frozen source model and the
            evaluation transform; None unless the method declares ``uses_features``.
        missing: training data of the missing classes; None unless the method is on the oracle
            track.

    Example:
        >>> rows, held_out_rows = target.hold_out(0.2, run.stream("method"))
        >>> train, validation = target.rows(rows), target.rows(held_out_rows)
        >>> len(train) + len(validation) == len(target)
        True
        >>> bool(target.seen[target.labels].all())
        True
    """

    images: Tensor | LazyImages
    labels: Tensor
    classes: tuple[str, ...]
    seen: Tensor
    features: Tensor | None = None
    missing: TargetData | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, classes: Tensor | Sequence[int]) -> TargetData:
        """Return the samples of the given classes.

        Args:
            classes: int64 (K,), indices into ``classes``. ``seen`` does not change.
        """
        import torch

        wanted = torch.as_tensor(classes, device=self.labels.device)
        return self.rows(torch.isin(self.labels, wanted).nonzero().squeeze(1))

    def rows(self, rows: Tensor) -> TargetData:
        """Return the samples at the given rows.

        Args:
            rows: int64 (M,), indices of samples.
        """
        from benchmark.images.store.tensors import select

        features = None if self.features is None else self.features[rows]
        return replace(
            self, images=select(self.images, rows), labels=self.labels[rows], features=features
        )

    def hold_out(self, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Split the samples at random, class by class, into two sets of rows.

        Args:
            share: the share of each class to hold out, strictly between 0 and 1. It is rounded
                down, but at least one sample is held out and at least one is not.
            generator: a generator on the CPU.

        Returns:
            int64 indices for :meth:`rows`: the rows to train on and the held-out rows. The latter
            are empty if every class has only one sample.

        Raises:
            ValueError: ``share`` does not lie between 0 and 1.
        """
        import torch

        check_share("share", share)
        train, held_out = [], []
        for label in torch.unique(self.labels):
            rows = (self.labels == label).nonzero().squeeze(1)
            rows = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
            count = held_out_count(len(rows), share)
            held_out.append(rows[:count])
            train.append(rows[count:])
        return torch.cat(train), torch.cat(held_out)

    def fold(self, share: float, held_out: float, generator: torch.Generator) -> Fold:
        """Draw a fold of pseudo cross-validation: some seen classes play missing.

        Args:
            share: the share of the seen classes that plays missing, strictly between 0 and 1. It is
                rounded down, but at least one class does and at least one does not.
            held_out: the share of each class's samples to judge on, rounded in the same way.
            generator: a generator on the CPU.

        Returns:
            The classes that play missing, the rows to train on (of the other classes) and the rows
            to judge on (of all classes).

        Raises:
            ValueError: a share does not lie between 0 and 1.

        Example:
            >>> fold = target.fold(0.5, 0.2, run.stream("method"))
            >>> model = fit(source.copy(), target.rows(torch.tensor(fold.train)), run)
        """
        import torch

        def shuffle(_: str, items: Sequence[int]) -> list[int]:
            return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]

        samples: dict[int, list[int]] = {}
        for row, label in enumerate(self.labels.tolist()):
            samples.setdefault(label, []).append(row)
        return draw_fold(samples, share, held_out, shuffle)

    def with_missing(self) -> TargetData:
        """Return the samples of all classes, those of missing classes last.

        Raises:
            ValueError: the method is not on the oracle track, so there are no such data.
        """
        import torch

        from benchmark.images.store.tensors import concatenate

        if self.missing is None:
            raise ValueError(
                "data of missing classes is available only to built-in methods on the oracle track"
            )
        return replace(
            self,
            images=concatenate(self.images, self.missing.images),
            labels=torch.cat([self.labels, self.missing.labels]),
            features=None,
            missing=None,
        )


@dataclass(frozen=True)
class TrainingRecipe:
    """The training settings that all gradient methods share; the manifest fixes them.

    Attributes:
        steps: total number of gradient steps.
        batch_size: images per step.
        head_lr, backbone_lr: initial learning rates; both follow a cosine down to 0.
        momentum, nesterov, weight_decay: arguments of SGD.
    """

    steps: int
    batch_size: int
    head_lr: float
    backbone_lr: float
    momentum: float
    nesterov: bool
    weight_decay: float

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> TrainingRecipe:
        """Read a manifest's ``[recipe]`` or ``[source]`` table; ``lr`` sets both learning rates.

        Raises:
            ManifestError: an entry is missing.
        """
        values = dict(table)
        if "lr" in values:
            values["head_lr"] = values["backbone_lr"] = values.pop("lr")
        names = (
            "steps",
            "batch_size",
            "head_lr",
            "backbone_lr",
            "momentum",
            "nesterov",
            "weight_decay",
        )
        if absent := [name for name in names if name not in values]:
            raise ManifestError(f"the manifest's recipe has no {', '.join(absent)}; add it")
        return cls(**{name: values[name] for name in names})  # type: ignore[arg-type]


@dataclass
class Run:
    """The context of one run: all that a method needs besides source model and target data.

    Attributes:
        device: the device of the images and of the model.
        recipe: number of steps, batch size and learning rates.
        transforms: ``augment(images, generator)`` and ``evaluate(images)`` turn uint8 images
            (N, 3, H, W) into transformed ones, float32 (N, 3, H, W).
        stream: ``stream(name)`` returns the run's ``torch.Generator`` of that name: ``order``,
            ``augmentation`` or ``method``. Draw your own random numbers from ``method``.
        scratch: an empty folder for temporary files; it is deleted after the run.
        base: the adapted model of the base method; None unless the method declares ``base``.
        report: called with the number of finished steps and the total, to show progress.
        history: the rows of the training log.
        notes: the notes for readers of the leaderboard.
        total_steps: gradient steps that ``fit`` and ``step`` have counted so far. The benchmark
            itself counts the steps of every optimizer of torch; the leaderboard marks steps beyond
            these, of a method that updates parameters without an optimizer, as declared.
        sequential_steps: the steps that had to run one after another. A method that trains models
            that could run in parallel sets it to the number of steps of the longest chain.

    Example:
        >>> import torch
        >>> order = torch.randperm(len(target), generator=run.stream("method"))
        >>> images = run.transforms.evaluate(target.images[order[:8]])
        >>> images.dtype
        torch.float32
        >>> run.step(loss=torch.tensor(0.5))
        >>> run.log(gamma=1.5)
        >>> run.note("no class has a second image, so alpha is its default")
    """

    device: torch.device
    recipe: TrainingRecipe
    transforms: Transforms
    stream: Streams
    scratch: Path
    base: Classifier | None = None
    report: Callable[[int, int], None] = field(default=lambda done, total: None)
    history: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    total_steps: int = 0
    sequential_steps: int = 0

    def log(self, **metrics: float) -> None:
        """Append one row of numbers to the training log.

        What the log cannot hold is left out, with a warning in the output of the run: numbers that
        are NaN or infinite, more than 50 numbers in a row, and more than 1,000 rows.

        Args:
            metrics: numbers, or tensors or arrays of one number.

        Raises:
            TypeError: a value is not a number.
        """
        row = {name: one_number(name, value) for name, value in metrics.items()}
        for name in [name for name, value in row.items() if not math.isfinite(value)]:
            _warn(f"run.log leaves out {name}, which is {row.pop(name)}")
        for name in list(row)[MAX_METRICS:]:
            del row[name]
            _warn(f"run.log leaves out {name}: a row of the log has up to {MAX_METRICS} numbers")
        if len(self.history) >= MAX_LOG_ROWS:
            _warn(f"run.log leaves out a row: the training log has up to {MAX_LOG_ROWS} rows")
        elif row:
            self.history.append(row)

    def step(self, *, loss: Tensor | float) -> None:
        """Count a gradient step of your own training loop; call it after each, as ``fit`` does.

        About fifty losses of a run go into the training log, and progress is reported with them.

        Args:
            loss: the loss of the step, a scalar tensor or a number.

        Raises:
            FloatingPointError: a loss for the log is not finite.
            TypeError: it is not a number.
        """
        self.total_steps += 1
        self.sequential_steps += 1
        total = max(self.recipe.steps, self.total_steps)
        if is_logged(self.total_steps, total) or self.total_steps == self.recipe.steps:
            log_loss(self, loss, self.total_steps, total)

    def note(self, text: str) -> None:
        """Add a one-line note to the leaderboard, for example that a fallback was used."""
        self.notes.append(str(text))

    def progress(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` steps are finished."""
        self.report(done, total)


def _warn(text: str) -> None:
    """Warn, with the line of the method that called the caller."""
    warnings.warn(text, stacklevel=3)


def is_logged(step: int, total: int) -> bool:
    """Whether the loss of a step, counted from 1, is among the ``LOG_ROWS`` that are logged."""
    return (step - 1) % max(1, total // LOG_ROWS) == 0


def log_loss(run: Run, loss: Tensor | float, step: int, total: int) -> None:
    """Log the loss of a step and report progress.

    Raises:
        FloatingPointError: the loss is not finite.
        TypeError: it is not a number.
    """
    value = one_number("loss", loss)
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the loss is {value} at step {step} of {total}; a lower learning rate may help"
        )
    run.log(step=step, loss=value)
    run.progress(step, total)
