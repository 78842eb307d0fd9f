"""The contract between the suite and a method: what a method is, is given and gives back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from benchmark.images.augment import Transforms
    from benchmark.images.raw import Images
    from benchmark.models import Classifier
    from benchmark.numerics import Streams

Track = Literal["standard", "oracle"]


@dataclass(frozen=True)
class Method(ABC):
    """A way to adapt the source model. Subclass it as a frozen dataclass.

    Fields of the dataclass are the hyper-parameters: ``bool``, ``int``, ``float`` or ``str`` with
    defaults. They are listed by ``htbench list methods``, set by ``--set field=value`` and part of
    the run's key. Values that make no sense are refused before anything runs if ``__post_init__``
    raises a ``ValueError`` that says so.

    Attributes:
        name: unique; lower case letters, digits and dashes.
        base: name of the method whose adapted model this one starts from, given as ``run.base``.
        track: ``oracle`` for upper bounds that look at missing-class data (built-in methods only).
        uses_features: whether ``target.features`` is wanted: the source model's features of the
            training images, computed once per source model and shared by all runs.
        needs: what the network or the task must have, in words, such as ``a BatchNorm layer``;
            shown by ``htbench list methods``. Where it lacks, ``adapt`` raises ``NotApplicable``.
    """

    name: ClassVar[str]
    base: ClassVar[str | None] = None
    track: ClassVar[Track] = "standard"
    uses_features: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Return a module that maps prepared images (N, 3, H, W) to finite logits (N, C).

        Columns are in the manifest's class order. A prediction must not depend on its batch
        mates. The suite predicts: it hands over the test images after this call has returned, and
        no test label ever.

        Raises:
            NotApplicable: the method cannot work on this network or this task. The row says why;
                any other error is a failed run.
        """


class SourceModel:
    """The source model as it is: evaluation mode, no gradients. ``copy()`` gives one to train.

    Attributes:
        backbone: frozen module, prepared images (N, 3, H, W) to features (N, d).
        head: frozen ``nn.Linear(d, C)``.
        digest: SHA-256 of the checkpoint.
    """

    def __init__(self, model: Classifier, digest: str) -> None:
        self._model = model.eval().requires_grad_(False)
        self.backbone = model.backbone
        self.head = model.head
        self.digest = digest

    def features(self, images: Tensor) -> Tensor:
        """Features (N, d) of prepared images (N, 3, H, W)."""
        return self._model.features(images)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, C) of prepared images (N, 3, H, W)."""
        out: Tensor = self._model(images)
        return out

    def copy(self) -> Classifier:
        """A trainable copy."""
        return self._model.copy()


def held_out(count: int, share: float) -> int:
    """How many of a class's ``count`` samples are held out: a share, at least one, never all."""
    return min(max(1, math.floor(share * count)), count - 1)


def check_share(name: str, share: float) -> None:
    """Refuse what is not a part of a whole, neither nothing nor all of it.

    Raises:
        ValueError: it does not lie between 0 and 1; the message has its name.
    """
    if not 0 < share < 1:
        raise ValueError(f"{name} is {share}; it must lie between 0 and 1")


