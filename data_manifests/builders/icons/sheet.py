"""Draw a contact sheet of the icons: a few images per class and domain."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from benchmark.folders import packaged_manifests
from benchmark.manifest.manifest import IMAGES_FILE
from data_manifests.builders.icons import VERSION
from data_manifests.builders.icons.manifest_text import NAME
from data_manifests.builders.icons.selection import DOMAINS

# Dissimilar objects, so that the styles can be compared at a glance.
SHOWN = (
    "airplane",
    "bell",
    "bug",
    "bus",
    "cake",
    "camera",
    "crown",
    "fire",
    "gift",
    "headphones",
    "leaf",
    "rocket",
    "umbrella",
)

# Lengths in pixels.
ICON = 48  # 1.5 times the size of the images, which are hard to see on a page
STEP = 58  # distance between icons and between rows
DOMAIN_GAP = 30
MARGIN = 22
LABEL_WIDTH = 142
HEADER_HEIGHT = 46
FONT_SIZE = 17
INK, FAINT, PAPER = "#1f2328", "#d8dee4", "#ffffff"
COLOURS = 192  # palette size, for a small file


class Images:
    """The images in images.parquet by class and domain."""

    def __init__(self, path: Path) -> None:
        self._rows: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        columns = ["image_id", "domain", "class", "group", "image"]
        for row in pq.read_table(path, columns=columns).to_pylist():
            self._rows[row["class"], row["domain"]].append(row)

    @property
    def classes(self) -> list[str]:
        """All class names, sorted."""
        return sorted({class_name for class_name, _ in self._rows})

    def sample(self, class_name: str, domain: str, count: int) -> list[Image.Image]:
        """Return up to ``count`` images from different families; deterministic."""
        rows = sorted(self._rows[class_name, domain], key=lambda row: _sha256(row["image_id"]))
        one_per_family = {row["group"]: row for row in reversed(rows)}
        chosen = [row for row in rows if one_per_family[row["group"]] is row][:count]
        return [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in chosen]


def draw_sheet(images: Images, classes: Sequence[str], per_domain: int) -> Image.Image:
    """Draw one row per class, with ``per_domain`` images in each domain."""
    domain_width = per_domain * STEP - (STEP - ICON)
    lefts = [
        MARGIN + LABEL_WIDTH + index * (domain_width + DOMAIN_GAP) for index in range(len(DOMAINS))
    ]
    width = lefts[-1] + domain_width + MARGIN
    height = MARGIN + HEADER_HEIGHT + len(classes) * STEP - (STEP - ICON) + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for left, domain in zip(lefts, DOMAINS, strict=True):
        pen.text((left + domain_width / 2, MARGIN), domain, INK, font, anchor="mt")
        rule = MARGIN + HEADER_HEIGHT - 20
        pen.line((left, rule, left + domain_width, rule), FAINT, 2)
    for index, class_name in enumerate(classes):
        top = MARGIN + HEADER_HEIGHT + index * STEP
        pen.text((MARGIN, top + ICON / 2), class_name.replace("-", " "), INK, font, anchor="lm")
        for left, domain in zip(lefts, DOMAINS, strict=True):
            _paste_row(sheet, images.sample(class_name, domain, per_domain), left, top)
    return sheet


def _paste_row(sheet: Image.Image, icons: Iterable[Image.Image], left: int, top: int) -> None:
    for index, icon in enumerate(icons):
        large = icon.resize((ICON, ICON), Image.Resampling.LANCZOS)
        sheet.paste(large, (left + index * STEP, top))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_sheet(path: Path, per_domain: int, *, all_classes: bool) -> None:
    """Draw the contact sheet of the published images and write it as PNG.

    Args:
        path: the PNG file.
        per_domain: number of images per class and domain.
        all_classes: show all classes instead of ``SHOWN``.
    """
    images = Images(packaged_manifests() / NAME / VERSION / IMAGES_FILE)
    sheet = draw_sheet(images, images.classes if all_classes else SHOWN, per_domain)
    sheet.quantize(COLOURS).save(path, optimize=True)
