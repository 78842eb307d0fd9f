"""Render an icon's SVG body to pixels, and measure its drawing style from the pixels."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_manifests.builders.icons.names import OUTLINE_WORDS, SOLID_WORDS

IMAGE_SIZE = 32
# Icons are rendered at twice the final size to measure thin strokes and to smooth them by halving.
RENDER_SIZE = 64
DEFAULT_ICON_SIZE = 16  # Iconify's default if neither the icon nor its set specifies one

# Lengths below are pixels at RENDER_SIZE; shares are of the RENDER_SIZE x RENDER_SIZE area.
INK_ALPHA = 0.5  # a more opaque pixel counts as drawn
MIN_INK_SHARE = 0.03  # below this the drawing is empty or broken
MIN_LONG_SIDE, MIN_SHORT_SIDE = 26, 8  # below this it is a dot or a dash in a large frame
# Half-transparent areas indicate a duotone icon. Edges are half-transparent too, but 3 x 3 erosion
# removes them.
HALF_ALPHA = (0.12, 0.88)
MAX_HALF_SHARE = 0.01
# Thickness is the 95th percentile of the distance from ink to background: about half the width of
# the thickest strokes. Between the two limits the style is ambiguous to a human as well.
THICKNESS_PERCENTILE = 95
MAX_OUTLINE_THICKNESS = 3.3
MIN_SOLID_THICKNESS = 4.5

_ANIMATION = r"<(animate|animateTransform|animateMotion|set)\b"
_EMPTY_ANIMATION = re.compile(_ANIMATION + r"[^>]*?/>")
_FULL_ANIMATION = re.compile(_ANIMATION + r".*?</\1>", flags=re.DOTALL)


def svg_document(icon: Mapping[str, Any], icon_set: Mapping[str, Any]) -> str:
    """Wrap an icon's body in a black, square SVG document, padding the shorter side evenly."""
    width = _dimension("width", icon, icon_set, DEFAULT_ICON_SIZE)
    height = _dimension("height", icon, icon_set, DEFAULT_ICON_SIZE)
    side = max(width, height)
    left = _dimension("left", icon, icon_set, 0) - (side - width) / 2
    top = _dimension("top", icon, icon_set, 0) - (side - height) / 2
    body = _FULL_ANIMATION.sub("", _EMPTY_ANIMATION.sub("", icon["body"]))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{RENDER_SIZE}" height="{RENDER_SIZE}" viewBox="{left} {top} {side} {side}" '
        f'color="#000">{body}</svg>'
    )


def _dimension(
    name: str, icon: Mapping[str, Any], icon_set: Mapping[str, Any], default: float
) -> float:
    value: float = icon.get(name, icon_set.get(name, default))
    return value


def render(svg: str) -> npt.NDArray[np.float32]:
    """Render an SVG document to RGBA, float32 (RENDER_SIZE, RENDER_SIZE, 4), values 0 to 255."""
    import resvg_py  # optional extra

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(np.float32)


def style(
    rgba: npt.NDArray[np.float32], name_words: frozenset[str], *, palette: bool
) -> str | None:
    """Classify an icon's drawing style.

    Args:
        rgba: float32 (RENDER_SIZE, RENDER_SIZE, 4), values 0 to 255.
        name_words: words of the icon's name, which may indicate a style.
        palette: whether the icon's set is in colour.

    Returns:
        ``'outline'``, ``'solid'``, ``'color'``, or None if the icon is unusable: too small, empty,
        duotone, of ambiguous thickness, or named for the other style.
    """
    alpha = rgba[..., 3] / 255.0
    ink = alpha > INK_ALPHA
    if not _is_large_enough(ink):
        return None
    if palette:
        return "color"
    if _half_transparent_share(alpha) > MAX_HALF_SHARE:
        return None
    thickness = _thickness(ink)
    if thickness <= MAX_OUTLINE_THICKNESS and not name_words & SOLID_WORDS:
        return "outline"
    if thickness >= MIN_SOLID_THICKNESS and not name_words & OUTLINE_WORDS:
        return "solid"
    return None


def _is_large_enough(ink: npt.NDArray[np.bool_]) -> bool:
    if ink.mean() < MIN_INK_SHARE:
        return False
    rows, columns = np.where(ink)
    sides = sorted((int(np.ptp(rows)), int(np.ptp(columns))))
    return sides[0] >= MIN_SHORT_SIDE and sides[1] >= MIN_LONG_SIDE


def _half_transparent_share(alpha: npt.NDArray[np.float32]) -> float:
    from scipy.ndimage import binary_erosion  # optional extra

    low, high = HALF_ALPHA
    return float(binary_erosion((alpha > low) & (alpha < high), np.ones((3, 3))).mean())


def _thickness(ink: npt.NDArray[np.bool_]) -> float:
    from scipy.ndimage import distance_transform_edt  # optional extra

    distance = distance_transform_edt(np.pad(ink, 1))
    return float(np.percentile(distance[distance > 0], THICKNESS_PERCENTILE))


def shrink(rgba: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Composite RGBA pixels onto white and downsample to uint8 RGB (IMAGE_SIZE, IMAGE_SIZE, 3)."""
    alpha = rgba[..., 3:] / 255
    on_white = (rgba[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    small = Image.fromarray(on_white).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    return np.asarray(small)


def png_bytes(pixels: npt.NDArray[np.uint8], *, grey: bool) -> bytes:
    """Encode uint8 RGB pixels (height, width, 3) as PNG, with a single channel if ``grey``."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert("L") if grey else image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
