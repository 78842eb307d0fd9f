"""Write the leaderboard as a folder of pages: what the pages need beyond the boards."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from benchmark.citations import short_reference
from benchmark.images.store.embedded import embedded_images
from benchmark.manifest.catalogue import pinned_digests
from benchmark.manifest.manifest import Manifest
from benchmark.methods.find import entry_point_sources
from htbench.methods import describe_methods, method_entries
from leaderboard.board import Board
from leaderboard.render.figures.request import LogOf
from leaderboard.render.site import Definition, write_site


def write_boards_site(folder: Path, boards: Sequence[Board], log_of: LogOf | None = None) -> None:
    """Write the boards of a suite as pages that open from disk.

    Args:
        folder: absent, empty, or a site that this function wrote.
        boards: as ``suite_boards`` returns them.
        log_of: reads the training log of a row's run; None where only rows are known.

    Raises:
        UsageError: there are no boards, or the folder has other files.
        MethodError: an installed method cannot be described.
    """
    manifest = boards[0].manifest if boards else None
    images = shown_images(manifest) if manifest else {}
    write_site(folder, boards, definitions(boards), images, log_of)


def definitions(boards: Sequence[Board]) -> dict[str, Definition]:
    """What the installed methods of some boards declare, by name."""
    names = {label.partition("(")[0] for board in boards for label in board.labels}
    installed = tuple(name for name in entry_point_sources() if name in names)
    if not installed:
        return {}
    suite = dataclasses.replace(boards[0].suite, methods=installed)
    return {
        entry["method"]: Definition(
            summary=entry["summary"],
            origin=entry["from"],
            base=entry["base"],
            needs=tuple(entry["needs"]),
            fields=entry["fields"],
            papers=tuple(short_reference(key) for key in entry["papers"]),
        )
        for entry in method_entries(describe_methods(suite), derived=True)
    }


def shown_images(manifest: Manifest) -> dict[str, bytes]:
    """The images that ship with the benchmark and may be shown, by id; none of other data sets."""
    is_published = pinned_digests().get(manifest.reference) == manifest.digest
    if not is_published or manifest.document.get("images") != "embedded":
        return {}
    return {
        image_id: data
        for domain in manifest.domains
        for image_id, data in embedded_images(manifest, domain.name)
    }
