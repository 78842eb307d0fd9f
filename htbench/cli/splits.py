"""`htbench splits`: show a task's splits, and export them for other toolkits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.choices import CLASS_ORDERS, SPLIT_FORMATS
from benchmark.errors import UsageError
from benchmark.text import plural
from htbench.cli.options import LocalPath, json_option, task_option
from htbench.cli.output import print_json, printable
from htbench.progress import log

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.manifest.manifest import Manifest

_EIGHTHS = " ▏▎▍▌▋▊▉"
_WITHHELD = "░"
_COLOURS = {"seen": "blue", "missing": "yellow", "excluded": None}
_MAX_WIDTH = 120  # longer bars are not easier to compare


@click.group("splits")
def command() -> None:
    """Show a task's splits, or export them for other toolkits.

    \b
    Examples:
      htbench splits show icons@2.0 --task outline-solid
      htbench splits export icons@2.0 --task outline-solid --format csv --out outline-solid.csv
    """


@command.command("show")
@click.argument("manifest")
@task_option("Show the counts per class for this task.  [default: counts per task]")
@click.option(
    "--figure",
    metavar="FILE",
    type=LocalPath(dir_okay=False),
    help="Also draw the counts of --task as a figure (.png, .svg or .pdf).",
)
@json_option
def show(manifest: str, task: str | None, figure: Path | None, as_json: bool) -> None:
    """Show how many images each task has for seen and missing classes.

    With --task, show the counts per class of that task.

    \b
    Examples:
      htbench splits show icons@2.0
      htbench splits show icons@2.0 --task outline-solid --figure outline-solid.png
    """
    from benchmark.manifest.catalogue import load_manifest
    from benchmark.manifest.roles import class_counts
    from benchmark.summaries import splits_summary

    if figure is not None and task is None:
        raise UsageError("--figure needs --task TASK, because it draws the classes of one task")
    loaded = load_manifest(manifest)
    tasks = list(loaded.tasks) if task is None else [loaded.task(task)]
    counts = {t.id: class_counts(loaded, t.id) for t in tasks}
    if figure is not None:
        from benchmark.splits.figure import draw

        draw(loaded, tasks[0], counts[tasks[0].id], figure)
    if as_json:
        print_json(splits_summary(loaded, counts))
    elif task is not None:
        _print_classes(loaded, task, counts[task])
    else:
        _print_tasks(loaded, counts)
    if figure is not None:
        click.echo(f"figure  {figure}", err=as_json)


@command.command("export")
@click.argument("manifest")
@task_option("Task whose splits to export.  [default: all, each in its own part of --out]")
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(SPLIT_FORMATS),
    help="Output format (see above).",
)
@click.option(
    "--out",
    required=True,
    metavar="PATH",
    type=LocalPath(),
    help="File or folder to write, depending on the format.",
)
@click.option(
    "--class-order",
    type=click.Choice(list(CLASS_ORDERS)),
    help="Order in which classes are numbered.  [default: manifest, or sorted for imagefolder]",
)
@click.option(
    "--root",
    metavar="DIR",
    type=LocalPath(file_okay=False),
    help="In lists and tables, write the paths of your copy of the data set in this folder.",
)
@click.option(
    "--with-missing-train",
    is_flag=True,
    help="With imagefolder: also write the role train_missing, for oracles.",
)
@click.option("--force", is_flag=True, help="Replace an existing file or export.")
@json_option
def export(
    manifest: str,
    task: str | None,
    form: str,
    out: Path,
    class_order: str | None,
    root: Path | None,
    with_missing_train: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write the splits of a task, or of all tasks, in a format that other toolkits read.

    \b
    Each image has one of these roles. Each role has its own file or folder, or is a value in the
    column `role`:
      source_train   source domains, training images of all classes
      source_test    source domains, test images of all classes
      train          target domain, training images of the seen classes
      train_missing  target domain, training images of the missing classes: oracles only
      test           target domain, test images of the seen and the missing classes
      test_excluded  target domain, test images of all other classes, if there are any

    \b
    Formats:
      txt          folder: <role>.txt with lines `path label`; --root DIR writes the paths of your
                   copy, otherwise they are relative to the data set's root
      csv, parquet, json
                   file: image_id, path, domain, split, role, class, label, seen
      imagefolder  folder: <role>/<class>/<image>, without train_missing unless you add
                   --with-missing-train. Every role has a folder for every class, so that labels
                   are the same in all roles

    \b
    To read --format imagefolder --out images:
      datasets     load_dataset("images")
      torchvision  ImageFolder("images/train", allow_empty=True)
      timm         create_dataset("", "images", split="train", class_map="images/class_map.txt")

    Without --task, --out is a folder with one file or folder per task, named after it. Folders also
    contain classes.txt, the class names in the order of their labels, one per line, and
    export.json, which describes the export.

    \b
    Examples:
      htbench splits export icons@2.0 --task outline-solid --format txt --out lists
      htbench splits export office-home@1.0 --format csv --root ~/OfficeHome --out office-home
      htbench splits export icons@2.0 --task outline-solid --format imagefolder --out images
    """
    from benchmark.folders import expanded
    from benchmark.manifest.catalogue import load_manifest
    from benchmark.splits.export import export_task, file_of_task
    from benchmark.splits.roots import paths_below

    loaded = load_manifest(manifest)
    outs = (
        {t.id: out / file_of_task(t.id, form) for t in loaded.tasks}
        if task is None
        else {task: out}
    )
    paths = paths_below(loaded, expanded(root)) if root else None
    if root and not expanded(root).exists():
        log(f"{root} is not on this machine; the manifest's paths are used below it")
    exported = {
        name: export_task(
            loaded,
            name,
            form,
            place,
            class_order,
            force,
            paths=paths,
            with_missing_train=with_missing_train,
        )
        for name, place in outs.items()
    }
    if as_json:
        about = {"manifest": _shown(loaded), "digest": loaded.digest}
        reports = [
            {**about, "task": name, **vars(one), "out": str(one.out)}
            for name, one in exported.items()
        ]
        print_json(reports if task is None else reports[0])
        return
    for one in exported.values():
        unchanged = "" if one.written else ", unchanged"
        click.echo(printable(f"{one.out}  {form}{unchanged}"))
        click.echo(f"labels  {one.class_order}: {CLASS_ORDERS[one.class_order]}")
        for role, count in one.counts.items():
            click.echo(f"{count:>6}  {role}")


