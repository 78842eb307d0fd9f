"""Export a manifest as Croissant metadata: JSON-LD that data set search engines and loaders read.

The format is Croissant 1.0 (http://mlcommons.org/croissant/1.0), which every Croissant tool reads;
nothing here needs 1.1.
"""

from __future__ import annotations

import json
import re
from typing import Any

from benchmark.files import digest_file
from benchmark.manifest.manifest import IMAGES_FILE, MANIFEST_FILE, Manifest, PinnedCheckpoint

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
    "wd": "https://www.wikidata.org/wiki/",
}
_WHAT = {
    "image_id": "The image's name in this manifest, unique.",
    "domain": "The domain that the image is of.",
    "class": "The class that the image shows.",
    "split": "train or test.",
    "path": "The file's path below the root of the data set.",
    "sha256": "SHA-256 (hex) of the encoded image.",
    "group": "Images of one group are never in both splits.",
    "datetime": "When the image was taken.",
}
_SPLIT_URLS = {
    "train": "https://mlcommons.org/definitions/training_split",
    "test": "https://mlcommons.org/definitions/test_split",
}


def to_croissant(manifest: Manifest) -> dict[str, Any]:
    """Describe a manifest in Croissant 1.0.

    Files are named relative to the manifest's folder. Record sets: ``images`` (a record for each
    row of ``images.parquet``, with the picture if it is embedded), ``classes``, ``tasks`` and
    ``splits`` (with their records inline). Mirrors are described if the manifest has their
    SHA-256, since Croissant requires a checksum for every file; pinned source models always are.
    """
    document = manifest.document
    citation = document["citation"].strip()
    description = " ".join(str(document.get("description") or document["title"]).split())
    about: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": manifest.name,
        "alternateName": document["title"],
        "description": description,
        "version": _semantic(manifest.version),
        "license": " ".join(document["terms"].split()),
        "citeAs": citation,
    }
    if "homepage" in document:
        about["url"] = document["homepage"]
    if creators := _creators(citation):
        about["creator"] = creators
    if year := re.search(r"\byear\s*=\s*[{\"]?(\d{4})", citation):
        about["datePublished"] = f"{year[1]}-01-01"
    about["distribution"] = _files(manifest)
    about["recordSet"] = [_splits(), _classes(manifest), _tasks(manifest), _images(manifest)]
    return about


def croissant_text(manifest: Manifest) -> str:
    """The content of ``croissant.json``: :func:`to_croissant` as JSON text."""
    return json.dumps(to_croissant(manifest), indent=2, ensure_ascii=False) + "\n"


def _semantic(version: str) -> str:
    """``1.0`` as ``1.0.0``: Croissant requires semantic versioning 2.0.0."""
    numbers, plus, build = version.partition("+")
    return numbers + ".0" * max(0, 2 - numbers.count(".")) + plus + build


def _creators(bibtex: str) -> list[dict[str, str]]:
    """The authors of a BibTeX entry; an author enclosed in braces is an organization."""
    field = re.search(r"\bauthor\s*=\s*\{", bibtex)
    if not field:
        return []
    depth, end = 1, field.end()
    while end < len(bibtex) and depth:
        depth += {"{": 1, "}": -1}.get(bibtex[end], 0)
        end += 1
    authors = re.split(r"\s+and\s+", " ".join(bibtex[field.end() : end - 1].split()))
    creators = []
    for author in filter(None, authors):
        if author.startswith("{"):
            creators.append({"@type": "sc:Organization", "name": author.strip("{}")})
        else:
            family, _, first_names = author.partition(",")
            name = f"{first_names.strip()} {family.strip()}".strip()
            creators.append({"@type": "sc:Person", "name": name})
    return creators


def _files(manifest: Manifest) -> list[dict[str, Any]]:
    files = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "description": what,
            "contentUrl": name,
            "contentSize": f"{(manifest.root / name).stat().st_size} B",
            "encodingFormat": kind,
            "sha256": digest_file(manifest.root / name),
        }
        for name, kind, what in (
            (MANIFEST_FILE, "application/toml", "Classes, domains, tasks, terms and recipes."),
            (IMAGES_FILE, "application/x-parquet", "One row for each image."),
        )
    ]
    for index, mirror in enumerate(manifest.document.get("mirrors", [])):
        if "sha256" in mirror:
            entry = {
                "@type": "cr:FileObject",
                "@id": f"mirror-{index}",
                "name": mirror["address"].rpartition("/")[2] or f"mirror-{index}",
                "description": mirror.get("title", "A copy of the images."),
                "contentUrl": mirror["address"],
                "encodingFormat": "application/zip",
                "sha256": mirror["sha256"],
            }
            if "bytes" in mirror:
                entry["contentSize"] = f"{mirror['bytes']} B"
            files.append(entry)
    return files + [_checkpoint(manifest, pin) for pin in manifest.checkpoints]


