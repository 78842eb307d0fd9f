"""Download a manifest's images from its mirrors, one after the other until none is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmark.commands import command
from benchmark.download import cannot_write, check_file, download
from benchmark.errors import DataError, UsageError
from benchmark.files import FULL
from benchmark.images.copy.placing import Placing, placing
from benchmark.images.copy.take import import_images
from benchmark.images.decode import MAX_FILE_BYTES
from benchmark.images.place import absent_paths, absent_rows, images_folder
from benchmark.manifest.rules import DRIVE
from benchmark.progress import Logger, Progress
from benchmark.text import printable

if TYPE_CHECKING:
    from benchmark.manifest.manifest import Manifest


HUB = "huggingface.co"
PATH_COLUMN, IMAGE_COLUMN = "image_path", "image"

Mirror = dict[str, Any]


def fetch(
    manifest: Manifest, folder: Path, log: Logger, progress_for: Callable[[str], Progress]
) -> None:
    """Try the mirrors in order until all images of a manifest are in the local copy.

    While one process downloads an archive and unpacks it, others wait. An archive that is named
    after a domain is skipped if that domain is complete.

    Args:
        manifest: a manifest whose images are files.
        folder: holds archives while they are downloaded and unpacked.
        log: called with each mirror that is tried and each failure.
        progress_for: returns the progress callback of a download or extraction, by its name.

    Raises:
        DataError: images are still missing; the message gives the reason for each mirror.
        StorageError: files cannot be written, such as onto a full disk.
    """
    problems = []
    for mirror in manifest.document.get("mirrors", []):
        if not _is_needed(manifest, mirror["address"]):
            continue
        name = mirror.get("title", mirror["address"])
        log(f"trying {name}")
        try:
            _import_from(manifest, mirror, folder, log, progress_for)
        except (DataError, UsageError) as error:  # UsageError: an archive of other images
            problems.append(f"{name}: {error}")
            log(str(error))
    if absent := len(absent_rows(manifest)):
        total = manifest.table.num_rows
        raise DataError(
            f"{absent} of {total} images of {manifest.reference} are still missing. "
            + "".join(f"\n- {problem}" for problem in problems)
            + "\nObtain these images elsewhere, then run "
            + f"`{command('data', 'import', manifest.argument, 'PATH')}`"
        )


def _is_needed(manifest: Manifest, address: str) -> bool:
    """Whether images are absent: of the domain that an archive is named after, if it is, or any."""
    absent = absent_rows(manifest)
    stem = Path(urlsplit(address).path).name.partition(".")[0]
    if stem in {domain.name for domain in manifest.domains}:
        return stem in manifest.table["domain"].take(absent).unique().to_pylist()
    return bool(len(absent))


def _import_from(
    manifest: Manifest,
    mirror: Mirror,
    folder: Path,
    log: Logger,
    progress_for: Callable[[str], Progress],
) -> None:
    host = urlsplit(mirror["address"]).hostname
    if host == HUB and "sha256" not in mirror:
        _from_hub(manifest, mirror, progress_for)
        return
    if host == DRIVE:
        archive = folder / f"{mirror['drive_id']}.archive"
    else:
        address = _hub_file(mirror) if host == HUB else mirror["address"]
        archive = folder / (Path(urlsplit(address).path).name or "archive")
    with _alone(archive, log):
        if not _is_needed(manifest, mirror["address"]):  # another process was faster
            return
        if host == DRIVE:
            _from_drive(mirror, archive, progress_for("downloading"))
        else:
            download(  # it may be there, if unpacking it was interrupted
                address,
                archive,
                size=mirror.get("bytes"),
                sha256=mirror.get("sha256"),
                progress=progress_for(f"downloading {archive.name}"),
                log=log,
            )
        progress = progress_for(f"unpacking {archive.name}")
        try:
            import_images(manifest, archive, copy=True, progress=progress, log=log)
        except (DataError, UsageError):
            if "sha256" not in mirror:  # it may be damaged, and gdown would not load it again
                archive.unlink(missing_ok=True)
            raise
        archive.unlink()


@contextlib.contextmanager
def _alone(archive: Path, log: Logger) -> Iterator[None]:
    """Keep other processes from an archive; wait while one has it."""
    from filelock import FileLock, Timeout

    archive.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(archive.with_name(f".{archive.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log(f"waiting for another process, which downloads {archive.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _from_drive(mirror: Mirror, archive: Path, progress: Progress) -> None:
    """Download with gdown, which handles the confirmation page of large files.

    Raises:
        DataError: the download failed, for example because the daily quota is exhausted.
        StorageError: the archive does not fit on the disk.
    """
    try:
        import gdown
    except ModuleNotFoundError:
        raise DataError(
            "downloading from Google Drive needs gdown, which is not installed; run "
            "pip install 'holistic-transfer-bench[download]'"
        ) from None
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
            progress=lambda finished, total: progress(finished, total or 0),
        )
    except Exception as error:  # gdown and requests have no common base class
        if isinstance(error, OSError) and error.errno in FULL:
            raise cannot_write(archive, error) from None
        raise DataError(f"cannot download {mirror['address']}: {_reason(error)}") from None
    if not archive.is_file():
        raise DataError(f"cannot download {mirror['address']}: gdown wrote no file")
    check_file(mirror["address"], archive, mirror.get("bytes"), mirror.get("sha256"))


def _hub_name(mirror: Mirror) -> str:
    return urlsplit(mirror["address"]).path.removeprefix("/datasets/").strip("/")


def _hub_file(mirror: Mirror) -> str:
    """Return the address of the file in a hub repository that has the mirror's SHA-256."""
    from huggingface_hub import HfApi, hf_hub_url

    name = _hub_name(mirror)
    with _hub_problems(name):
        info = HfApi().dataset_info(name, files_metadata=True, revision=mirror.get("revision"))
    for file in info.siblings or []:
        if file.lfs is not None and file.lfs.sha256 == mirror["sha256"]:
            return hf_hub_url(name, file.rfilename, repo_type="dataset", revision=info.sha)
    raise DataError(
        f"no file in the hub repository {name} has the expected SHA-256 {mirror['sha256'][:16]}..."
    )


