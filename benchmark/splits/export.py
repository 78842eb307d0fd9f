"""Write a task's splits as files that other toolkits read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.choices import CLASS_ORDERS, SPLIT_FORMATS
from benchmark.errors import DataError, UsageError, first
from benchmark.files import check_output, new_folder, read_json, write_file
from benchmark.manifest.catalogue import shown_reference
from benchmark.manifest.roles import (
    COLUMNS,
    ROLES,
    ordered_classes,
    roles_in,
    task_frame,
)
from benchmark.splits.imagefolder import Plan, class_folders, image_files
from benchmark.text import plural

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.manifest.manifest import Manifest

FOLDER_FORMATS = ("txt", "imagefolder")
CLASSES_FILE = "classes.txt"  # class names, one per line, in the order of the labels
ABOUT_FILE = "export.json"  # describes the export, and marks the folder as replaceable
MAX_ABOUT_BYTES = 16 << 20  # it has the folder of every class


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        out: the file or folder.
        format: one of ``SPLIT_FORMATS``; ``class_order``: a key of ``CLASS_ORDERS``.
        counts: images in each role.
        written: False if the same export existed already.
    """

    out: Path
    format: str
    class_order: str
    counts: dict[str, int]
    written: bool


def export_task(
    manifest: Manifest,
    task: str,
    form: str,
    out: Path,
    class_order: str | None = None,
    force: bool = False,
    *,
    paths: Mapping[str, str] | None = None,
    with_missing_train: bool = False,
) -> Exported:
    """Write the splits of a task, completely or not at all.

    Args:
        manifest: a checked manifest.
        task: id of one of its tasks.
        form: one of ``SPLIT_FORMATS``.
        out: the file or folder to create. An existing one is left alone if it is the same
            export, and refused otherwise.
        class_order: a key of ``CLASS_ORDERS``; default ``sorted`` for ``imagefolder``, whose
            readers number classes by sorted folder name, else ``manifest``.
        force: replace an existing file or export.
        paths: what to write for each path of the manifest in lists and tables, such as
            :func:`benchmark.splits.roots.paths_below`.
        with_missing_train: for ``imagefolder``: also write the role ``train_missing``.

    Raises:
        UsageError: an option is invalid, or ``out`` exists and is not this export.
        ManifestError: there is no such task.
        DataError: images are absent, or the export cannot be written.
    """
    if form not in SPLIT_FORMATS:
        raise UsageError(f"unknown format {form!r}; known: {', '.join(SPLIT_FORMATS)}")
    is_imagefolder = form == "imagefolder"
    order = class_order or ("sorted" if is_imagefolder else "manifest")
    _check_options(is_imagefolder, order, paths is not None, with_missing_train)
    frame = task_frame(manifest, task, order)
    if paths is not None:
        frame["path"] = frame["path"].map(paths)
    roles = roles_in(frame)
    if is_imagefolder and not with_missing_train:
        roles.remove("train_missing")
        frame = frame[frame["role"].isin(roles)].reset_index(drop=True)
    counts = {role: int((frame["role"] == role).sum()) for role in roles}
    out = out.absolute()
    try:
        check_output(out, folder=form in FOLDER_FORMATS)
        if form in FOLDER_FORMATS:
            plan = _plan(manifest, task, form, order, frame, counts)
            written = _write_folder(out, plan, force)
        else:
            data = _table(manifest, task, form, order, frame, counts)
            written = _write_table(out, data, force)
    except OSError as error:
        raise DataError(
            f"cannot write {out}: {error.strerror or error}; choose another path with --out"
        ) from None
    return Exported(out, form, order, counts, written)


def _check_options(
    is_imagefolder: bool, order: str, has_paths: bool, with_missing_train: bool
) -> None:
    """Check that the options suit the format.

    Raises:
        UsageError: one does not.
    """
    if is_imagefolder and order != "sorted":
        raise UsageError(
            "image-folder loaders number classes by sorted folder name, so --format imagefolder "
            f"needs --class-order sorted; for --class-order {order}, use another format"
        )
    if is_imagefolder and has_paths:
        raise UsageError("--root is for lists and tables; --format imagefolder writes images")
    if not is_imagefolder and with_missing_train:
        raise UsageError(
            "--with-missing-train is for --format imagefolder; lists and tables always name the "
            "images of train_missing, under that role"
        )


def file_of_task(task: str, form: str) -> str:
    """The name of a task's part of an export of all tasks."""
    return task if form in FOLDER_FORMATS else f"{task}.{form}"


