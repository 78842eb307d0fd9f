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
from benchmark.files import canonical_json, matches_digest, new_folder, read_sealed, seal
from benchmark.folders import data_folder
from benchmark.images.store.store import store_key
from benchmark.keys import ImportedFacts, SourceFacts, computation
from benchmark.manifest.manifest import Manifest
from benchmark.networks.names import network_label
from benchmark.numerics import SOURCE_SEED
from benchmark.sources.pretrained import PretrainedWeights, find_pretrained

MODEL_FILE = "model.safetensors"
RECORD_FILE = "source.json"
MAX_RECORD_BYTES = 1 << 20


@dataclass(frozen=True)
class SourceSpec:
    """Which source model: the manifest, its domains (in the manifest's order) and the device."""

    manifest: Manifest
    domains: tuple[str, ...]
    device: str

    @classmethod
    def of(cls, manifest: Manifest, domains: Sequence[str], device: str) -> SourceSpec:
        """The spec of a task's sources, whatever the order in which the task names them."""
        order = [domain.name for domain in manifest.domains]
        return cls(manifest, tuple(sorted(domains, key=order.index)), device)

    @property
    def name(self) -> str:
        """For people, such as ``icons@1.0 outline+solid``."""
        other = self.manifest.other_model
        network = f" ({network_label(other)})" if other else ""
        return f"{self.manifest.reference} {'+'.join(self.domains)}{network}"

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
            recipe=document["source"],
            transforms=document["transforms"],
            seed=SOURCE_SEED,
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
        )

    def _folder(self, key: str) -> Path:
        cut = key[: len(key) - 48]  # 16 of 64 hex digits
        return data_folder() / "sources" / f"{self.manifest.name}-{'+'.join(self.domains)}-{cut}"


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
    """The checkpoint of a spec: the imported one, else the trained one, else None.

    A trained one that is damaged does not count: it can be trained again.

    Raises:
        DataError: the imported one is damaged.
    """
    imported = _open_source(spec.imported_folder, spec.imported_facts.to_json())
    if imported is not None:
        return imported
    try:
        return _open_source(spec.folder, spec.facts.to_json())
    except DataError:
        return None


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
