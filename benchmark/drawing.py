"""How every figure is drawn with matplotlib and saved, whatever the user's own settings are.

Text is never parsed as mathematics, because names come from plugins and manifests. All settings of
matplotlib are its defaults and those of the figure, and are set back afterwards.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMS = ("svg", "png", "pdf")
# Of the window system and its loop, which a figure has nothing to do with.
_NOT_OURS = ("backend", "interactive", "toolbar", "webagg", "tk.")
_SETTINGS: dict[str, Any] = {
    "text.parse_math": False,
    "text.usetex": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "htbench",  # equal figures have equal ids
    "pdf.fonttype": 42,
}


def form_of(path: Path) -> str:
    """The format that a file's extension names.

    Raises:
        UsageError: it names none.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMS:
        raise UsageError(
            f"cannot draw to {path.name!r}; the file name must end in .{', .'.join(FORMS)}"
        )
    return form


@contextlib.contextmanager
def settings(own: Mapping[str, Any]) -> Iterator[None]:
    """Draw and save figures in this block; nothing of it is left in matplotlib.

    Args:
        own: settings of these figures, by their names in matplotlib.
    """
    import matplotlib as mpl

    defaults = dict(mpl.rcParamsDefault.items())
    ours: Any = {k: v for k, v in defaults.items() if not k.startswith(_NOT_OURS)}
    ours |= {**_SETTINGS, **own}
    with mpl.rc_context(ours), warnings.catch_warnings():
        # The font does not have every letter that a name may have; a box is drawn instead.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def to_bytes(figure: Figure, form: str, **options: Any) -> bytes:
    """The content of a file; equal figures have equal bytes.

    Args:
        figure: the figure.
        form: one of :data:`FORMS`.
        options: of ``Figure.savefig``; ``metadata`` goes into the file.
    """
    date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form, {})
    metadata = {**options.pop("metadata", {}), **date}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata=metadata, **options)
    return buffer.getvalue()
