"""What a child is asked to do: one frozen dataclass per kind of job, used by both sides.

A job travels as JSON. The child reads it strictly: a field that is unknown, missing or of another
type is an error. Jobs hold paths as text and resolved values only, never something to look up.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from benchmark.images.store.store import DomainStore
    from benchmark.manifest.manifest import Manifest

# What a child may report; the child cuts it, and the driver cuts it again.
MAX_TEXT = 20_000
MAX_LOG_ROWS = 1000
MAX_METRICS = 50  # numbers in a row of the log
MAX_NOTES = 10

Value = bool | int | float | str


class _Message:
    """A dataclass that travels as JSON."""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read what :meth:`to_json` gives.

        Raises:
            ValueError: a field is unknown, missing or of another type; the message names it.
        """
        message: Self = _read(cls, data, cls.__name__)
        return message


@dataclass(frozen=True)
class CodeModule(_Message):
    """One of a method's own modules.

    Attributes:
        name: its dotted name.
        file: its file; None for a package without ``__init__.py``.
        folders: where its submodules are; empty if it is not a package.
    """

    name: str
    file: str | None
    folders: tuple[str, ...]


@dataclass(frozen=True)
class MethodCode(_Message):
    """Where to import a method's class from.

    Attributes:
        module: its dotted name.
        attribute: the class in it; None for a module with one method.
        modules: all of the method's own modules.
        files: paths of the method's files, modules and data: what a run of it may read.
    """

    module: str
    attribute: str | None
    modules: tuple[CodeModule, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network(_Message):
    """A network: the manifest's ``[model]`` table, its classes and the side of its input."""

    model: Mapping[str, Any]
    classes: tuple[str, ...]
    input_size: int


@dataclass(frozen=True)
class ImageFormat(_Message):
    """How images are stored: their side in pixels, and the kind of the store."""

    size: int
    store: str


@dataclass(frozen=True)
class Setup(_Message):
    """How a child trains: device, seed, and the manifest's recipe and transforms."""

    device: str
    seed: int
    recipe: Mapping[str, Any]
    transforms: Mapping[str, Any]


@dataclass(frozen=True)
class ImageFile(_Message):
    """The training images of one class: a file, the class's index, the number of images."""

    path: str
    label: int
    count: int


@dataclass(frozen=True)
class FeatureRows(_Message):
    """Rows of a features file, float32 of ``width`` numbers: (first row, number) by class."""

    path: str
    width: int
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class CheckpointPlan(_Message):
    """Where a source training saves its checkpoints, for which key, and how often."""

    folder: str
    key: str
    seconds: float


# --- jobs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job(_Message):
    """Any job; ``scratch`` is the folder that the child may write to."""

    kind: ClassVar[str]
    scratch: str


@dataclass(frozen=True)
class DescribeJob(Job):
    """Import a method and describe it."""

    kind = "describe"
    method: MethodCode


@dataclass(frozen=True)
class ConfigureJob(Job):
    """Create a method with its settings, which it may reject."""

    kind = "configure"
    method: MethodCode
    config: Mapping[str, Value]


@dataclass(frozen=True)
class AddressJob(Job):
    """Ask a library for the address of its pretrained weights."""

    kind = "address"
    model: Mapping[str, Any]


@dataclass(frozen=True)
class PretrainedJob(Job):
    """Convert a file of pretrained weights to safetensors."""

    kind = "initial"
    network: Network
    file: str


@dataclass(frozen=True)
class NetworkJob(Job):
    """Build a network and try one step of training; if ``timed``, time one with a full batch."""

    kind = "network"
    setup: Setup
    network: Network
    timed: bool = False


@dataclass(frozen=True)
class ImageJob(Job):
    """A job that computes something for images."""

    setup: Setup
    network: Network
    images: ImageFormat


@dataclass(frozen=True)
class ImportJob(ImageJob):
    """Convert a source model that was trained elsewhere, and predict its test images."""

    kind = "import"
    file: str


@dataclass(frozen=True)
class SourceJob(ImageJob):
    """Train a source model on all classes, and predict its test images."""

    kind = "source"
    train: tuple[ImageFile, ...]
    initial: str | None
    checkpoints: CheckpointPlan


@dataclass(frozen=True)
class FeaturesJob(ImageJob):
    """Compute a source model's features of images that the driver hands out."""

    kind = "features"
    source: str


@dataclass(frozen=True)
class RunJob(ImageJob):
    """Adapt a source model with a method, and predict the test images.

    Attributes:
        seen: indices of the seen classes; ``train`` has their images.
        missing: images of the missing classes, for the oracle track only.
        features: of the training images, for methods that use them.
        source: path of the source model; ``source_digest``: its SHA-256.
        base: path of the adapted weights to start from.
        code: (name, SHA-256) of each file of the method in the run's key.
        keep_weights: whether to return the adapted weights.
    """

    kind = "run"
    seen: tuple[int, ...]
    train: tuple[ImageFile, ...]
    missing: tuple[ImageFile, ...]
    features: FeatureRows | None
    source: str
    source_digest: str
    base: str | None
    method: MethodCode
    code: tuple[tuple[str, str], ...]
    config: Mapping[str, Value]
    keep_weights: bool


JOBS: Mapping[str, type[Job]] = {
    job.kind: job
    for job in (
        AddressJob,
        ConfigureJob,
        DescribeJob,
        FeaturesJob,
        ImportJob,
        NetworkJob,
        PretrainedJob,
        RunJob,
        SourceJob,
    )
}


def job_message(job: Job, file_limit: int) -> dict[str, Any]:
    """The message that hands a job to a child; no file it writes may exceed ``file_limit``."""
    return {"kind": job.kind, "job": job.to_json(), "file_limit": file_limit}


def read_job(message: Mapping[str, Any]) -> tuple[Job, int]:
    """The job and the file limit of a message of :func:`job_message`.

    Raises:
        ValueError: it is malformed.
    """
    if message.keys() != {"kind", "job", "file_limit"} or message["kind"] not in JOBS:
        raise ValueError(f"not a job: {str(message)[:200]}")
    return JOBS[message["kind"]].from_json(message["job"]), int(message["file_limit"])


# --- building jobs in the driver -----------------------------------------------------------------


def new_scratch(folder: Path) -> str:
    """Create the scratch folder of a job in its working folder."""
    scratch = folder / "scratch"
    scratch.mkdir()
    return str(scratch)


def network_of(manifest: Manifest) -> Network:
    """The network of a manifest."""
    return Network(manifest.model, tuple(manifest.classes), manifest.input_size)


def setup_of(manifest: Manifest, device: str, seed: int = 0) -> Setup:
    """The setup of a run, or of work that draws nothing at random."""
    return Setup(device, seed, manifest.recipe, manifest.document["transforms"])


def source_setup(manifest: Manifest, device: str, seed: int) -> Setup:
    """The setup of a source model; ``seed`` is its number."""
    return Setup(device, seed, manifest.source_recipe, manifest.document["transforms"])


def train_files(store: DomainStore, classes: list[int]) -> tuple[ImageFile, ...]:
    """The files of some classes' training images."""
    return tuple(ImageFile(str(path), label, n) for path, label, n in store.train_files(classes))


# --- reading JSON strictly -----------------------------------------------------------------------


@cache
def _types(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _read(kind: Any, data: Any, where: str) -> Any:
    """A value of an annotated type from JSON."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, data, where)
    if dataclasses.is_dataclass(kind):
        fields = _types(typing.cast(type, kind))
        if not isinstance(data, dict) or data.keys() != fields.keys():
            names = sorted(data) if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"{where}: expected {sorted(fields)}, got {names}")
        values = {n: _read(kind, data[n], f"{where}.{n}") for n, kind in fields.items()}
        return typing.cast(Any, kind)(**values)
    if origin is tuple and isinstance(data, list):
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(data)
        if len(arguments) == len(data):
            pairs = zip(arguments, data, strict=True)
            return tuple(_read(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(pairs))
    elif origin is Mapping and isinstance(data, dict):
        return {name: _read(arguments[1], value, f"{where}.{name}") for name, value in data.items()}
    elif kind is Any or type(data) is kind or (kind is float and type(data) is int):
        return data
    raise ValueError(f"{where}: expected {kind}, got {type(data).__name__}")


def _read_union(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in kinds:
        return None
    if type(data) in kinds:
        return data
    (kind,) = [kind for kind in kinds if dataclasses.is_dataclass(kind)] or [kinds[0]]
    return _read(kind, data, where)
