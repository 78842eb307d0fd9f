"""Checkpoints that a manifest fixes: files beside it, or downloads; compared with their SHA-256."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from benchmark.download import download
from benchmark.errors import DataError
from benchmark.files import matches_digest
from benchmark.folders import data_folder
from benchmark.progress import Logger

if TYPE_CHECKING:
    from benchmark.manifest.manifest import PinnedCheckpoint
    from benchmark.sources.spec import SourceSpec


def pinned_file(spec: SourceSpec, pin: PinnedCheckpoint) -> Path | None:
    """The file of a fixed checkpoint, or None if it is still to be downloaded.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = _path(spec, pin)
    if pin.file is None and not path.exists():
        return None
    if not matches_digest(path, pin.sha256):
        remedy = (
            f"delete it to download it again: rm {shlex.quote(str(path))}"
            if pin.file is None
            else "restore it from where the manifest comes from, or reinstall htbench"
        )
        raise DataError(
            f"the source model of {spec.name} in {path} is missing or does not have the SHA-256 "
            f"that the manifest fixes ({pin.sha256[:12]}...); {remedy}"
        )
    return path


def download_pinned(spec: SourceSpec, pin: PinnedCheckpoint, log: Logger) -> Path:
    """Download a fixed checkpoint from the first of its addresses that has it.

    While one process downloads it, others wait.

    Raises:
        DataError: none has it; the message names each address.
        StorageError: it does not fit on the disk.
    """
    path = _path(spec, pin)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if matches_digest(path, pin.sha256):  # another process was faster
            return path
        return _download_first(spec, pin, path, log)


def _download_first(spec: SourceSpec, pin: PinnedCheckpoint, path: Path, log: Logger) -> Path:
    problems = []
    for url in pin.urls:
        log(f"downloading the source model of {spec.name} from {url}")
        try:
            return download(url, path, sha256=pin.sha256, log=log)
        except DataError as error:
            problems.append(str(error))
    raise DataError(f"cannot get the source model of {spec.name}: {'; '.join(problems)}")


def pinned_record(spec: SourceSpec, pin: PinnedCheckpoint) -> dict[str, Any]:
    """What the record of a trained source model says, for a fixed one."""
    tests = spec.manifest.samples(spec.domains, "test")
    return {
        "digest": pin.sha256,
        "manifest": spec.manifest.reference,
        "made_from": {
            "manifest": spec.manifest.digest,
            "domains": list(spec.domains),
            "model": spec.manifest.model,
            "seed": spec.seed,
        },
        "provenance": "pinned",
        "test_accuracy": pin.test_accuracy,
        "test_images": len(tests.ids),
    }


def _path(spec: SourceSpec, pin: PinnedCheckpoint) -> Path:
    if pin.file is not None:
        return spec.manifest.root / pin.file
    return data_folder() / "sources" / f"pinned-{pin.sha256}.safetensors"
