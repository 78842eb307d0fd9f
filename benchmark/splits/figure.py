"""Draw how many images each seen and missing class has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.drawing import form_of, settings, to_bytes
from benchmark.errors import DataError
from benchmark.files import check_output, write_file
from benchmark.manifest.catalogue import shown_reference
from benchmark.manifest.roles import shown_classes
from benchmark.text import plural

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from benchmark.manifest.manifest import Manifest, Task

# Blue and orange of Okabe and Ito (2008): distinct with every common colour blindness, and in
# greyscale prints, where the orange is lighter.
SEEN, MISSING = "#0072B2", "#E69F00"
EXCLUDED = "#999999"
COLUMN_ROWS = 72  # classes per column; more classes take further columns
ROW_INCHES = 0.165
PANEL_INCHES = 1.55  # one of the two panels of a column
HEAD_INCHES, FOOT_INCHES = 1.4, 0.45
FONT = 7.5


def draw(manifest: Manifest, task: Task, counts: pd.DataFrame, out: Path) -> None:
    """Draw training and test images of every class of a task's target domain.

    Args:
        manifest: the manifest; its reference is in the title.
        task: the task that the counts are of.
        counts: from :func:`benchmark.manifest.roles.class_counts`.
        out: the file; its extension, one of :data:`benchmark.drawing.FORMS`, decides the format.

    Raises:
        UsageError: unknown extension.
        DataError: the file cannot be written.
    """
    form = form_of(out)
    with settings({"font.size": FONT}):
        content = to_bytes(_figure(manifest, task, counts), form, dpi=150)
    try:
        check_output(out)
        write_file(out, content)
    except OSError as error:
        raise DataError(
            f"cannot write {out}: {error.strerror}; choose another path with --figure"
        ) from None


def _figure(manifest: Manifest, task: Task, counts: pd.DataFrame) -> Figure:
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    rows, _ = shown_classes(counts)
    columns = -(-len(rows) // COLUMN_ROWS)
    deep = -(-len(rows) // columns)  # columns of equal length
    longest = max(len(name) for name in rows["class"])
    name_inches = 0.25 + min(longest, 40) * FONT / 72 * 0.56
    column_inches = name_inches + 2 * PANEL_INCHES + 0.2
    width = max(5.5, columns * column_inches)  # the title needs 5.5 inches
    height = HEAD_INCHES + FOOT_INCHES + deep * ROW_INCHES
    figure = Figure(figsize=(width, height), facecolor="white")
    most = {name: max(1, int(rows[name].max())) for name in ("any_train", "any_test")}
    for index in range(columns):
        part = rows.iloc[index * deep : (index + 1) * deep]
        left = index * width / columns + name_inches
        panel = (width / columns - name_inches - 0.2) / 2
        for place, name in enumerate(most):
            box = (
                (left + place * panel) / width,
                (FOOT_INCHES + (deep - len(part)) * ROW_INCHES) / height,
                (panel - 0.12) / width,
                len(part) * ROW_INCHES / height,
            )
            axes = figure.add_axes(box)
            _bars(axes, part, name, most[name])
            axes.set_title(name.removeprefix("any_"), fontsize=FONT + 1, pad=4)
            if place == 0:
                axes.set_yticks(range(len(part)), [_short(c) for c in part["class"]])
            else:
                axes.set_yticks([])
    shown = shown_reference(manifest.reference, manifest.digest)
    figure.text(
        0.15 / width,
        1 - 0.15 / height,
        f"{shown}   {' + '.join(task.sources)} → {task.target}",
        fontsize=11,
        fontweight="bold",
        va="top",
    )
    figure.text(
        0.15 / width,
        1 - 0.40 / height,
        f"task {task.id}: images of {task.target} in each of {plural(len(rows), 'class')}",
        va="top",
    )
    figure.legend(
        handles=_legend(rows),
        loc="upper left",
        bbox_to_anchor=(0.15 / width, 1 - 0.55 / height),
        ncols=4 if width > 8 else 1,
        frameon=False,
        borderaxespad=0,
        borderpad=0,
        labelspacing=0.2,
        handlelength=1.6,
    )
    return figure


def _legend(rows: pd.DataFrame) -> list[Patch]:
    """What each colour means, with the numbers of classes and images."""
    from matplotlib.patches import Patch

    parts = {group: rows[rows["group"] == group] for group in ("seen", "missing", "excluded")}
    seen, missing, excluded = parts.values()
    withheld = missing["any_train"].sum() + excluded["any_train"].sum()
    tests = {group: part["any_test"].sum() for group, part in parts.items()}
    handles = [
        Patch(
            facecolor=SEEN,
            label=f"seen: {plural(len(seen), 'class')}, {seen['any_train'].sum()} train, "
            f"{tests['seen']} test",
        ),
        Patch(
            facecolor=MISSING,
            label=f"missing: {plural(len(missing), 'class')}, {tests['missing']} test",
        ),
        Patch(
            facecolor="white",
            edgecolor=MISSING,
            hatch="//////",
            linewidth=0.8,
            label=f"withheld (oracle methods only): {withheld} train",
        ),
    ]
    if len(excluded):
        label = f"not scored: {plural(len(excluded), 'class')}, {tests['excluded']} test"
        handles.append(Patch(facecolor=EXCLUDED, label=label))
    return handles


def _bars(axes: Axes, part: pd.DataFrame, name: str, most: int) -> None:
    """Draw the bars of one panel, each with its count at the end."""
    values = part[name].to_numpy()
    for index, (value, group) in enumerate(zip(values, part["group"], strict=True)):
        colour = {"seen": SEEN, "missing": MISSING, "excluded": EXCLUDED}[group]
        style: dict[str, Any] = {"color": colour}
        if group != "seen" and name == "any_train":  # withheld
            style = {"facecolor": "white", "edgecolor": colour, "hatch": "//////"}
        axes.barh(index, value, height=0.72, linewidth=0.8, **style)
        axes.text(
            value + most * 0.03,
            index,
            str(value),
            va="center",
            fontsize=FONT - 1.5,
            color="#404040",
        )
    axes.set_xlim(0, most * 1.22)  # room for the count of the longest bar
    axes.set_ylim(len(part) - 0.5, -0.5)
    axes.set_xticks([])
    axes.tick_params(length=0, pad=3)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color("#808080")


def _short(name: str) -> str:
    """Shorten a class name to fit beside its bar."""
    return name if len(name) <= 40 else name[:39] + "…"
