"""Which source model a task starts from, and its checkpoint on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmark.errors import DataError, UsageError
from benchmark.files import canonical_json, digest_file, new_folder, read_json
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

    Raises:
        DataError: it is damaged.
    """
    return _open_source(spec.imported_folder) or _open_source(spec.folder)


def known_sources() -> list[SourceCheckpoint]:
    """Every checkpoint in the data folder, by manifest and domains.

    Raises:
        DataError: one is damaged.
    """
    folders = sorted((data_folder() / "sources").glob(f"*/{RECORD_FILE}"))
    return [source for file in folders if (source := _open_source(file.parent)) is not None]


def _open_source(folder: Path) -> SourceCheckpoint | None:
    if not (folder / RECORD_FILE).is_file():
        return None
    record = read_json(folder / RECORD_FILE, MAX_RECORD_BYTES, DataError)
    path = folder / MODEL_FILE
    if not path.is_file() or digest_file(path) != record.get("digest"):
        raise DataError(
            f"the source model {path} does not match its recorded SHA-256; delete its folder "
            "to retrain it"
        )
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
        (building / RECORD_FILE).write_bytes(canonical_json(record) + b"\n")
    return SourceCheckpoint(folder / MODEL_FILE, record["digest"], record)
