"""Which source model a task starts from, and its checkpoint on disk."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmark.errors import DataError, UsageError
from benchmark.files import (
    canonical_json,
    digest_json,
    matches_digest,
    new_folder,
    read_sealed,
    seal,
)
from benchmark.folders import data_folder
from benchmark.images.store.store import store_key
from benchmark.keys import ImportedFacts, SourceFacts, computation
from benchmark.manifest.manifest import Manifest, PinnedCheckpoint
from benchmark.networks.names import network_label
from benchmark.sources.pinned import pinned_file, pinned_record
from benchmark.sources.pretrained import PretrainedWeights, find_pretrained, pretrained_name

MODEL_FILE = "model.safetensors"
RECORD_FILE = "source.json"
MAX_RECORD_BYTES = 1 << 20


@dataclass(frozen=True)
class SourceSpec:
    """Which source model.

    Attributes:
        manifest: of its tasks; ``domains``: its domains, in the manifest's order.
        device: ``cpu`` or ``cuda``.
        seed: its number, below the manifest's ``source_seeds``.
        is_trained: whether a model that is trained here is meant, even where one is pinned.
    """

    manifest: Manifest
    domains: tuple[str, ...]
    device: str
    seed: int = 0
    is_trained: bool = False

    @classmethod
    def of(
        cls, manifest: Manifest, domains: Sequence[str], device: str, seed: int = 0
    ) -> SourceSpec:
        """The source model of a run.

        Args:
            manifest: of its task.
            domains: the task's sources, in any order.
            device: ``cpu`` or ``cuda``.
            seed: of the run.
        """
        order = [domain.name for domain in manifest.domains]
        number = seed % manifest.source_seeds
        return cls(manifest, tuple(sorted(domains, key=order.index)), device, number)

    @property
    def name(self) -> str:
        """For people, such as ``icons@2.0 outline+solid``."""
        other = self.manifest.other_model
        network = f" ({network_label(other)})" if other else ""
        number = f" seed {self.seed}" if self.manifest.source_seeds > 1 else ""
        return f"{self.manifest.reference} {'+'.join(self.domains)}{number}{network}"

    @property
    def pin(self) -> PinnedCheckpoint | None:
        """The checkpoint that the manifest fixes for its own network, if any."""
        if self.is_trained or self.manifest.other_model is not None:
            return None
        for pin in self.manifest.checkpoints:
            if (set(pin.sources), pin.seed) == (set(self.domains), self.seed):
                return pin
        return None

    @property
    def initial(self) -> PretrainedWeights | None:
        """The pretrained weights that training starts from, or None; see ``find_pretrained``."""
        return find_pretrained(self.manifest.model)

    @property
    def facts(self) -> SourceFacts:
        """Everything that the checkpoint's bytes depend on."""
        document, initial = self.manifest.document, self.initial
        return SourceFacts(
            manifest=self.manifest.digest,
            domains=list(self.domains),
            stores=[store_key(self.manifest, domain) for domain in self.domains],
            model=self.manifest.model,
            initial=initial.digest if initial else None,
            recipe=self.manifest.source_recipe,
            transforms=document["transforms"],
            seed=self.seed,
            computation=computation(self.device, self.manifest.model),
        )

    @property
    def key(self) -> str:
        """The source model's key: part of its name on disk."""
        return self.facts.key

    @property
    def folder(self) -> Path:
        """Where the trained checkpoint is, or would be."""
        return self._folder(self.key)

    @property
    def checkpoints_folder(self) -> Path:
        """Where a training that is under way keeps its last checkpoint."""
        return self.folder.with_name(f"{self.folder.name}.training")

    @property
    def imported_folder(self) -> Path:
        """Where an imported checkpoint is, or would be."""
        return self._folder(f"imported-{self.imported_facts.key}")

    @property
    def imported_facts(self) -> ImportedFacts:
        """What an imported checkpoint is used for."""
        return ImportedFacts(
            manifest=self.manifest.digest,
            domains=self.domains,
            model=self.manifest.model,
            is_own=self.manifest.other_model is None,
            seed=self.seed,
        )

    def _folder(self, key: str) -> Path:
        cut = key[: len(key) - 48]  # 16 of 64 hex digits
        number = f"-{self.seed}" if self.manifest.source_seeds > 1 else ""
        name = f"{self.manifest.name}-{'+'.join(self.domains)}{number}-{cut}"
        return data_folder() / "sources" / name


@dataclass(frozen=True)
class SourceCheckpoint:
    """A trained source model on disk.

    Attributes:
        path: safetensors file; ``digest``: its SHA-256.
        record: how it was made, and its accuracy on the source domains' test lists in per cent.
    """

    path: Path
    digest: str
    record: Mapping[str, Any]