def _from_hub(manifest: Manifest, mirror: Mirror, progress_for: Callable[[str], Progress]) -> None:
    """Import images from a hub data set, whose rows are matched by their column of paths."""
    from datasets import Image, load_dataset

    name = _hub_name(mirror)
    with _hub_problems(name):
        splits = load_dataset(name, revision=mirror.get("revision"), streaming=True)
    progress = progress_for(f"reading {name}")
    with placing(images_folder(manifest)) as writer:
        absent = absent_paths(manifest)
        total = len(absent)
        for rows in splits.values():
            if PATH_COLUMN not in (rows.column_names or []):
                raise DataError(
                    f"the hub data set {name} has no column with file paths, so its images cannot "
                    "be matched to the manifest"
                )
            rows = rows.select_columns([PATH_COLUMN, IMAGE_COLUMN])
            for row in _rows(name, rows.cast_column(IMAGE_COLUMN, Image(decode=False))):
                if _take_row(row, absent, writer):
                    progress(total - len(absent), total)
            if not absent:
                return


def _take_row(row: Any, absent: set[str], writer: Placing) -> bool:
    """Write the image of a row if it is absent."""
    path, data = row[PATH_COLUMN], (row[IMAGE_COLUMN] or {}).get("bytes")
    if path not in absent or not isinstance(data, bytes) or len(data) > MAX_FILE_BYTES:
        return False
    writer.write([data], path)
    absent.discard(path)
    return True


def _rows(name: str, rows: Any) -> Iterator[Any]:
    with _hub_problems(name):
        yield from rows


@contextlib.contextmanager
def _hub_problems(name: str) -> Iterator[None]:
    """Turn any exception of the hub's libraries into a DataError of one sentence."""
    try:
        yield
    except Exception as error:
        raise DataError(f"cannot read {name} from the Hugging Face hub: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """The first line of an exception's message, without control characters."""
    return printable(str(error).strip().partition("\n")[0]) or type(error).__name__
