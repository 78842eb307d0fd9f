"""Write a task's splits as files that other toolkits read."""

from __future__ import annotations

import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import DataError, UsageError, first
from benchmark.files import check_output, new_folder, write_file
from benchmark.manifest.catalogue import shown_reference
from benchmark.manifest.roles import (
    CLASS_ORDERS,
    COLUMNS,
    ROLES,
    ordered_classes,
    roles_in,
    task_frame,
)
from benchmark.splits.pictures import find_images

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.manifest.manifest import Manifest

FORMATS = {
    "txt": "a folder with one <role>.txt per role, one line `path label` per image",
    "csv": "one file, with one row per image",
    "parquet": "one file, with one row per image",
    "json": "one file, a list with one object per image",
    "imagefolder": "a folder with <role>/<class>/<image>: links, or embedded images",
}
FOLDER_FORMATS = ("txt", "imagefolder")
CLASSES_FILE = "classes.txt"  # class names, one per line, in the order of the labels
ABOUT_FILE = "export.json"  # describes the export, and marks the folder as replaceable
MAX_NAME_BYTES = 120  # file systems allow 255; a name also gets a suffix
# For each path: a file's content, the target of a link, or None for an empty folder.
Plan = dict[str, bytes | Path | None]


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        out: the file or folder.
        format: a key of :data:`FORMATS`; ``class_order``: a key of ``CLASS_ORDERS``.
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
) -> Exported:
    """Write the splits of a task, completely or not at all.

    Args:
        manifest: a checked manifest.
        task: id of one of its tasks.
        form: a key of :data:`FORMATS`.
        out: the file or folder to create. An existing one is left alone if it is the same
            export, and refused otherwise.
        class_order: a key of ``CLASS_ORDERS``; default ``sorted`` for ``imagefolder``, whose
            readers number classes by sorted folder name, else ``manifest``.
        force: replace an existing file or export.

    Raises:
        UsageError: an option is invalid, or ``out`` exists and is not this export.
        ManifestError: there is no such task.
        DataError: images are absent, or the export cannot be written.
    """
    if form not in FORMATS:
        raise UsageError(f"unknown format {form!r}; known: {', '.join(FORMATS)}")
    order = class_order or ("sorted" if form == "imagefolder" else "manifest")
    if form == "imagefolder" and order != "sorted":
        raise UsageError(
            "image-folder loaders number classes by sorted folder name, so --format imagefolder "
            f"needs --class-order sorted; for --class-order {order}, use another format"
        )
    frame = task_frame(manifest, task, order)
    counts = {role: int((frame["role"] == role).sum()) for role in roles_in(frame)}
    out = out.absolute()
    try:
        check_output(out, folder=form in FOLDER_FORMATS)
        if form in FOLDER_FORMATS:
            plan = _plan(manifest, task, form, order, frame)
            written = _write_folder(out, plan, force)
        else:
            written = _write_table(out, _table(manifest, task, form, order, frame), force)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}") from None
    return Exported(out, form, order, counts, written)


# --- one file --------------------------------------------------------------------------------


def _table(manifest: Manifest, task: str, form: str, order: str, frame: pd.DataFrame) -> bytes:
    frame = frame[list(COLUMNS)]
    if form == "csv":
        return frame.to_csv(index=False, lineterminator="\n").encode()
    if form == "json":
        lines = (json.dumps(row, ensure_ascii=False) for row in frame.to_dict("records"))
        return ("[\n" + ",\n".join(lines) + "\n]\n").encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    about = json.dumps(_about(manifest, task, form, order, frame))
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


def _plan(manifest: Manifest, task: str, form: str, order: str, frame: pd.DataFrame) -> Plan:
    about = _about(manifest, task, form, order, frame)
    classes = ordered_classes(manifest, manifest.task(task), order)
    if form == "txt":
        plan: Plan = dict(_lists(frame))
    else:
        folders = dict(zip(classes, safe_names(classes), strict=True))
        classes = tuple(sorted(classes, key=folders.__getitem__))
        about["folders"] = sorted(folders.values())
        plan = dict(_image_files(manifest, frame, folders))
    plan[CLASSES_FILE] = "".join(f"{name}\n" for name in classes).encode()
    plan[ABOUT_FILE] = (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode()
    return plan


def _about(
    manifest: Manifest, task: str, form: str, order: str, frame: pd.DataFrame
) -> dict[str, object]:
    counts = frame["role"].value_counts()
    return {
        "made_by": "htbench splits export",
        "manifest": shown_reference(manifest.reference, manifest.digest),
        "digest": manifest.digest,
        "task": task,
        "format": form,
        "class_order": f"{order}: {CLASS_ORDERS[order]}",
        "roles": {r: {"images": int(counts.get(r, 0)), "what": ROLES[r]} for r in roles_in(frame)},
    }


def _lists(frame: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
    """``<role>.txt``: lines of path and label."""
    spaced = [path for path in frame["path"] if len(path.split()) != 1]
    if spaced:
        raise UsageError(
            "the txt format separates path and label with a space, but "
            f"{len(spaced)} paths contain spaces: {first(spaced)}; use --format csv"
        )
    for role in roles_in(frame):
        part = frame[frame["role"] == role]
        lines = (f"{path} {n}\n" for path, n in zip(part["path"], part["label"], strict=True))
        yield f"{role}.txt", "".join(lines).encode()


def _image_files(
    manifest: Manifest, frame: pd.DataFrame, folders: dict[str, str]
) -> Iterator[tuple[str, bytes | Path | None]]:
    """``<role>/<class>/<file>``; a class without images in a role gets an empty folder.

    Without it, a reader of ``train`` would number only the seen classes, and its labels would
    differ from those of ``test``.
    """
    for role in roles_in(frame):
        for folder in folders.values():
            yield f"{role}/{folder}", None
    names = safe_names(path.replace("/", "__") for path in frame["path"])
    rows = zip(frame["role"], frame["class"], names, find_images(manifest, frame), strict=True)
    for role, label, name, image in rows:
        yield f"{role}/{folders[label]}/{name}", image


def safe_names(texts: Iterable[str]) -> list[str]:
    """One file or folder name for each text, distinct for distinct texts.

    Letters, digits and ``_ . + -`` are kept, everything else becomes ``_``; no name begins with a
    dot or is too long. If two names would be equal (ignoring case, as some file systems do), the
    later one gets part of its text's SHA-256.
    """
    used: set[str] = set()
    names = []
    for text in texts:
        name = _NOT_SAFE.sub("_", unicodedata.normalize("NFC", text))
        name = re.sub(r"^\.", "_", name).rstrip(".") or "_"
        stem, dot, suffix = name.rpartition(".")
        stem, suffix = (stem, dot + suffix) if stem and len(suffix) <= 5 else (name, "")
        if len(stem.encode()) > MAX_NAME_BYTES:
            stem = stem.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
        name = stem + suffix
        while name.casefold() in used:
            stem = f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            name = stem + suffix
        used.add(name.casefold())
        names.append(name)
    return names


_NOT_SAFE = re.compile(r"[^\w.+-]")


def _write_folder(out: Path, plan: Plan, force: bool) -> bool:
    if out.exists() and any(out.iterdir()):
        if not _is_export(out):
            raise UsageError(
                f"{out} already exists and is not an export of this suite (it has no valid "
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
        about = json.loads((folder / ABOUT_FILE).read_bytes())
    except (OSError, ValueError):
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