def find_source(spec: SourceSpec) -> SourceCheckpoint | None:
    """The checkpoint of a spec: the pinned one; else the imported one, the trained one, or None.

    A trained one that is damaged does not count: it can be trained again. If the pretrained weights
    that it was trained from are not here, it counts if it is the only one.

    Raises:
        DataError: the pinned or the imported one is damaged.
    """
    if pin := spec.pin:
        path = pinned_file(spec, pin)
        if path is None:
            return None
        return SourceCheckpoint(path, pin.sha256, pinned_record(spec, pin))
    if not spec.is_trained:
        imported = _open_source(spec.imported_folder, spec.imported_facts.to_json())
        if imported is not None:
            return imported
    try:
        return _open_source(spec.folder, spec.facts.to_json()) or _without_weights(spec)
    except DataError:
        return None


def _without_weights(spec: SourceSpec) -> SourceCheckpoint | None:
    """The only one that was trained from the pretrained weights that a spec names, wherever.

    They were deleted, or the source model is a copy from another machine. If they are here, their
    digest is part of the spec's key instead.
    """
    if pretrained_name(spec.manifest.model) is None or spec.initial is not None:
        return None
    facts, matching = canonical_json(spec.facts.to_json()), []
    for source in known_sources():
        made_from = source.record["made_from"]
        is_own = source.path.parent == spec._folder(digest_json(made_from))
        if is_own and canonical_json({**made_from, "initial": None}) == facts:
            matching.append(source)
    return matching[0] if len(matching) == 1 else None


def needs_training(spec: SourceSpec) -> bool:
    """Whether the model must be trained: it is not there, and the manifest does not fix it.

    Raises:
        DataError: the imported one is damaged.
    """
    return spec.pin is None and find_source(spec) is None


def known_sources() -> list[SourceCheckpoint]:
    """Every intact checkpoint in the data folder, by manifest and domains."""
    return [entry for entry in _all_sources() if isinstance(entry, SourceCheckpoint)]


def damaged_sources() -> list[str]:
    """What is wrong with every other checkpoint in the data folder, with the remedy."""
    return [str(entry) for entry in _all_sources() if isinstance(entry, DataError)]


def _all_sources() -> Iterator[SourceCheckpoint | DataError]:
    for file in sorted((data_folder() / "sources").glob(f"*/{RECORD_FILE}")):
        try:
            source = _open_source(file.parent)
        except DataError as error:
            yield error
        else:
            if source is not None:
                yield source


def _open_source(
    folder: Path, made_from: Mapping[str, Any] | None = None
) -> SourceCheckpoint | None:
    """The checkpoint in a folder, or None if there is no such folder.

    Args:
        folder: of the checkpoint.
        made_from: what it must be made from; None: anything.

    Raises:
        DataError: it is damaged, or made from something else.
    """
    if not folder.exists():
        return None
    remedy = (
        "delete its folder, then train it (`htbench run` does) or import it again: "
        f"rm -r {shlex.quote(str(folder))}"
    )
    try:
        record = read_sealed(folder / RECORD_FILE, MAX_RECORD_BYTES, DataError)
    except DataError as error:
        raise DataError(f"a source model cannot be used: {error}; {remedy}") from None
    path = folder / MODEL_FILE
    if "made_from" not in record or not matches_digest(path, record.get("digest")):
        raise DataError(
            f"the source model {path} does not match its recorded SHA-256, so it is damaged; "
            f"{remedy}"
        )
    if made_from is not None and canonical_json(record["made_from"]) != canonical_json(made_from):
        raise DataError(f"the source model {path} belongs to another folder; {remedy}")
    return SourceCheckpoint(path, record["digest"], record)


def source_lock(spec: SourceSpec) -> FileLock:
    """Held by the driver that trains the model; another driver waits and then finds it."""
    spec.folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(spec.folder.with_name(spec.folder.name + ".lock"))


def save_source(spec: SourceSpec, weights: bytes, facts: Mapping[str, Any]) -> SourceCheckpoint:
    """Write a trained checkpoint's folder, whole or not at all."""
    return _save(
        spec, spec.folder, weights, {**facts, "provenance": "trained"}, spec.facts.to_json()
    )


def save_imported(spec: SourceSpec, weights: bytes, facts: Mapping[str, Any]) -> SourceCheckpoint:
    """Write an imported checkpoint's folder; from now on it is the source model of its spec.

    Raises:
        UsageError: another one has been imported before.
    """
    previous = _open_source(spec.imported_folder)
    if previous is not None and previous.digest != hashlib.sha256(weights).hexdigest():
        raise UsageError(
            f"another source model was already imported for {spec.name} "
            f"({previous.digest[:12]}); to replace it, delete {spec.imported_folder} first"
        )
    facts = {**facts, "provenance": "imported"}
    return _save(spec, spec.imported_folder, weights, facts, spec.imported_facts.to_json())


def _save(
    spec: SourceSpec,
    folder: Path,
    weights: bytes,
    facts: Mapping[str, Any],
    made_from: Mapping[str, Any],
) -> SourceCheckpoint:
    record = {
        "digest": hashlib.sha256(weights).hexdigest(),
        "manifest": spec.manifest.reference,
        "made_from": made_from,
        **facts,
    }
    with new_folder(folder) as building:
        (building / MODEL_FILE).write_bytes(weights)
        (building / RECORD_FILE).write_bytes(seal(record))
    return SourceCheckpoint(folder / MODEL_FILE, record["digest"], record)
