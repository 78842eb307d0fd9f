"""The texts of a published data set: card, citation, and metadata for archives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from benchmark.citations import BOARD, Citation, citations_of, read_citations, short_reference
from benchmark.manifest.manifest import IMAGES_FILE, Manifest
from benchmark.text import one_line, plural
from leaderboard.board import Board
from leaderboard.render.legend import column_legend, heading_of, interval_legend, main_task
from leaderboard.render.markdown import board_table

RESULTS_FILE = "results.parquet"
BOARD_FILE = "board.parquet"
PREDICTIONS = "predictions"  # the folder
KEYWORDS = ("benchmark", "fine-tuning", "transfer learning", "holistic transfer")
MAX_TEXT = 500  # bytes of a title or a name
MAX_LABELS = 10  # of methods in a line of the changes


@dataclass(frozen=True)
class About:
    """What the user says about a data set: its title, authors, and the SPDX name of a licence."""

    title: str
    authors: tuple[str, ...]
    license: str


@dataclass(frozen=True)
class Change:
    """A change of the published results.

    Attributes:
        version: counted from 1.
        date: when the last run ended, in UTC, such as ``2026-11-22``; None if it is not known.
        added: the number of new rows; ``removed`` and ``changed`` likewise.
        labels: of the methods of these rows.
    """

    version: int
    date: str | None
    added: int
    removed: int
    changed: int
    labels: Sequence[str]


@dataclass(frozen=True)
class Card:
    """What a data set holds.

    Attributes:
        boards: the boards of a suite.
        manifest: the suite's.
        about: what the user says about it.
        changes: of the results, the oldest first.
        has_predictions: whether there is a configuration for predictions.
        has_images: whether the manifest holds its images.
        digest: SHA-256 (hex) of the data, of which a change must change the configurations.
    """

    boards: Sequence[Board]
    manifest: Manifest
    about: About
    changes: Sequence[Change]
    has_predictions: bool
    has_images: bool
    digest: str

    @property
    def folder(self) -> str:
        """The folder of the manifest."""
        return f"manifests/{self.manifest.name}/{self.manifest.version}"

    def configurations(self) -> Iterator[tuple[str, str, str, str]]:
        """Name, split, files and content of each configuration; the first is the default."""
        yield "results", "runs", RESULTS_FILE, "one row for each run and for gamma-star"
        yield "board", "cells", BOARD_FILE, "one row for each table, method and task"
        if self.has_predictions:
            what = "the logits of each run for each test image; `key` is that of results"
            yield "predictions", "samples", f"{PREDICTIONS}/*.parquet", what
        what = "images with domain, class and split" if self.has_images else "names of the images"
        yield "images", "images", f"{self.folder}/{IMAGES_FILE}", what


def metadata_files(card: Card) -> Mapping[str, str]:
    """The content of the card and of the other texts, by file name."""
    return {
        "README.md": _readme(card),
        "CITATION.cff": _citation(card),
        ".zenodo.json": _zenodo(card),
        "references.bib": "\n\n".join(c.bibtex for c in _citations(card)) + "\n",
    }


def _yaml(text: str) -> str:
    """A text as YAML: JSON is a part of it."""
    return json.dumps(one_line(text, MAX_TEXT), ensure_ascii=False)


def _summary(card: Card) -> str:
    suite = card.boards[0].suite
    return (
        f"Results of the suite {suite.name} of Holistic Transfer Bench "
        f"{version('holistic-transfer-bench')} on {card.manifest.reference}: fine-tuning with "
        "partial target data, where a model adapts to a new domain with images of some classes "
        "and must not lose the others."
    )


def _readme(card: Card) -> str:
    board, manifest = card.boards[0], card.manifest
    task = main_task(board)
    lines = ["---", f"pretty_name: {_yaml(card.about.title)}"]
    lines += [f"license: {card.about.license.lower()}", "task_categories:"]
    lines += ["- image-classification", "tags:", *(f"- {_yaml(word)}" for word in KEYWORDS)]
    lines += ["configs:"]
    for number, (name, split, path, _) in enumerate(card.configurations()):
        lines += [f"- config_name: {name}", *(["  default: true"] if number == 0 else [])]
        lines += ["  data_files:", f"  - split: {split}", f"    path: {_yaml(path)}"]
        # `datasets` caches a local folder by its name and these entries, whatever is in its files.
        lines += [f"  description: {_yaml(f'SHA-256 of the data: {card.digest}')}"]
    lines += ["---", "", f"# {one_line(card.about.title, MAX_TEXT)}", "", _summary(card), ""]
    lines += ["## Load it", "", "| configuration | split | files | content |", "|---|---|---|---|"]
    lines += [f"| `{n}` | `{s}` | `{p}` | {what} |" for n, s, p, what in card.configurations()]
    lines += [
        "",
        "```python",
        "from pathlib import Path",
        "",
        "from datasets import load_dataset",
        "",
        "folder = str(Path.cwd())  # this folder, or the name of this data set on the Hub",
        'runs = load_dataset(folder, "results", split="runs")',
        "```",
        "",
        "`site/index.html` shows the same results as pages. `sha256sum -c SHA256SUMS` checks all "
        f"files. `{card.folder}/` is the manifest {manifest.reference}, which fixes images, "
        "splits and tasks, with its Croissant metadata; "
        f"`htbench manifest digest {card.folder}` prints its digest, which is "
        f"`{manifest.digest}`.",
        "",
        f"## {heading_of(task, board)}",
        "",
        board_table(board, task),
        "",
        *(f"- {line}" for line in interval_legend(board)),
        *(f"- {line}" for line in column_legend(board)),
        "",
        "## Changes",
        "",
        *(f"- {_change(change)}" for change in reversed(card.changes)),
        "",
        "## Licence and citation",
        "",
        f"The results are licensed under {card.about.license} by "
        f"{', '.join(one_line(author, MAX_TEXT) for author in card.about.authors)}. For the data "
        "set, its terms hold:",
        "",
        *(f"> {line}" for line in manifest.document["terms"].strip().splitlines()),
        "",
        "Cite what `CITATION.cff` names, and the papers of the benchmark, the data and the methods "
        "in `references.bib`.",
    ]
    return "\n".join(lines) + "\n"


def _change(change: Change) -> str:
    labels = [f"`{one_line(label, MAX_TEXT).replace('`', '')}`" for label in change.labels]
    if len(labels) > MAX_LABELS:
        labels[MAX_LABELS:] = [f"{len(labels) - MAX_LABELS} more"]
    counts = {"added": change.added, "removed": change.removed, "changed": change.changed}
    texts = [f"{plural(count, 'row')} {what}" for what, count in counts.items() if count]
    when = f" ({change.date})" if change.date else ""
    return f"Version {change.version}{when}: {', '.join(texts)}: {', '.join(labels)}."


def _citation(card: Card) -> str:
    last = card.changes[-1]
    lines = [
        "cff-version: 1.2.0",
        "message: If you use these results, please cite them and the papers in references.bib.",
        "type: dataset",
        f"title: {_yaml(card.about.title)}",
        f"abstract: {_yaml(_summary(card))}",
        "authors:",
        *(f"  - name: {_yaml(author)}" for author in card.about.authors),
        f"license: {card.about.license}",
        f'version: "{last.version}"',
        *([f'date-released: "{last.date}"'] if last.date else []),
        f"keywords: {json.dumps(KEYWORDS)}",
    ]
    return "\n".join(lines) + "\n"


def _zenodo(card: Card) -> str:
    links = {
        citation.key: link
        for citation in _citations(card)
        if citation.key in read_citations()["entries"]
        and (link := short_reference(citation.key)[1]) is not None
    }
    record = {
        "title": one_line(card.about.title, MAX_TEXT),
        "upload_type": "dataset",
        "description": f"<p>{_summary(card)}</p>",
        "creators": [{"name": one_line(author, MAX_TEXT)} for author in card.about.authors],
        "license": card.about.license.lower(),
        "keywords": list(KEYWORDS),
        "version": str(card.changes[-1].version),
        "related_identifiers": [
            {"identifier": link, "relation": "cites"} for link in links.values()
        ],
    }
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _citations(card: Card) -> list[Citation]:
    """What to cite for the benchmark, the data set and the benchmark's own methods."""
    known = read_citations()["methods"]
    methods = {label.partition("(")[0] for board in card.boards for label in board.labels}
    citations = [*citations_of(BOARD)]
    for method in sorted(methods & known.keys()):
        citations += citations_of(method)
    of_data = Citation("", card.manifest.document["citation"].strip())
    return list({c.key: c for c in [*citations, of_data]}.values())