@dataclass(frozen=True)
class TargetData:
    """Training data of the target domain: the seen classes', and nothing else.

    Attributes:
        images: uint8 (N, 3, H, W). ``images[rows]``, with an int64 tensor or a slice, gives a
            tensor on the run's device; that, ``len`` and ``shape`` are all to rely upon, for a
            large data set stays in its files and is read batch by batch.
        labels: int64 (N,), indices into ``classes``, on the run's device.
        classes: the C class names in the manifest's order.
        seen: bool (C,), which classes are seen in the task, on the run's device.
        features: float32 (N, d), the frozen source model's features of the images under the
            evaluation transform; only for methods that declare ``uses_features``.
        missing: the missing classes' training data; only for the oracle track.
    """

    images: Tensor | Images
    labels: Tensor
    classes: tuple[str, ...]
    seen: Tensor
    features: Tensor | None = None
    missing: TargetData | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, classes: Tensor | Sequence[int]) -> TargetData:
        """The samples of some classes (indices); ``seen`` stays the task's."""
        import torch

        wanted = torch.as_tensor(classes, device=self.labels.device)
        return self.rows(torch.isin(self.labels, wanted).nonzero().squeeze(1))

    def rows(self, rows: Tensor) -> TargetData:
        """Some of the samples, by an int64 tensor of their indices."""
        from benchmark.images.raw import select

        features = None if self.features is None else self.features[rows]
        return replace(
            self, images=select(self.images, rows), labels=self.labels[rows], features=features
        )

    def hold_out(self, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows to train on, and rows held out: a share of every class's, drawn at random.

        Args:
            share: between 0 and 1; see :func:`held_out`.
            generator: draws them, on the CPU.

        Raises:
            ValueError: the share is not between 0 and 1.

        Returns:
            int64 indices for :meth:`rows`. The second is empty where every class has one sample.
        """
        import torch

        check_share("share", share)
        kept, out = [], []
        for label in torch.unique(self.labels):
            rows = (self.labels == label).nonzero().squeeze(1)
            rows = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
            count = held_out(len(rows), share)
            out.append(rows[:count])
            kept.append(rows[count:])
        return torch.cat(kept), torch.cat(out)

    def with_missing(self) -> TargetData:
        """The samples of all classes, the missing ones' last; only for the oracle track.

        Raises:
            ValueError: the missing classes' data were not given.
        """
        import torch

        from benchmark.images.raw import concatenate

        if self.missing is None:
            raise ValueError("only a built-in method of the oracle track is given missing classes")
        return replace(
            self,
            images=concatenate(self.images, self.missing.images),
            labels=torch.cat([self.labels, self.missing.labels]),
            features=None,
            missing=None,
        )


@dataclass(frozen=True)
class TrainingRecipe:
    """How every gradient method trains: fixed by the manifest, the same for all of them.

    Attributes:
        steps: gradient steps in total.
        batch_size: images a step.
        head_lr, backbone_lr: initial learning rates, brought to 0 by a cosine.
        momentum, nesterov, weight_decay: of SGD.
    """

    steps: int
    batch_size: int
    head_lr: float
    backbone_lr: float
    momentum: float
    nesterov: bool
    weight_decay: float

    @classmethod
    def of(cls, table: Mapping[str, object]) -> TrainingRecipe:
        """Read a manifest's ``[recipe]`` or ``[source]`` table (``lr`` stands for both rates)."""
        from benchmark.errors import ManifestError

        values = dict(table)
        if "lr" in values:
            values["head_lr"] = values["backbone_lr"] = values.pop("lr")
        names = ("steps", "batch_size", "head_lr", "backbone_lr", "momentum", "nesterov",
                 "weight_decay")  # fmt: skip
        if lacking := [name for name in names if name not in values]:
            raise ManifestError(f"the recipe of the manifest lacks {', '.join(lacking)}")
        return cls(**{name: values[name] for name in names})  # type: ignore[arg-type]


@dataclass
class Run:
    """One run: what a method may use besides the source model and the target data.

    Attributes:
        device: where images are and where the model belongs.
        recipe: steps, batch size, learning rates.
        transforms: ``augment(images, generator)`` and ``evaluate(images)`` prepare uint8 images.
        stream: ``stream("order" | "augmentation" | "method")`` gives that ``torch.Generator``.
        scratch: an empty folder for the method's own files; gone after the run.
        base: the adapted model of the base run, for methods that declare ``base``.
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
        """Append one row of numbers to the run's training log."""
        self.history.append({name: float(value) for name, value in metrics.items()})

    def note(self, text: str) -> None:
        """Say in one line what a reader of the row must know, such as a fallback that was taken."""
        self.notes.append(text)

    def progress(self, done: int, total: int) -> None:
        """Tell the user how far the run is."""
        self.report(done, total)
