"""Import or download pretrained weights; a child process converts the file."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from benchmark.commands import command
from benchmark.download import download
from benchmark.errors import DataError, ManifestError, UsageError
from benchmark.files import (
    digest_file,
    is_safetensors,
    new_folder,
    seal,
)
from benchmark.folders import data_folder
from benchmark.isolation.conversation import no_progress, reason_of, request, run_job
from benchmark.jobs import AddressJob, PretrainedJob, network_of, new_scratch
from benchmark.networks.names import network_label
from benchmark.progress import Logger
from benchmark.sources.pretrained import (
    RECORD_FILE,
    WEIGHTS_FILE,
    PretrainedWeights,
    find_pretrained,
    pretrained_name,
    weights_folder,
)
from benchmark.temporary import temporary_folder

if TYPE_CHECKING:
    from benchmark.isolation.client import ForkServer
    from benchmark.manifest.manifest import Manifest

# torchvision names a file after its network and the first hex digits of its SHA-256.
_SUM_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


def import_pretrained(
    server: ForkServer, manifest: Manifest, file: Path, log: Logger
) -> PretrainedWeights:
    """Import a manifest's pretrained weights from a file.

    Args:
        server: forks the child that reads the file.
        manifest: its ``[model]`` names the weights.
        file: a state dict of torch, or safetensors.
        log: receives a message if the file cannot be verified.

    Raises:
        UsageError: the manifest names no pretrained weights.
        DataError: the file has another SHA-256 than the library's, or does not fit the network.
    """
    name = pretrained_name(manifest.model)
    if name is None:
        raise UsageError(
            f"--weights: {network_label(manifest.model)}, the network of {manifest.reference}, "
            "is not initialised from pretrained weights; --model NAME@WEIGHTS chooses one that is"
        )
    if not file.is_file():
        raise UsageError(f"--weights: {file} is not a file")
    return _convert(server, manifest, name, _address(server, manifest), file, log)


def use_file_command(manifest: Manifest) -> str:
    """The command that takes a manifest's pretrained weights from a file."""
    words = ("source", "train", "--manifest", manifest.argument, *manifest.model_option)
    return command(*words, "--weights", "FILE")


def download_pretrained(server: ForkServer, manifest: Manifest, log: Logger) -> PretrainedWeights:
    """Download a manifest's pretrained weights; while one process does, others wait.

    Raises:
        DataError: the download failed; the message names the address.
        StorageError: the file does not fit on the disk.
    """
    name = pretrained_name(manifest.model)
    assert name is not None
    folder = weights_folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{name}.lock")):
        weights = find_pretrained(manifest.model)  # another process may have been faster
        return weights or _download(server, manifest, name, log)


def _download(server: ForkServer, manifest: Manifest, name: str, log: Logger) -> PretrainedWeights:
    address = _address(server, manifest)
    log(f"downloading {address}")
    # The hub gives the weights of all networks one name.
    basename = f"{name}-{PurePosixPath(urlsplit(address).path).name}"
    file = data_folder() / "downloads" / basename
    try:
        download(address, file, log=log)
    except DataError as error:
        raise DataError(
            f"{error}. If you get the file in another way, run `{use_file_command(manifest)}`"
        ) from None
    try:
        return _convert(server, manifest, name, address, file, log)
    finally:
        file.unlink(missing_ok=True)


def _convert(
    server: ForkServer, manifest: Manifest, name: str, address: str, file: Path, log: Logger
) -> PretrainedWeights:
    verified = _verify(file, name, address, log)
    with temporary_folder() as folder:
        job = PretrainedJob(new_scratch(folder), network_of(manifest), str(file.resolve()))
        outcome = run_job(server, job, None, folder, no_progress)
        if outcome.error is not None:
            raise DataError(f"{file} cannot be used as {name}: {reason_of(outcome.error)}")
        assert outcome.weights is not None
        digest = digest_file(outcome.weights)
        record = {"digest": digest, "file_sha256": digest_file(file), "verified": verified}
        with new_folder(weights_folder(name)) as building:
            shutil.copyfile(outcome.weights, building / WEIGHTS_FILE)
            (building / RECORD_FILE).write_bytes(seal(record))
    return PretrainedWeights(weights_folder(name) / WEIGHTS_FILE, digest, record)


def _verify(file: Path, name: str, address: str, log: Logger) -> bool:
    """Compare a file with the SHA-256 prefix in torchvision's file name; False if there is none."""
    expected = _SUM_IN_NAME.search(address)
    with file.open("rb") as opened:
        converted = is_safetensors(opened.read(9))  # equal tensors, but not the library's bytes
    if converted or expected is None:
        log(f"{file.name}: there is no published SHA-256 to verify it; recording its own")
        return False
    digest = digest_file(file)
    if not digest.startswith(expected[1]):
        raise DataError(
            f"{file} has SHA-256 {digest[:16]}..., but that of {name} begins with {expected[1]}; "
            f"get {address}"
        )
    return True


def _address(server: ForkServer, manifest: Manifest) -> str:
    with temporary_folder() as folder:
        reply = request(server, AddressJob(new_scratch(folder), manifest.model), folder)
    if "failed" in reply:
        raise ManifestError(reason_of(reply["failed"]))
    return str(reply["done"]["address"])