# --- one file --------------------------------------------------------------------------------


def _table(
    manifest: Manifest,
    task: str,
    form: str,
    order: str,
    frame: pd.DataFrame,
    counts: Mapping[str, int],
) -> bytes:
    frame = frame[list(COLUMNS)]
    if form == "csv":
        return frame.to_csv(index=False, lineterminator="\n").encode()
    if form == "json":
        lines = (json.dumps(row, ensure_ascii=False) for row in frame.to_dict("records"))
        return ("[\n" + ",\n".join(lines) + "\n]\n").encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    about = json.dumps(_about(manifest, task, form, order, counts))
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"htbench": about}), buffer)
    return buffer.getvalue()


def _write_table(out: Path, data: bytes, force: bool) -> bool:
    if out.exists():
        if out.read_bytes() == data:
            return False
        if not force:
            raise UsageError(
                f"{out} already exists and differs from this export; add --force to replace it"
            )
    write_file(out, data)
    return True


# --- a folder --------------------------------------------------------------------------------


def _plan(
    manifest: Manifest,
    task: str,
    form: str,
    order: str,
    frame: pd.DataFrame,
    counts: Mapping[str, int],
) -> Plan:
    about = _about(manifest, task, form, order, counts)
    classes = ordered_classes(manifest, manifest.task(task), order)
    if form == "txt":
        plan: Plan = dict(_lists(frame, counts))
    else:
        folders = class_folders(classes)
        classes = tuple(folders)
        about["folders"] = list(folders.values())
        plan = image_files(manifest, frame, folders, list(counts))
    plan[CLASSES_FILE] = "".join(f"{name}\n" for name in classes).encode()
    plan[ABOUT_FILE] = (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode()
    return plan


def _about(
    manifest: Manifest, task: str, form: str, order: str, counts: Mapping[str, int]
) -> dict[str, object]:
    return {
        "made_by": "htbench splits export",
        "manifest": shown_reference(manifest.reference, manifest.digest),
        "digest": manifest.digest,
        "task": task,
        "format": form,
        "class_order": f"{order}: {CLASS_ORDERS[order]}",
        "roles": {r: {"images": count, "what": ROLES[r]} for r, count in counts.items()},
    }


def _lists(frame: pd.DataFrame, roles: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """``<role>.txt``: lines of path and label."""
    spaced = [path for path in frame["path"] if len(path.split()) != 1]
    if spaced:
        raise UsageError(
            "the txt format separates path and label with a space, but "
            f"there are spaces in {plural(len(spaced), 'path')}: {first(spaced)}; use --format csv"
        )
    for role in roles:
        part = frame[frame["role"] == role]
        lines = (f"{path} {n}\n" for path, n in zip(part["path"], part["label"], strict=True))
        yield f"{role}.txt", "".join(lines).encode()


def _write_folder(out: Path, plan: Plan, force: bool) -> bool:
    if out.exists() and any(out.iterdir()):
        if not _is_export(out):
            raise UsageError(
                f"{out} already exists and is not an export of htbench (it has no valid "
                f"{ABOUT_FILE}), so it will not be replaced; give another folder"
            )
        if _holds(out, plan):
            return False
        if not force:
            raise UsageError(
                f"{out} already contains a different export; add --force to replace it"
            )
    with new_folder(out) as building:
        for name, content in plan.items():
            path = building / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            elif isinstance(content, Path):
                path.symlink_to(content)
            else:
                path.write_bytes(content)
    return True


def _is_export(folder: Path) -> bool:
    try:
        about = read_json(folder / ABOUT_FILE, MAX_ABOUT_BYTES, DataError)
    except DataError:
        return False
    return isinstance(about, dict) and about.get("made_by") == "htbench splits export"


def _holds(folder: Path, plan: Plan) -> bool:
    """Whether a folder holds exactly the planned files."""
    expected = set(plan) | {
        "/".join(parts[:n]) for parts in (k.split("/") for k in plan) for n in range(1, len(parts))
    }
    if {path.relative_to(folder).as_posix() for path in folder.rglob("*")} != expected:
        return False
    return all(_matches(folder / name, content) for name, content in plan.items())


def _matches(path: Path, content: bytes | Path | None) -> bool:
    if content is None:
        return path.is_dir()
    if isinstance(content, Path):
        return path.is_symlink() and path.readlink() == content
    return path.is_file() and not path.is_symlink() and path.read_bytes() == content
