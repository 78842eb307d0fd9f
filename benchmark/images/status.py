"""What of a data set's images is on this machine, and how to remove it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UsageError
from benchmark.files import discard, is_file
from benchmark.images.copy.verify import digests_file, verified_on
from benchmark.images.place import image_sizes, images_folder, paths_of
from benchmark.images.store.store import store_folder, store_state
from benchmark.manifest.catalogue import (
    load_manifest,
    published_manifests,
    shown_reference,
)
from benchmark.manifest.manifest import IMAGES_FILE, MANIFEST_FILE, Manifest, slices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def find_manifest(dataset: str) -> Manifest:
    """A manifest by reference, folder, or by its name alone if there is only one version.

    A folder of that name comes first, because every command takes a manifest's folder.
    """
    versions = [r for r in published_manifests() if r.partition("@")[0] == dataset]
    is_name = len(versions) == 1 and not is_file(Path(dataset) / MANIFEST_FILE)
    return load_manifest(versions[0] if is_name else dataset)


def manifest_of_files(dataset: str) -> Manifest:
    """The same for a data set whose images are files.

    Raises:
        UsageError: its images are bundled with htbench.
    """
    manifest = find_manifest(dataset)
    if manifest.document["images"] == "embedded":
        raise UsageError(
            f"the images of {manifest.reference} are bundled with htbench, so there is nothing "
            "to download, import or remove"
        )
    return manifest


def data_status(manifest: Manifest) -> dict[str, Any]:
    """How many images of a data set are here, where, and how many of its stores are built."""
    embedded = manifest.document["images"] == "embedded"
    root = images_folder(manifest)
    sizes = None if embedded or not root.is_dir() else image_sizes(manifest)
    here, size = (0, 0) if sizes is None else (int((sizes > 0).sum()), int(sizes.sum()))
    packaged = manifest.root / IMAGES_FILE
    return {
        "dataset": shown_reference(manifest.reference, manifest.digest),
        "images": manifest.table.num_rows,
        "here": manifest.table.num_rows if embedded else here,
        "verified": "bundled" if embedded else verified_on(manifest),
        "bytes": packaged.stat().st_size if embedded else size,
        "stores": store_state(manifest),
        "where": str(packaged if embedded else root),
    }


def describe_absent(manifest: Manifest, absent: NDArray[np.int64]) -> str:
    """A sentence that counts the absent images of each domain.

    Args:
        manifest: the manifest.
        absent: rows of absent images; at least one.
    """
    domains = manifest.table["domain"]
    total = Counter(chain.from_iterable(slices(domains)))
    count = Counter(chain.from_iterable(slices(domains.take(absent))))
    each = ", ".join(f"{domain} {number} of {total[domain]}" for domain, number in count.items())
    return (
        f"{len(absent)} of {len(domains)} images of {manifest.reference} are still missing "
        f"({each}), for example {min(paths_of(manifest, absent))}"
    )


def local_folders(manifest: Manifest, *, stores: bool) -> list[Path]:
    """The folders on this machine that hold a data set's images, and its stores if wanted.

    Raises:
        UsageError: there are none.
    """
    folders = [images_folder(manifest)]
    if stores:
        folders += [store_folder(manifest, domain.name) for domain in manifest.domains]
    present = [folder for folder in folders if folder.is_dir() or _aside(folder).is_dir()]
    if not present:
        see = "see `htbench data status`"
        if store_state(manifest)[0]:
            see = "add --stores to remove its image stores"
        raise UsageError(f"there are no images of {manifest.reference} on this machine; {see}")
    return present


def remove_folders(manifest: Manifest, folders: Iterable[Path]) -> Iterator[Path]:
    """Remove folders of a data set one by one, and yield each; files behind links stay."""
    digests_file(manifest).unlink(missing_ok=True)
    for folder in folders:
        aside = _aside(folder)
        discard(aside)  # left by an interrupted call
        if folder.is_symlink():
            folder.unlink()
        elif folder.is_dir():
            folder.rename(aside)  # in one step, so that no partial copy has the folder's name
            shutil.rmtree(aside)
        yield folder


def _aside(folder: Path) -> Path:
    """Where a folder is while its files are removed, which takes minutes for a large copy."""
    return folder.with_name(f".removed-{folder.name}")
