"""The roles of images, worked out from the two files of a manifest one row at a time."""

from __future__ import annotations

import pandas as pd

from benchmark.manifest.manifest import Manifest

TASK = "outline+solid-color"  # a task with two sources


def expected_roles(manifest: Manifest, task: str) -> pd.DataFrame:
    """The rows of a task with their role and whether their class is seen, by image id."""
    (entry,) = [t for t in manifest.document["tasks"] if t["id"] == task]
    rows = []
    for row in pd.read_parquet(manifest.root / "images.parquet").to_dict("records"):
        seen = row["class"] in entry["seen"]
        if row["domain"] in entry["sources"]:
            role = f"source_{row['split']}"
        elif row["domain"] != entry["target"]:
            continue
        elif row["split"] == "test":
            counts = seen or row["class"] in entry.get("missing", [row["class"]])
            role = "test" if counts else "test_excluded"
        else:
            role = "train" if seen else "train_missing"
        rows.append({**row, "role": role, "seen": seen})
    return pd.DataFrame(rows).sort_values("image_id").reset_index(drop=True)


def check_roles(
    frame: pd.DataFrame, manifest: Manifest, task: str, classes: tuple[str, ...]
) -> None:
    """Assert that an export has each image once, with the values of the manifest."""
    truth = expected_roles(manifest, task)
    frame = frame.sort_values("image_id").reset_index(drop=True)
    for column in ("image_id", "path", "domain", "split", "role", "class", "seen"):
        assert frame[column].tolist() == truth[column].tolist(), column
    assert [classes[label] for label in frame["label"]] == truth["class"].tolist()
