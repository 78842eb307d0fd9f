"""What the key of a run, a source model or a features file covers.

A key is the SHA-256 of the canonical JSON of its facts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from benchmark.files import canonical_json, digest_file, digest_json
from benchmark.folders import PACKAGE
from benchmark.networks.names import library_of
from benchmark.numerics import ENVIRONMENT, SWITCHES
from benchmark.records import PROTOCOL

# The part of this package that computes predictions: a change to one of these changes every key.
COMPUTES = (
    "batches.py",
    "checkpoint.py",
    "child/data.py",
    "child/job.py",
    "child/predict.py",
    "child/run.py",
    "child/source.py",
    "child/steps.py",
    "child/weights.py",
    "folds.py",
    "images/augment.py",
    "images/colours.py",
    "images/store/build.py",
    "images/store/encoded.py",
    "images/store/jpeg.py",
    "images/store/tensors.py",
    "images/store/store.py",
    "isolation/answers.py",
    "jobs.py",
    "method.py",
    "networks/build.py",
    "numerics.py",
    "runs/execute.py",
    "sources/features.py",
    "sources/train.py",
    "training.py",
)


@dataclass(frozen=True)
class Computation:
    """What any computed bytes depend on besides data and settings.

    Attributes:
        library: name and version of the network's library, if it is not our own network.
        protocol: version of the rules of measurement.
        numerics: switches and environment variables.
        device: ``cpu`` or ``cuda``; ``machine``: the processor architecture.
        torch: its version.
        compute: digest of the files in ``COMPUTES``.
    """

    library: Mapping[str, Any]
    protocol: str
    numerics: Mapping[str, Any]
    device: str
    machine: str
    torch: str
    compute: str

    def to_json(self) -> dict[str, Any]:
        """The facts as part of a record."""
        facts = _fields(self)
        library = facts.pop("library")
        return {**library, **facts}


@dataclass(frozen=True)
class SourceFacts:
    """Everything that the bytes of a trained source model depend on."""

    manifest: str
    domains: Sequence[str]
    stores: Sequence[str]
    model: Mapping[str, Any]
    initial: str | None
    recipe: Mapping[str, Any]
    transforms: Mapping[str, Any]
    seed: int
    computation: Computation

    def to_json(self) -> dict[str, Any]:
        """The facts as ``made_from`` of a record."""
        return _flattened(self)

    @property
    def key(self) -> str:
        """SHA-256 over the facts: part of the source model's name on disk."""
        return digest_json(self.to_json())


@dataclass(frozen=True)
class ImportedFacts:
    """What an imported source model is used for.

    Attributes:
        manifest: its digest; ``domains``: the source domains.
        model: the network's table; ``is_own``: whether it is the manifest's own network.
        seed: number of the source model.
    """

    manifest: str
    domains: Sequence[str]
    model: Mapping[str, Any]
    is_own: bool
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The facts as ``made_from`` of a record."""
        facts = {"manifest": self.manifest, "domains": list(self.domains), "model": self.model}
        return {**facts, "seed": self.seed} if self.seed else facts

    @property
    def key(self) -> str:
        """SHA-256 over the facts: part of the source model's name on disk.

        The manifest's own network is left out, because the manifest's digest covers it.
        """
        facts = self.to_json()
        if self.is_own:
            del facts["model"]
        return digest_json(facts)


@dataclass(frozen=True)
class FeatureFacts:
    """Everything that the features of a domain depend on.

    ``model`` is part of it because two networks may have weights of the same names and shapes;
    ``classes`` because not every class need be in the store.
    """

    source: str
    model: Mapping[str, Any]
    store: str
    classes: Sequence[str]
    computation: Computation

    @property
    def key(self) -> str:
        """SHA-256 over the facts: the name of the features on disk begins with it."""
        return digest_json(_flattened(self))


@dataclass(frozen=True)
class RunFacts:
    """Everything that the bytes of a run's predictions depend on.

    Attributes:
        manifest: its digest; ``task``: the task's id; ``store``: key of the target's image store.
        source: SHA-256 of the source model; ``base``: key of the base run, if any.
        method: name and code; ``config``: all settings.
        model, recipe: tables of the manifest.
        seed: of the run.
        search: the search that chose the settings, if one did.
    """

    manifest: str
    task: str
    store: str
    source: str
    base: str | None
    method: Mapping[str, Any]
    config: Mapping[str, Any]
    model: Mapping[str, Any]
    recipe: Mapping[str, Any]
    seed: int
    search: Mapping[str, Any] | None
    computation: Computation

    def to_json(self) -> dict[str, Any]:
        """The facts as ``made_from`` of a record; ``search`` only where there was one."""
        facts = _flattened(self)
        if self.search is None:
            del facts["search"]
        return facts


def encoded_entries(entries: Mapping[str, object]) -> dict[str, str]:
    """Each entry of a mapping by its name, as the canonical JSON of the mapping has it.

    The names are those of facts, in which JSON escapes nothing.
    """
    return {name: _encoded_entry(name, value) for name, value in entries.items()}


@lru_cache(maxsize=1 << 14, typed=True)
def encoded_scalar(name: str, value: str | int | None) -> str:
    """As :func:`encoded_entries`, for an entry that many runs share."""
    return _encoded_entry(name, value)


def _encoded_entry(name: str, value: object) -> str:
    return f'"{name}":{canonical_json(value).decode()}'


def digest_entries(encoded: Mapping[str, str]) -> str:
    """SHA-256 (hex) of the canonical JSON of a mapping, from what :func:`encoded_entries` gives."""
    body = ",".join([encoded[name] for name in sorted(encoded)])
    return hashlib.sha256(f"{{{body}}}".encode()).hexdigest()


def computation(device: str, model: Mapping[str, Any]) -> Computation:
    """What a computation on this machine depends on.

    Raises:
        UsageError: the network's library is not installed.
    """
    return Computation(
        library=library_of(model),
        protocol=PROTOCOL,
        numerics={**SWITCHES, **ENVIRONMENT},
        device=device,
        machine=platform.machine(),
        torch=version("torch"),
        compute=compute_digest(),
    )


def compute_digest() -> str:
    """Digest of the files in ``COMPUTES``."""
    return digest_json({name: digest_file(PACKAGE / name) for name in COMPUTES})


def _fields(facts: Any) -> dict[str, Any]:
    return {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}


def _flattened(facts: SourceFacts | FeatureFacts | RunFacts) -> dict[str, Any]:
    values = _fields(facts)
    shared: Computation = values.pop("computation")
    return {**values, **shared.to_json()}
