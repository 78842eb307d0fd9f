"""The text of a new manifest's README and comments: its rules, counts, and what to edit."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from fractions import Fraction

from benchmark.commands import command
from benchmark.own_data.build import NewManifest
from benchmark.summaries import manifest_summary, task_counts

MAX_LISTED = 1000  # files of one kind that the README lists


def rules(new: NewManifest) -> list[str]:
    """The rules of a manifest, a paragraph each: its split, its tasks and their seen classes."""
    choices = new.choices
    if isinstance(choices.seen, Fraction):
        number = f"{float(choices.seen)} of the task's classes, rounded half up"
    else:
        number = str(choices.seen)
    return [
        new.split_rule,
        "Tasks: every ordered pair of domains. A task's classes are those with training images in "
        "the source and test images in the target. Images of all other classes count in no metric.",
        "Seen classes: sort the task's classes that have training images in the target by the "
        "hexadecimal SHA-256 of the UTF-8 string "
        f'"{choices.name}/seen/<source>/draw<number>/<class>", and take the first: {number}; at '
        "least one class is seen, and at least one is missing. Draw 1 is the task "
        "<source>-<target>; the others end in .draw2 and so on. Each draw has its own order. Runs "
        "read the names from the tasks and never draw again.",
    ]


def readme_text(new: NewManifest, command_line: str) -> str:
    """The README in Markdown.

    Args:
        new: the manifest.
        command_line: the command that wrote it.
    """
    name, summary = new.choices.name, manifest_summary(new.manifest)
    draws = (
        f" `{name}-draws.toml` has the tasks of all {new.choices.draws} draws."
        if new.choices.draws > 1
        else ""
    )
    parts = [
        f"# {new.choices.reference}\n\n{summary['title']}.\n",
        f"Written by:\n\n    {command_line}\n",
        "`manifest.toml` and `images.parquet` are the manifest. The suite "
        f"`{name}.toml` has the tasks of draw 1, all methods and the seeds 0 to 2.{draws}\n",
        "## Images\n\n" + _table(summary["domains"]),
        f"{len(summary['classes'])} classes: {', '.join(summary['classes'])}.\n",
        *_notes(new),
        "## Tasks\n\nClasses, then images of the target.\n\n" + _table(task_counts(summary)),
        f"## Rules\n\n```text\n{wrapped(rules(new))}\n```\n",
        _BEFORE.format(
            reference=new.choices.reference,
            again=command("manifest", "new", f"{name}@1.0", "--from", "FOLDER"),
            take=command("data", "import", "FOLDER", "IMAGES"),
        ),
    ]
    return "\n".join(parts)


def wrapped(paragraphs: Sequence[str]) -> str:
    """Paragraphs as lines of at most 96 characters, with an empty line between two."""
    lines = (textwrap.fill(text, 96, break_on_hyphens=False) for text in paragraphs)
    return "\n\n".join(lines)


def _notes(new: NewManifest) -> list[str]:
    parts = []
    if new.notes:
        parts.append("".join(f"- {note}\n" for note in new.notes))
    if new.left_out.names:
        lists = []
        for kind, names in new.left_out.names.items():
            rest = [f"    and {len(names) - MAX_LISTED} more\n"] if len(names) > MAX_LISTED else []
            lines = [f"    {name!r}\n" for name in names[:MAX_LISTED]]
            lists.append(f"{kind.counted(len(names))}:\n\n{''.join([*lines, *rest])}")
        parts.append("## Left out\n\n" + "\n".join(lists))
    return parts


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    headers = [name.replace("_", " ") for name in rows[0]]
    lines = [headers, ["---"] * len(headers), *(row.values() for row in rows)]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


_BEFORE = """\
## Before you publish

Edit `manifest.toml`:

- `terms` and `citation`: under which terms the images may be used, and what to cite. Add a
  `description`, a `homepage` and, if others can download the images, `mirrors`.
- `[model]`, `[transforms]`, `image_size`: the network and the size of its images.
- `[source]` and `[recipe]`: their values were set without a search. If you choose others, choose
  them on source or seen training images, and say how in `chosen`.

Every change of `manifest.toml` or `images.parquet` is another digest, and results of different
digests are in different tables, so edit before you run what you will publish. A published version
never changes: write the first one to be published with `{again}`
and the same options. Draws do not depend on the version.

`images.parquet` has no pixels. Where this manifest was written, the data folder has links to the
images; if you move them, and on other machines, import them: `{take}`
"""
