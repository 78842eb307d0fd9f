"""How the figures of a board look: colours, markers, sizes and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from leaderboard.columns import FINETUNE, ORACLE, SOURCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line: TypeAlias = "str | tuple[float, tuple[float, ...]]"

FONT = 7.5  # points
MAX_LABEL = 30  # characters
MUTED, GRID, INK = "#8A8A8A", "#E4E4E4", "#222222"
# Okabe and Ito (2008), distinct with every common colour blindness.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY = "#CC79A7", "#56B4E9"
_DARKER = {ORANGE: "#9A6A00", GREEN: "#007A59", RED: "#B34E00", PINK: "#A34A7B", SKY: "#1F7AB0"}
_FAMILIES = ("DejaVu Sans", "Bitstream Vera Sans", "Verdana", "Arial", "Helvetica")
SETTINGS: dict[str, Any] = {  # see `benchmark.drawing`
    "font.family": "sans-serif",
    "font.sans-serif": list(_FAMILIES),
    "font.size": FONT,
    "axes.labelsize": FONT,
    "axes.titlesize": FONT + 0.5,
    "xtick.labelsize": FONT - 0.5,
    "ytick.labelsize": FONT - 0.5,
    "legend.fontsize": FONT - 0.5,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.visible": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "figure.dpi": 72,  # one pixel is one point
    "figure.facecolor": "white",
}
PNG_DPI = 200


@dataclass(frozen=True)
class Look:
    """How a method is drawn everywhere in a figure: each part alone tells it from others."""

    color: str
    marker: str
    line: Line
    hollow: bool = False

    @property
    def text(self) -> str:
        """The colour of its name: darker where its own would be hard to read on white."""
        return _DARKER.get(self.color, self.color)

    @property
    def face(self) -> str:
        """The colour inside its marker."""
        return "white" if self.hollow else self.color

    def curve(self, **changes: Any) -> dict[str, Any]:
        """The arguments of ``Axes.plot`` for a curve without markers."""
        return {"color": self.color, "linestyle": self.line, **changes}

    def points(self, **changes: Any) -> dict[str, Any]:
        """The arguments of ``Axes.plot`` for markers without a line."""
        return {
            "linestyle": "none",
            "marker": self.marker,
            "markerfacecolor": self.face,
            "markeredgecolor": self.color,
            "markeredgewidth": 0.9,
            **changes,
        }


_FIXED = {
    SOURCE: Look(INK, "s", "-"),
    FINETUNE: Look(RED, "o", (0.0, (4.0, 2.0))),
    ORACLE: Look("#6E6E6E", "*", ":", hollow=True),
}
_OTHERS = ((BLUE, "^"), (ORANGE, "D"), (GREEN, "v"), (PINK, "P"), (SKY, "X"))
_LINES: tuple[Line, ...] = (
    (0.0, (7.0, 1.5)),
    (0.0, (5.0, 1.5, 1.0, 1.5)),
    (0.0, (2.5, 1.0)),
    (0.0, (1.0, 1.0)),
    (0.0, (3.0, 1.0, 1.0, 1.0, 1.0, 1.0)),
)


def looks(labels: Sequence[str]) -> dict[str, Look]:
    """A look for each label: those of the references are fixed, the others follow in order.

    All differ for up to 10 labels besides the references. Hollow markers have the colours of the
    full ones, with other lines.
    """
    chosen: dict[str, Look] = {}
    count = 0
    for label in labels:
        if label in _FIXED:
            chosen[label] = _FIXED[label]
        else:
            cycle, i = divmod(count, len(_OTHERS))
            line = _LINES[(i + 2 * cycle) % len(_LINES)]
            chosen[label] = Look(*_OTHERS[i], line, hollow=cycle % 2 == 1)
            count += 1
    return chosen


def shown(label: str, limit: int = MAX_LABEL) -> str:
    """A label that fits: the middle is cut, because settings differ at the end."""
    if len(label) <= limit:
        return label
    end = (limit - 1) // 2
    return f"{label[: limit - 1 - end]}…{label[-end:]}"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches that can measure its texts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def add_panel(
    figure: Figure, left: float, bottom: float, right: float, top: float, **options: Any
) -> Axes:
    """Axes that leave these margins, in inches."""
    width, height = figure.get_size_inches()
    box = (
        left / width,
        bottom / height,
        (width - left - right) / width,
        (height - bottom - top) / height,
    )
    axes = figure.add_axes(box, **options)
    axes.tick_params(pad=2)
    return axes


def text_inches(text: str, size: float = FONT) -> float:
    """The width of a text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(
        text, FontProperties(size=size), ismath=False
    )
    return float(width) / 72
