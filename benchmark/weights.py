"""Initial weights of source models: brought once into the data folder, as safetensors.

A manifest names them as their library does, such as ``ResNet50_Weights.IMAGENET1K_V1`` of
torchvision or ``resnet18.a1_in1k`` of timm. They are downloaded, or brought as a file; a file of
torch is read in a locked child. No torch.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmark.errors import DataError, ManifestError, UsageError
from benchmark.files import canonical_json, digest_file, is_safetensors, new_folder, read_json
from benchmark.folders import data_folder
from benchmark.images.download import download
from benchmark.isolation.conversation import no_progress, request, run_job
from benchmark.jobs import AddressJob, PretrainedJob, network_of, new_scratch
from benchmark.networks import network_label

if TYPE_CHECKING:
    from benchmark.isolation.client import ForkServer
    from benchmark.manifest import Manifest

WEIGHTS_FILE = "weights.safetensors"
RECORD_FILE = "weights.json"
MAX_RECORD_BYTES = 1 << 16
_NAME = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z0-9_]+")
# torchvision names a file after its network and the first hex digits of its SHA-256.
_SUM_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Initial:
    """Initial weights in the data folder.

    Attributes:
        path: safetensors under the names of the library's network.
        digest: SHA-256 of that file; equal tensors have equal files, whatever brought them.
        record: ``file_sha256`` of the file they came in, and whether it is ``verified``.
    """

    path: Path
    digest: str
    record: Mapping[str, Any]


def initial_name(model: Mapping[str, Any]) -> str | None:
    """The name of the initial weights in a manifest's ``[model]``, if it has any.

    Raises:
        ManifestError: it is no name such as ``ResNet50_Weights.IMAGENET1K_V1``.
    """
    name = model.get("weights")
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ManifestError(
            f"[model] weights is {name!r}; it must be a name such as "
            "'ResNet50_Weights.IMAGENET1K_V1'"
        )
    return name


def find_initial(model: Mapping[str, Any]) -> Initial | None:
    """The initial weights of a network, or None where it has none or they are yet to come.

    Raises:
        DataError: they are there but damaged.
    """
    name = initial_name(model)
    if name is None or not (_folder(name) / RECORD_FILE).is_file():
        return None
    record = read_json(_folder(name) / RECORD_FILE, MAX_RECORD_BYTES, DataError)
    path = _folder(name) / WEIGHTS_FILE
    if not path.is_file():
        raise DataError(f"{path} is gone; delete its folder and it is fetched anew")
    return Initial(path, record["digest"], record)


def initial_path(model: Mapping[str, Any]) -> str | None:
    """The file of a network's initial weights, its digest checked; None where it names none.

    Raises:
        DataError: they are not here, or damaged.
    """
    name, found = initial_name(model), find_initial(model)
    if name is None:
        return None
    if found is None or digest_file(found.path) != found.digest:
        raise DataError(
            f"the initial weights {name} are not here, or damaged; delete {_folder(name)} and they "
            "are fetched anew"
        )
    return str(found.path)


def bring_initial(server: ForkServer, manifest: Manifest, file: Path, tell: Tell) -> Initial:
    """Take the initial weights of a manifest from a file.

    Args:
        server: forks the child that reads the file.
        manifest: its ``[model]`` names the weights.
        file: a state dict of torch, or safetensors.
        tell: is told of what could not be checked.

    Raises:
        UsageError: the manifest starts from no weights.
        DataError: the file is not the one that its library names, or not of the network.
    """
    name = initial_name(manifest.model)
    if name is None:
        raise UsageError(
            f"--weights: {network_label(manifest.model)}, the network of {manifest.reference}, "
            "starts from no weights; --model NAME@WEIGHTS names another that does"
        )
    if not file.is_file():
        raise UsageError(f"--weights: {file} is not a file")
    return _take(server, manifest, name, _address(server, manifest), file, tell)


def fetch_initial(server: ForkServer, manifest: Manifest, tell: Tell) -> Initial:
    """Download the initial weights of a manifest.

    Raises:
        DataError: they cannot be had; the message names the address.
    """
    name = initial_name(manifest.model)
    assert name is not None
    address = _address(server, manifest)
    tell(f"downloading {address}")
    file = data_folder() / "downloads" / PurePosixPath(urlsplit(address).path).name
    try:
        download(address, file, log=tell)
    except DataError as error:
        raise DataError(
            f"{error}. Get the file by another way, then: "
            f"htbench source train --manifest {manifest.reference}{manifest.model_option} "
            "--weights FILE"
        ) from None
    try:
        return _take(server, manifest, name, address, file, tell)
    finally:
        file.unlink(missing_ok=True)


def _take(
    server: ForkServer, manifest: Manifest, name: str, address: str, file: Path, tell: Tell
) -> Initial:
    verified = _verify(file, name, address, tell)
    with _working_folder() as folder:
        job = PretrainedJob(new_scratch(folder), network_of(manifest), str(file.resolve()))
        outcome = run_job(server, job, [], (0, 1), folder, no_progress)
        if outcome.error is not None:
            message = outcome.error["message"].partition(": ")[2]
            raise DataError(f"{file} cannot be used as {name}: {message}")
        assert outcome.weights is not None
        digest = digest_file(outcome.weights)
        record = {"digest": digest, "file_sha256": digest_file(file), "verified": verified}
        with new_folder(_folder(name)) as building:
            shutil.copyfile(outcome.weights, building / WEIGHTS_FILE)
            (building / RECORD_FILE).write_bytes(canonical_json(record) + b"\n")
    return Initial(_folder(name) / WEIGHTS_FILE, digest, record)


def _verify(file: Path, name: str, address: str, tell: Tell) -> bool:
    """Compare a file with the sum in the name of torchvision's; False if that cannot be done."""
    expected = _SUM_IN_NAME.search(address)
    with file.open("rb") as opened:
        converted = is_safetensors(opened.read(9))  # not the library's file, if of equal tensors
    if converted or expected is None:
        tell(f"{file.name}: nothing to check it against; its own SHA-256 goes on record")
        return False
    found = digest_file(file)
    if not found.startswith(expected[1]):
        raise DataError(
            f"{file} has SHA-256 {found[:16]}..., but that of {name} begins with {expected[1]}; "
            f"get {address}"
        )
    return True


def _address(server: ForkServer, manifest: Manifest) -> str:
    with _working_folder() as folder:
        answer = request(server, AddressJob(new_scratch(folder), manifest.model), folder)
    if "failed" in answer:
        raise ManifestError(answer["failed"]["message"].partition(": ")[2])
    return str(answer["done"]["address"])


@contextlib.contextmanager
def _working_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _folder(name: str) -> Path:
    return data_folder() / "weights" / name
