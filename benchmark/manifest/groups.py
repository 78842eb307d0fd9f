"""The rule of a manifest's column ``group``: none is in both splits of a target. Loads no torch."""

from __future__ import annotations

from benchmark.errors import ManifestError, first
from benchmark.manifest.manifest import Manifest


def check_groups(manifest: Manifest, where: str) -> None:
    """Check that no group of a target domain has images in train and in test.

    A method would be tested on near copies of what it was trained on, such as frames of one video.
    Domains that are sources only have no part in that: what a source model is tested on counts in
    no table.

    Args:
        manifest: its domains and tasks are valid.
        where: names its images in messages.

    Raises:
        ManifestError: a group has; the message names the first ones.
    """
    if "group" not in manifest.table.column_names:
        return
    import pyarrow as pa
    import pyarrow.compute as pc

    targets = pa.array(sorted({task.target for task in manifest.tasks}), pa.string())
    table = manifest.table.select(["domain", "group", "split"])
    is_target = pc.is_in(table["domain"], value_set=targets)
    rows = table.filter(pc.and_(is_target, pc.is_valid(table["group"])))
    sides = rows.group_by(["domain", "group"]).aggregate([("split", "count_distinct")])
    both = sides.filter(pc.greater(sides["split_count_distinct"], 1))
    if len(both):
        names = zip(both["domain"].to_pylist(), both["group"].to_pylist(), strict=True)
        raise ManifestError(
            f"{where}: images of one group are in train and in test: "
            f"{first(sorted(f'{group} in {domain}' for domain, group in names))}; keep the images "
            "of a group in one split of a domain"
        )
