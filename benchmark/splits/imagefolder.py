"""The image-folder export: one folder per role and class, which several libraries read.

Each library numbers classes in its own way, so the export says the same thing to each of them:

- torchvision's ``ImageFolder`` sorts the names of the folders, empty ones included. Every role has
  a folder for every class.
- timm sorts the names of the folders that have images, unless it gets ``class_map.txt``.
- Hugging Face ``datasets`` would take every role with ``train`` in its name for one split, and
  number the classes that it finds. Images that the manifest embeds are therefore also in
  ``data/<role>-00000-of-00001.zip``, the only layout whose splits it names after the files. Images
  that are files are not copied: ``README.md`` lists Parquet files with their paths, and the
  loader ``imagefolder``, which does not read ``README.md``, finds a table of ``train`` and one of
  ``test`` and ignores all other images.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.splits.pictures import find_images

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from benchmark.manifest.manifest import Manifest

# For each path: a file's content, the target of a link, or None for an empty folder.
Plan = dict[str, bytes | Path | None]

CLASS_MAP_FILE = "class_map.txt"  # folder names, one per line, in the order of the labels
CARD_FILE = "README.md"
TABLE_FILE = "metadata.parquet"  # the name that the loader `imagefolder` looks for
FOUND_BY_LOADER = ("train", "test")  # splits whose names that loader knows
MAX_NAME_BYTES = 120  # file systems allow 255; a name also gets a suffix
_NOT_SAFE = re.compile(r"[^\w.+-]")


def class_folders(classes: Iterable[str]) -> dict[str, str]:
    """The folder of each class; sorted by folder, because that is the order of the labels."""
    classes = list(classes)
    folders = dict(zip(classes, safe_names(classes), strict=True))
    return dict(sorted(folders.items(), key=lambda item: item[1]))


def image_files(
    manifest: Manifest, frame: pd.DataFrame, folders: dict[str, str], roles: Sequence[str]
) -> Plan:
    """The files and folders of an export.

    Args:
        manifest: the manifest of the rows.
        frame: rows of :func:`benchmark.manifest.roles.task_frame`.
        folders: what :func:`class_folders` returns for all classes.
        roles: the roles of the rows, and those without a row.

    Raises:
        DataError: images are absent.
    """
    import pandas as pd

    plan: Plan = {f"{role}/{name}": None for role in roles for name in folders.values()}
    plan[CLASS_MAP_FILE] = "".join(f"{name}\n" for name in folders.values()).encode()
    names = safe_names(path.replace("/", "__") for path in frame["path"])
    rows = frame.assign(
        file_name=[f"{folders[c]}/{n}" for c, n in zip(frame["class"], names, strict=True)],
        picture=pd.Series(find_images(manifest, frame), frame.index, dtype=object),
        number=frame["class"].map({name: i for i, name in enumerate(folders)}),
    )
    for role, name, image in zip(rows["role"], rows["file_name"], rows["picture"], strict=True):
        plan[f"{role}/{name}"] = image
    embedded = manifest.document["images"] == "embedded"
    parts = {str(role): part for role, part in rows.groupby("role", sort=False)}
    return plan | dict(_archives(parts, folders) if embedded else _tables(parts, folders))


def _archives(
    parts: dict[str, pd.DataFrame], folders: dict[str, str]
) -> Iterator[tuple[str, bytes]]:
    for role, part in parts.items():
        table = _names_and_labels(part, folders)
        yield f"{role}/{TABLE_FILE}", table  # for a loader that is pointed at one role
        files = dict(zip(part["file_name"], part["picture"], strict=True))
        yield f"data/{role}-00000-of-00001.zip", _zip(files | {TABLE_FILE: table})


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # stored: images do not compress
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # its date is always the same
    return buffer.getvalue()


def _tables(parts: dict[str, pd.DataFrame], folders: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    import pyarrow as pa

    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    for role, part in parts.items():
        if role in FOUND_BY_LOADER:
            yield f"{role}/{TABLE_FILE}", _names_and_labels(part, folders)
        images = [{"bytes": None, "path": str(path)} for path in part["picture"]]
        column = pa.array(images, kind)
        yield f"parquet/{role}.parquet", _parquet({"image": column}, part, folders, "Image")
    listed = "".join(f"  - split: {role}\n    path: parquet/{role}.parquet\n" for role in parts)
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n{listed}---\n"
    yield CARD_FILE, card.encode()


def _names_and_labels(part: pd.DataFrame, folders: dict[str, str]) -> bytes:
    import pyarrow as pa

    names = pa.array(part["file_name"].tolist(), pa.string())
    return _parquet({"file_name": names}, part, folders, "Value")


def _parquet(
    column: dict[str, pa.Array], part: pd.DataFrame, folders: dict[str, str], kind: str
) -> bytes:
    """A table of one column and the labels, which says the names of all classes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (name,) = column
    features = {
        name: {"_type": kind} | ({"dtype": "string"} if kind == "Value" else {}),
        "label": {"_type": "ClassLabel", "names": list(folders)},
    }
    table = pa.table(column | {"label": pa.array(part["number"].tolist(), pa.int64())})
    about = json.dumps({"info": {"features": features}})
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": about}), buffer)
    return buffer.getvalue()


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
