"""Build the manifest of a user's own data set; nothing is written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError, first
from benchmark.images.copy.archive import SUFFIXES as ARCHIVES
from benchmark.manifest.catalogue import check_free_name
from benchmark.manifest.manifest import MANIFEST_FILE, Manifest
from benchmark.manifest.read import check_manifest
from benchmark.manifest.reader import MAX_NAME, NAME, VERSION
from benchmark.manifest.rules import FORMAT
from benchmark.networks.names import parse_network
from benchmark.own_data.contents import read_images
from benchmark.own_data.folder import list_folder
from benchmark.own_data.listing import Entry, LeftOut, Listing
from benchmark.own_data.names import check_names, domain_names
from benchmark.own_data.recipe import DEFAULT_MODEL, OWN_MODEL, network_settings
from benchmark.own_data.splits import assign_splits, group_by
from benchmark.own_data.table import list_table
from benchmark.own_data.tasks import draw_tasks
from benchmark.progress import Progress

FIRST_VERSION = "0.1"


@dataclass(frozen=True)
class Choices:
    """What the user chose.

    Attributes:
        name, version: of the manifest.
        origin: the folder or CSV file of the images.
        seen: seen classes of a task, as a number or a share.
        draws: draws of the seen classes for each pair of domains.
        train: share of training images.
        group_by: regular expression that finds an image's group in its path.
        model: the network, as ``--model`` takes it.
    """

    name: str
    version: str
    origin: Path
    seen: int | Fraction = Fraction(1, 2)
    draws: int = 3
    train: Fraction | None = None
    group_by: str | None = None
    model: str = DEFAULT_MODEL

    @property
    def reference(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


DEFAULT_TRAIN = Fraction(7, 10)


@dataclass(frozen=True)
class NewManifest:
    """A manifest that is not written yet.

    Attributes:
        choices: what the user chose.
        document: the content of ``manifest.toml``.
        entries: its images.
        split_rule: which images are in train and in test, in words.
        left_out: files that are not among the images.
        notes: sentences for the user.
    """

    choices: Choices
    document: Mapping[str, Any]
    entries: Sequence[Entry]
    split_rule: str
    left_out: LeftOut
    notes: Sequence[str]

    @cached_property
    def manifest(self) -> Manifest:
        """The checked manifest in memory; it has no folder yet.

        Raises:
            ManifestError: it breaks a rule.
        """
        import pyarrow as pa

        columns = {
            "image_id": [entry.path for entry in self.entries],
            "domain": [entry.domain for entry in self.entries],
            "class": [entry.class_name for entry in self.entries],
            "split": [entry.split for entry in self.entries],
            "path": [entry.path for entry in self.entries],
            "sha256": [entry.sha256 for entry in self.entries],
        }
        if any(entry.group is not None for entry in self.entries):
            columns["group"] = [entry.group or entry.path for entry in self.entries]
        table = pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})
        manifest = Manifest(Path(), self.document, table.sort_by("image_id"))
        check_manifest(manifest, self.choices.reference)
        return manifest


def parse_reference(text: str) -> tuple[str, str]:
    """The name and version of ``NAME`` or ``NAME@VERSION``; the first version is ``0.1``.

    Raises:
        UsageError: it is not of this form, or is the name of a published data set.
    """
    name, at, version = text.partition("@")
    if name.lower() == MANIFEST_FILE.removesuffix(".toml"):
        raise UsageError(
            f"{text[:100]!r} cannot name a manifest, because its suite would have the file name "
            f"{MANIFEST_FILE}; choose another name"
        )
    if not NAME.fullmatch(name) or (at and not VERSION.fullmatch(version)):
        raise UsageError(
            f"{text[:100]!r} cannot name a manifest; use up to {MAX_NAME} letters, digits, "
            "dots, dashes and underscores, and a version such as 0.1 or 1.0: NAME or NAME@VERSION"
        )
    check_free_name(name)
    return name, version or FIRST_VERSION


def build_manifest(choices: Choices, progress: Progress) -> NewManifest:
    """Build a manifest from a folder or a CSV file of images.

    Args:
        choices: what the user chose.
        progress: called with the number of images read and their total.

    Raises:
        UsageError: the folder, the file or an option cannot be used; the message says what there is
            and what to do.
    """
    model = parse_network(choices.model, OWN_MODEL)
    listing = _list(choices.origin)
    entries = listing.entries
    if entries[0].split is not None and choices.train is not None:
        raise UsageError(
            f"{choices.origin} says which images are in train and in test, so --train has no "
            "effect; leave it out, or use a folder or CSV file without splits"
        )
    check_names(entries)
    _check_counts(choices.origin, entries)
    if choices.group_by is not None:
        entries = group_by(entries, choices.group_by)
    listing.entries = entries
    entries = read_images(listing, progress)
    if not entries:
        raise UsageError(
            f"{choices.origin} has no images that can be used: "
            + "; ".join(listing.left_out.lines())
        )
    _check_counts(choices.origin, entries)
    names = domain_names(entry.domain for entry in entries)
    folders = {name: folder for folder, name in names.items()}
    listing.notes += [
        f"the domain {folder!r} is named {name}" for folder, name in names.items() if folder != name
    ]
    entries = [replace(entry, domain=names[entry.domain]) for entry in entries]
    entries, split_rule = assign_splits(entries, choices.train or DEFAULT_TRAIN)
    classes, domains = sorted({entry.class_name for entry in entries}), sorted(folders)
    tasks, notes = draw_tasks(
        entries, classes, domains, choices.seen, choices.draws, prefix=choices.name
    )
    document = {
        **_head(choices, classes, domains),
        **_training(model, entries, tasks),
        "classes": classes,
        "domains": [{"name": name, "folders": [folders[name]]} for name in domains],
        "tasks": tasks,
    }
    return NewManifest(
        choices, document, entries, split_rule, listing.left_out, [*listing.notes, *notes]
    )


def _head(choices: Choices, classes: Sequence[str], domains: Sequence[str]) -> dict[str, Any]:
    """The entries of a manifest that say what it is."""
    return {
        "format": FORMAT,
        "name": choices.name,
        "version": choices.version,
        "title": f"{choices.name}: {len(classes)} classes in {_listed(domains)}",
        "terms": "Not stated yet: write here under which terms the images may be used.",
        "citation": f"""\