def _checkpoint(manifest: Manifest, pin: PinnedCheckpoint) -> dict[str, Any]:
    """A source model that the manifest fixes."""
    name = f"{'+'.join(pin.sources)}-{pin.seed}"
    file = {
        "@type": "cr:FileObject",
        "@id": f"source-model-{name}",
        "name": f"{name}.safetensors",
        "description": f"The source model of {'+'.join(pin.sources)} with seed {pin.seed}; "
        f"{pin.test_accuracy:.1f} % test accuracy.",
        "contentUrl": pin.file or pin.urls[0],
        "encodingFormat": "application/octet-stream",
        "sha256": pin.sha256,
    }
    if pin.file is not None:
        file["contentSize"] = f"{(manifest.root / pin.file).stat().st_size} B"
    return file


def _field(
    record_set: str, name: str, what: str, kind: str | list[str] = "sc:Text", **more: Any
) -> dict[str, Any]:
    field = {"@type": "cr:Field", "@id": f"{record_set}/{name}", "name": name}
    return {**field, "description": what, "dataType": kind, **more}


def _images(manifest: Manifest) -> dict[str, Any]:
    references = {
        "class": {"references": {"field": {"@id": "classes/name"}}},
        "split": {"references": {"field": {"@id": "splits/name"}}},
    }
    fields = [
        _field(
            "images",
            column,
            _WHAT[column],
            ["sc:Text", "cr:Split"] if column == "split" else "sc:Text",
            source={"fileObject": {"@id": IMAGES_FILE}, "extract": {"column": column}},
            **references.get(column, {}),
        )
        for column in manifest.table.column_names
    ]
    if manifest.document["images"] == "embedded":
        source = {
            "fileObject": {"@id": IMAGES_FILE},
            "extract": {"column": "image"},
            "transform": {"jsonPath": "bytes"},
        }
        what = f"The picture, {manifest.image_size} x {manifest.image_size} pixels."
        fields.append(_field("images", "image", what, "sc:ImageObject", source=source))
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": f"{manifest.table.num_rows} images.",
        "key": {"@id": "images/image_id"},
        "field": fields,
    }


def _inline(name: str, what: str, key: str, fields: list[Any], data: list[Any]) -> dict[str, Any]:
    """A record set with its records inline."""
    data = [{f"{name}/{k}": v for k, v in record.items()} for record in data]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": what,
        "key": {"@id": f"{name}/{key}"},
        "field": fields,
        "data": data,
    }


def _splits() -> dict[str, Any]:
    fields = [
        _field("splits", "name", "The split's name in images."),
        _field("splits", "url", "What it is for.", ["sc:URL", "wd:Q3985153"]),
    ]
    data = [{"name": name, "url": url} for name, url in _SPLIT_URLS.items()]
    return _inline("splits", "The two splits of every domain.", "name", fields, data)


def _classes(manifest: Manifest) -> dict[str, Any]:
    fields = [
        _field("classes", "label", "Index of the class in a model's outputs.", "sc:Integer"),
        _field("classes", "name", "The class."),
    ]
    data = [{"label": label, "name": name} for label, name in enumerate(manifest.classes)]
    return _inline("classes", "The classes in order.", "name", fields, data)


def _tasks(manifest: Manifest) -> dict[str, Any]:
    fields = [
        _field("tasks", "id", "The task's name."),
        _field("tasks", "sources", "Domains of the source model.", repeated=True),
        _field("tasks", "target", "Domain to adapt to."),
        _field("tasks", "seen", "Classes with target training images.", repeated=True),
        _field("tasks", "missing", "Classes that count as missing.", repeated=True),
    ]
    data = [
        {
            "id": t.id,
            "sources": list(t.sources),
            "target": t.target,
            "seen": list(t.seen),
            "missing": [manifest.classes[i] for i in manifest.missing_mask(t).nonzero()[0]],
        }
        for t in manifest.tasks
    ]
    return _inline("tasks", "The partial-target tasks.", "id", fields, data)
