"""Select the icons that become images, by licence, name, style, similarity and number.

Nothing is random. Arbitrary choices follow the MD5 of a name, which is the same on every machine
and does not favour sets early in the alphabet.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_manifests.builders.icons import drawing
from data_manifests.builders.icons.classes import ALIASES
from data_manifests.builders.icons.names import UNWANTED_WORDS, normalise, words
from data_manifests.builders.icons.package import IconPackage

DOMAINS = ("outline", "solid", "color")

LICENCES = frozenset(
    {"MIT", "Apache-2.0", "ISC", "CC0-1.0", "BSD-3-Clause", "Unlicense", "CC-BY-4.0"}
)
# Brand marks (trade marks, whatever the licence), file types and flags do not show objects.
UNWANTED_CATEGORIES = frozenset({"Logos", "Programming", "Flags / Maps"})
ANIMATED_SETS = frozenset({"line-md", "svg-spinners"})

MAX_PER_SET = 2  # per class and domain, so that no icon set dominates
# Two icons of a class and domain whose 16 x 16 thumbnails differ by less (root mean square, of 255)
# count as the same drawing, often copied between sets; the first in MD5 order is kept.
THUMBNAIL_SIZE = 16
MIN_DISTANCE = 20.0
N_CLASSES = 65  # the number of classes in Office-Home
# Classes are ranked by the count of their scarcest style, up to ENOUGH. Outline and solid icons are
# more common, so their counts are divided first.
SCARCITY_DIVISORS = {"outline": 3, "solid": 2, "color": 1}
ENOUGH = 12.5
MAX_PER_CLASS = {"outline": 60, "solid": 48, "color": 24}


@dataclass(frozen=True, eq=False)
class Icon:
    """One rendered icon; ``pixels`` is uint8 RGB (32, 32, 3)."""

    icon_set: str
    name: str
    class_name: str
    domain: str
    pixels: npt.NDArray[np.uint8]

    @property
    def image_id(self) -> str:
        """The image id in the manifest: ``<icon set>/<icon>``."""
        return f"{self.icon_set}/{self.name}"


# The icons of one class in one domain, by (class, domain).
Groups = dict[tuple[str, str], list[Icon]]


def usable_sets(collections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the sorted names of the icon sets with an open licence and suitable subjects."""
    return sorted(
        name
        for name, metadata in collections.items()
        if metadata["license"].get("spdx") in LICENCES
        and metadata.get("category") not in UNWANTED_CATEGORIES
        and name not in ANIMATED_SETS
    )


def candidates(package: IconPackage, icon_sets: Iterable[str]) -> Iterator[Icon]:
    """Render the icons of the given sets whose name maps to a class and whose style is clear."""
    class_of = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
    for set_name in icon_sets:
        metadata = package.collections[set_name]
        icon_set = package.icon_set(set_name)
        palette = bool(metadata.get("palette"))
        for name, icon in sorted(icon_set["icons"].items()):
            class_name = class_of.get(normalise(name))
            if class_name is None or icon.get("hidden") or words(name) & UNWANTED_WORDS:
                continue
            if class_name == "mouse" and _is_animal(name, metadata):
                continue
            rgba = drawing.render(drawing.svg_document(icon, icon_set))
            domain = drawing.style(rgba, words(name), palette=palette)
            if domain is not None:
                yield Icon(set_name, name, class_name, domain, drawing.shrink(rgba))


def _is_animal(name: str, metadata: Mapping[str, Any]) -> bool:
    """Return whether a mouse is the animal: coloured emoji sets call the device computer-mouse."""
    return (
        bool(metadata.get("palette"))
        and metadata.get("category") == "Emoji"
        and "computer" not in name
    )


def distinct(icons: Iterable[Icon]) -> Groups:
    """Group icons by class and domain, without near-duplicates, at most MAX_PER_SET per set."""
    groups: defaultdict[tuple[str, str], list[Icon]] = defaultdict(list)
    for icon in icons:
        groups[icon.class_name, icon.domain].append(icon)
    return {key: _distinct_in_group(group) for key, group in sorted(groups.items())}


def _distinct_in_group(group: Iterable[Icon]) -> list[Icon]:
    kept: list[Icon] = []
    thumbnails: list[npt.NDArray[np.float32]] = []
    per_set: Counter[str] = Counter()
    for icon in sorted(group, key=lambda icon: _md5(icon.image_id)):
        if per_set[icon.icon_set] >= MAX_PER_SET:
            continue
        thumbnail = _thumbnail(icon.pixels)
        if thumbnails and _distance(np.stack(thumbnails), thumbnail) < MIN_DISTANCE:
            continue
        kept.append(icon)
        thumbnails.append(thumbnail)
        per_set[icon.icon_set] += 1
    return kept


def _thumbnail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    size = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX), np.float32)


def _distance(thumbnails: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Return the root mean square difference of ``other`` to the nearest of N thumbnails."""
    return float(np.sqrt(((thumbnails - other) ** 2).mean((1, 2, 3))).min())


def choose_classes(groups: Groups) -> list[str]:
    """Return the N_CLASSES classes with the most icons in their scarcest style, sorted by name."""

    def rank(class_name: str) -> tuple[float, int, str]:
        counts = {domain: len(groups.get((class_name, domain), ())) for domain in DOMAINS}
        scarcest = min(counts[domain] / SCARCITY_DIVISORS[domain] for domain in DOMAINS)
        return -min(scarcest, ENOUGH), -counts["outline"] - counts["solid"], class_name

    return sorted(sorted(ALIASES, key=rank)[:N_CLASSES])


def choose_icons(groups: Groups) -> list[Icon]:
    """Return the icons of the data set, at most MAX_PER_CLASS per class and domain, in id order."""
    chosen: list[Icon] = []
    for class_name in choose_classes(groups):
        for domain in DOMAINS:
            group = sorted(groups[class_name, domain], key=lambda i: _md5(f"{i.image_id}/pick"))
            chosen += group[: MAX_PER_CLASS[domain]]
    return sorted(chosen, key=lambda icon: icon.image_id)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