@misc{{{choices.name},
  title = {{{choices.name}}},
  note  = {{Not stated yet: write the citation of the data set here}},
}}""",
        "images": "folder",
    }


def _list(origin: Path) -> Listing:
    if origin.is_dir():
        return list_folder(origin)
    if not origin.is_file():  # a pipe or a device may have no end
        what = "is not a regular file" if origin.exists() else "does not exist"
        raise UsageError(f"--from {origin} {what}; give a folder of images or a CSV file")
    if origin.name.lower().endswith(ARCHIVES):
        raise UsageError(f"--from {origin} is an archive; unpack it, and give the folder")
    return list_table(origin)


def _check_counts(origin: Path, entries: Sequence[Entry]) -> None:
    """At least two domains and two classes.

    Raises:
        UsageError: there are fewer.
    """
    domains = sorted({entry.domain for entry in entries})
    classes = sorted({entry.class_name for entry in entries})
    if len(domains) < 2:
        raise UsageError(
            f"{origin} has one domain only, {domains[0]!r}, with the classes {first(classes, 5)}; "
            "a task needs a source and a target domain, so add the folder of another domain: "
            "<domain>/<class>/<image>"
        )
    if len(classes) < 2:
        raise UsageError(
            f"{origin} has one class only, {classes[0]!r}, in the domains {first(domains, 5)}; "
            "a task needs a seen and a missing class: <domain>/<class>/<image>"
        )


def _training(
    model: Mapping[str, Any], entries: Sequence[Entry], tasks: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    train = Counter((e.domain, e.class_name) for e in entries if e.split == "train")
    sources = Counter(entry.domain for entry in entries if entry.split == "train")
    seen = max(sum(train[task["target"], name] for name in task["seen"]) for task in tasks)
    return network_settings(model, max(sources.values()), seen)


def _listed(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{len(names)} domains"
    return f"the domains {', '.join(names[:-1])} and {names[-1]}"
