"""Compare two manifests: what was added, removed or changed, by image, class and task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.manifest.manifest import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, Manifest

EXAMPLES = 5
# Column of images.parquet -> name of the change when the value differs for the same image_id.
_CHANGES = {
    "split": "moved_between_splits",
    "class": "relabelled",
    "domain": "moved_between_domains",
    "path": "renamed",
    "sha256": "other_pixels",
    "group": "regrouped",
    "datetime": "other_datetime",
}
assert {"image_id", *_CHANGES} == {*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS}


def compare(a: Manifest, b: Manifest) -> dict[str, Any]:
    """Compare two manifests; images are matched by ``image_id``.

    Everything that a digest covers is compared: the result is ``equal`` exactly if all lists are
    empty, all counts 0 and all flags false.

    Returns:
        A value that can be written as JSON:

        - ``a``, ``b``: ``manifest`` and ``digest``; ``equal``: whether the digests are equal.
        - ``document``: ``{"key", "a", "b"}`` for each value of ``manifest.toml`` that differs
          (None if it is absent), keys joined by dots.
        - ``classes``: ``added``, ``removed`` (names), ``reordered``: whether the common classes
          are in another order.
        - ``images``: for ``added``, ``removed``, ``moved_between_splits``, ``relabelled``, ...:
          ``count`` and ``first`` offenders, by ``image_id``; ``columns_added`` and
          ``columns_removed``.
        - ``tasks``: ``added``, ``removed`` (ids), ``reordered``, and ``changed``: ``task``,
          ``seen_added``, ``seen_removed``, ``seen_reordered``, the same of ``missing`` where both
          name them, and other ``fields`` as in ``document``.
    """
    return {
        "a": {"manifest": a.reference, "digest": a.digest},
        "b": {"manifest": b.reference, "digest": b.digest},
        "equal": a.digest == b.digest,
        "document": _document(a, b),
        "classes": _names(a.classes, b.classes),
        "images": _images(a, b),
        "tasks": _tasks(a, b),
    }


def _names(a: Sequence[str], b: Sequence[str]) -> dict[str, Any]:
    common = set(a) & set(b)
    return {
        "added": [name for name in b if name not in common],
        "removed": [name for name in a if name not in common],
        "reordered": [n for n in a if n in common] != [n for n in b if n in common],
    }


def _document(a: Manifest, b: Manifest) -> list[dict[str, Any]]:
    """Differences of the document except classes and tasks; domains are matched by name."""

    def by_name(manifest: Manifest) -> dict[str, Any]:
        document = {k: v for k, v in manifest.document.items() if k not in ("classes", "tasks")}
        domains = {entry["name"]: entry for entry in document.pop("domains")}
        return document | {"domains": list(domains), "domain": domains}

    return _values(by_name(a), by_name(b))


def _values(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    one, other = _flat(a), _flat(b)
    return [
        {"key": key, "a": one.get(key), "b": other.get(key)}
        for key in sorted(one.keys() | other.keys())
        # As in the digest, 1, 1.0 and true are three different values.
        if json.dumps(one.get(key), sort_keys=True) != json.dumps(other.get(key), sort_keys=True)
    ]


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"recipe": {"steps": 1}}`` as ``{"recipe.steps": 1}``; an empty table is a value."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = prefix + key
        if isinstance(item, Mapping) and item:
            flat |= _flat(item, f"{name}.")
        else:
            flat[name] = item
    return flat


def _images(a: Manifest, b: Manifest) -> dict[str, Any]:
    one = a.table.to_pandas().set_index("image_id")
    other = b.table.to_pandas().set_index("image_id")
    common = one.index.intersection(other.index)
    result: dict[str, Any] = {
        "added": _offenders(sorted(other.index.difference(one.index))),
        "removed": _offenders(sorted(one.index.difference(other.index))),
    }
    left, right = one.loc[common], other.loc[common]
    for column, name in _CHANGES.items():
        if column not in one or column not in other:
            continue
        was, now = left[column].astype(object), right[column].astype(object)
        differ = (was != now) & ~(was.isna() & now.isna())
        rows = zip(common[differ], was[differ], now[differ], strict=True)
        result[name] = _offenders(
            [{"image_id": i, "a": _text(x), "b": _text(y)} for i, x, y in sorted(rows, key=_first)]
        )
    columns = _names(list(one.columns), list(other.columns))
    return result | {"columns_added": columns["added"], "columns_removed": columns["removed"]}


def _first(row: tuple[str, Any, Any]) -> str:
    return row[0]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None  # pandas holds NaN for an absent value


def _offenders(items: Sequence[Any]) -> dict[str, Any]:
    return {"count": len(items), "first": list(items[:EXAMPLES])}


def _tasks(a: Manifest, b: Manifest) -> dict[str, Any]:
    one = {entry["id"]: entry for entry in a.document["tasks"]}
    other = {entry["id"]: entry for entry in b.document["tasks"]}
    changed = []
    for task in one.keys() & other.keys():
        was, now = dict(one[task]), dict(other[task])
        entry: dict[str, Any] = {}
        for group in ("seen", "missing"):
            if group in was and group in now:
                names = _names(was.pop(group), now.pop(group))
                entry |= {f"{group}_{key}": value for key, value in names.items()}
        entry["fields"] = _values(was, now)
        if any(entry.values()):
            changed.append({"task": task, **entry})
    order = list(one)
    changed.sort(key=lambda entry: order.index(entry["task"]))
    return {**_names(list(one), list(other)), "changed": changed}
