"""Draw a contact sheet of the icons: a few images of some classes in each domain."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from data_manifests.building import IMAGES
from data_manifests.icons.build import HERE, VERSION_FOLDER
from data_manifests.icons.selection import DOMAINS

# Objects that look nothing like one another, so that the styles can be compared at a glance.
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
PER_DOMAIN = 5

# Lengths in pixels.
ICON = 48  # one and a half times the size of the images: small ones are hard to see on a page
STEP = 58  # from icon to icon and from row to row
DOMAIN_GAP = 30
MARGIN = 22
LABEL_WIDTH = 142
HEADER_HEIGHT = 46
FONT_SIZE = 17
INK, FAINT, PAPER = "#1f2328", "#d8dee4", "#ffffff"
COLOURS = 192  # of the palette that keeps the file small


class Images:
    """The images of images.parquet by class and domain."""

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
        """Return up to ``count`` images of different icon sets, the same ones every time."""
        rows = sorted(self._rows[class_name, domain], key=lambda row: _sha256(row["image_id"]))
        one_per_set = {row["group"]: row for row in reversed(rows)}
        chosen = [row for row in rows if one_per_set[row["group"]] is row][:count]
        return [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in chosen]


def draw_sheet(images: Images, classes: Sequence[str], per_domain: int) -> Image.Image:
    """Draw one row for each class, with ``per_domain`` images in each domain."""
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


@click.command()
@click.option("--all-classes", is_flag=True, help="Show every class, not a choice.")
@click.option("--per-domain", default=PER_DOMAIN, show_default=True, help="Images in each domain.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=HERE / "contact-sheet.png",
    help="PNG file to write.  [default: contact-sheet.png beside this program]",
)
def main(all_classes: bool, per_domain: int, out: Path) -> None:
    """Draw a contact sheet of the icons.

    \b
    The sheet in the README:
      python -m data_manifests.icons.sheet
    Look over all classes:
      python -m data_manifests.icons.sheet --all-classes --per-domain 12 --out all.png
    """
    images = Images(VERSION_FOLDER / IMAGES)
    sheet = draw_sheet(images, images.classes if all_classes else SHOWN, per_domain)
    sheet.quantize(COLOURS).save(out, optimize=True)


if __name__ == "__main__":
    main()