# --- text plots ---------------------------------------------------------------------------------


def _width() -> int:
    return min(_MAX_WIDTH, shutil.get_terminal_size().columns - 1)


def _bar(value: int, most: int, width: int, group: str, withheld: bool = False) -> str:
    """A bar of at most ``width`` cells, padded with spaces to that width."""
    eighths = round(8 * width * value / most) if most else 0
    eighths = max(eighths, 1) if value else 0
    if withheld:
        cells = _WITHHELD * max(1, eighths // 8) if value else ""
    else:
        cells = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return click.style(cells, fg=_COLOURS[group]) + " " * (width - len(cells))


def _print_tasks(manifest: Manifest, counts: dict[str, pd.DataFrame]) -> None:
    from benchmark.manifest.roles import split_totals

    totals = {name: split_totals(frame) for name, frame in counts.items()}
    most = [
        max(t[name] for t in totals.values() for name in t if name.startswith(split))
        for split in ("train", "test")
    ]
    width = _width()
    names = _fit(list(counts), width // 3)
    bar = max(4, (width - len(names[0]) - 12 - 2 * 8) // 2)
    _print_title(f"{_shown(manifest)}: images of the target domain in each task")
    click.echo(f"{'task':<{len(names[0])}}  {'group':<8}  {'train':<{bar + 8}}  test")
    for name, total in zip(names, totals.values(), strict=True):
        for group in ("seen", "missing", "excluded"):
            label = name if group == "seen" else " " * len(name)
            train, test = total.get(f"train_{group}", 0), total[f"test_{group}"]
            if group != "excluded" or test:
                _print_row(label, group, train, test, (most[0], most[1]), bar)
    click.echo(
        f"\n{_WITHHELD} withheld: training images of missing classes, which "
        "only oracle methods may use"
    )


def _shown(manifest: Manifest) -> str:
    from benchmark.manifest.catalogue import shown_reference

    return shown_reference(manifest.reference, manifest.digest)


def _print_classes(manifest: Manifest, task: str, counts: pd.DataFrame) -> None:
    from benchmark.manifest.roles import shown_classes, split_totals

    loaded = manifest.task(task)
    width = _width()
    counts, absent = shown_classes(counts)
    names = _fit(counts["class"].tolist(), width // 3)
    bar = max(4, (width - len(names[0]) - 12 - 2 * 8) // 2)
    total = split_totals(counts)
    _print_title(f"{_shown(manifest)}, {task}: images of {loaded.target} in each class")
    click.echo(
        f"source {' + '.join(loaded.sources)}: {total['source_train']} train, "
        f"{total['source_test']} test\n"
    )
    rows = counts.assign(name=names)
    most = (int(rows["any_train"].max()), int(rows["any_test"].max()))
    click.echo(f"{'class':<{len(names[0])}}  {'group':<8}  {'train':<{bar + 8}}  test")
    for row in _records(rows):
        _print_row(row["name"], row["group"], row["any_train"], row["any_test"], most, bar)
    click.echo()
    for group in ("seen", "missing", "excluded"):
        part = rows[rows["group"] == group]
        if len(part):
            what = {
                "seen": "",
                "missing": f" ({_WITHHELD} withheld; oracle methods only)",
                "excluded": f" ({_WITHHELD} withheld)",
            }[group]
            metric = " (not scored)" if group == "excluded" else ""
            click.echo(
                f"{group:<8} {plural(len(part), 'class')}, {part['any_train'].sum()} train{what}, "
                f"{part['any_test'].sum()} test{metric}"
            )
    if absent:
        click.echo(f"{plural(absent, 'class')} without images in {loaded.target}")


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _print_title(text: str) -> None:
    click.echo(click.style(printable(text), bold=True))


def _fit(names: list[str], width: int) -> list[str]:
    """Names truncated to a width and padded to the same length."""
    names = [printable(n) if len(n) <= width else printable(n[: width - 1]) + "…" for n in names]
    longest = max(5, *map(len, names))
    return [f"{name:<{longest}}" for name in names]


def _print_row(
    name: str, group: str, train: int, test: int, most: tuple[int, int], bar: int
) -> None:
    train_bar = _bar(train, most[0], bar, group, withheld=group != "seen")
    test_bar = _bar(test, most[1], bar, group)
    click.echo(f"{name}  {group:<8}  {train:>6}  {train_bar}  {test:>6}  {test_bar}".rstrip())
