"""Choose source models by name, describe them, and copy them out with a card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.commands import command
from benchmark.errors import DataError, UsageError
from benchmark.files import check_output, new_folder
from benchmark.manifest.catalogue import load_manifest, load_published, shown_reference
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import load_suite, manifest_of
from benchmark.networks.names import network_label
from benchmark.sources.spec import MODEL_FILE, SourceCheckpoint, SourceSpec, find_source
from benchmark.text import plural


def manifest_and_sources(
    suite: str | None, reference: str | None
) -> tuple[Manifest, list[tuple[str, ...]]]:
    """The manifest of a suite or a reference, and the source domains of each of its tasks.

    Raises:
        UsageError: both or neither are given.
    """
    if suite is not None and reference is None:
        loaded = load_suite(suite)
        manifest = manifest_of(loaded)
        return manifest, [manifest.task(task).sources for task in loaded.tasks]
    if suite is not None or reference is None:
        raise UsageError("give either --suite SUITE or --manifest REF")
    manifest = load_manifest(reference)
    return manifest, [task.sources for task in manifest.tasks]


def choose_specs(
    manifest: Manifest,
    of_tasks: Sequence[tuple[str, ...]],
    names: Sequence[str],
    device: str,
    seeds: Sequence[int] = (),
) -> list[SourceSpec]:
    """The source models of some tasks.

    Args:
        manifest: the tasks' manifest.
        of_tasks: the source domains of each task.
        names: only these, such as ``outline+solid``; all if empty.
        device: ``cpu`` or ``cuda``.
        seeds: only those of these numbers; all if empty.

    Raises:
        UsageError: no task starts from one of the names, or there is no such number.
    """
    count = manifest.source_seeds
    for seed in seeds:
        if seed not in range(count):
            raise UsageError(
                f"--seed {seed}: {manifest.reference} has {plural(count, 'source model')} for each "
                "source, numbered from 0"
            )
    known = {frozenset(domains): domains for domains in reversed(of_tasks)}
    chosen = list(of_tasks)
    if names:
        if unknown := [name for name in names if frozenset(name.split("+")) not in known]:
            listed = ", ".join(sorted("+".join(domains) for domains in known.values()))
            raise UsageError(f"--source {unknown[0]}: no task starts from it; sources: {listed}")
        chosen = [known[frozenset(name.split("+"))] for name in names]
    specs = (
        SourceSpec.of(manifest, domains, device, seed)
        for domains in chosen
        for seed in seeds or range(count)
    )
    return list(dict.fromkeys(specs))


def only_spec(specs: Sequence[SourceSpec]) -> SourceSpec:
    """The only source model of a list.

    Raises:
        UsageError: there are several.
    """
    if len(specs) > 1:
        names = dict.fromkeys("+".join(spec.domains) for spec in specs)
        options = ["--source"] if len(names) > 1 else []
        if len({spec.seed for spec in specs}) > 1:
            options.append(f"--seed (below {specs[0].manifest.source_seeds})")
        listed = ", ".join(names)
        raise UsageError(f"name one source model with {' and '.join(options)}: {listed}")
    return specs[0]


def export_source(spec: SourceSpec, out: Path) -> None:
    """Copy a source model into a new folder, with a card that describes it.

    Raises:
        UsageError: the folder exists, or the source model is not trained.
    """
    check_output(out, folder=True)
    if out.exists():
        raise UsageError(f"--out: {out} already exists; name a new folder")
    source = find_source(spec)
    if source is None:
        train = command(
            "source", "train", *_words(spec, spec.manifest.argument), "--device", spec.device
        )
        raise UsageError(f"no source model of {spec.name} for {spec.device}; run `{train}`")
    with new_folder(out.resolve()) as building:
        shutil.copyfile(source.path, building / MODEL_FILE)
        (building / "README.md").write_text(card(spec, source), "utf-8")


def pinned_sources(report: Callable[[str], None]) -> list[SourceCheckpoint]:
    """The source models that manifests fix and that are here.

    Args:
        report: called with a sentence for each that is damaged, and as by
            :func:`benchmark.manifest.catalogue.load_published`.
    """
    sources = []
    for manifest in load_published(report):
        for pin in manifest.checkpoints:
            try:
                source = find_source(SourceSpec.of(manifest, pin.sources, "cpu", pin.seed))
            except DataError as error:
                report(str(error))
                continue
            if source is not None:
                sources.append(source)
    return sources


def summary(source: SourceCheckpoint) -> dict[str, Any]:
    """What is on record about a source model, for a list."""
    record = source.record
    reference = record.get("manifest")
    return {
        "manifest": reference and shown_reference(reference, record["made_from"]["manifest"]),
        "manifest_digest": record["made_from"]["manifest"],
        "domains": record["made_from"]["domains"],
        "seed": record["made_from"].get("seed", 0),
        "network": network_label(record["made_from"]["model"]),
        "device": record["made_from"].get("device"),
        "digest": source.digest,
        "test_accuracy": record["test_accuracy"],
        "test_images": record["test_images"],
        "provenance": record.get("provenance", "trained"),
        "note": record.get("note", ""),
        "bytes": source.path.stat().st_size,
        "path": str(source.path),
    }


def card(spec: SourceSpec, source: SourceCheckpoint) -> str:
    """The README.md of an exported source model, in Markdown."""
    record, document = source.record, spec.manifest.document
    made_from: Mapping[str, Any] = record["made_from"]
    facts = {
        "manifest": f"{_shown(spec.manifest)} (`{spec.manifest.digest}`)",
        "domains": " + ".join(spec.domains),
        "seed": str(spec.seed),
        "classes": str(len(spec.manifest.classes)),
        "digest of model.safetensors": f"`{source.digest}`",
        "accuracy": f"{record['test_accuracy']:.2f} % of "
        f"{plural(record['test_images'], 'image')} of the source's own test list",
        "provenance": record.get("provenance", "trained"),
        "network": _code(made_from["model"]),
    }
    if note := record.get("note"):
        facts["note"] = "".join(c if c.isprintable() else " " for c in note).replace("|", "\\|")
    if made_from.get("initial"):
        facts["pretrained weights"] = f"`{made_from['initial']}` (as safetensors)"
    if "torch" in made_from:  # trained here
        recipe = {key: value for key, value in made_from["recipe"].items() if key != "chosen"}
        facts["recipe"] = _code(recipe)
        facts["transforms"] = _code(made_from["transforms"])
        facts["torch"] = made_from["torch"]
    # Readers of the card have no folder of the author; theirs goes in place of MANIFEST.
    shared = "MANIFEST" if spec.manifest.given else spec.manifest.reference
    rows = "\n".join(f"| {name} | {text} |" for name, text in facts.items())
    return (
        f"# Source model of {spec.name}\n\n"
        f"{document['title']}. Exported by Holistic Transfer Bench.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n"
        "Tensor names begin with `backbone.` or `head.`; the rows of `head.weight` are the classes "
        "in the manifest's order. To use it:\n\n"
        f"    {command('source', 'import', MODEL_FILE, *_words(spec, shared))}\n\n"
        f"## Terms of the images it was trained on\n\n{document['terms'].strip()}\n"
    )


def _shown(manifest: Manifest) -> str:
    return shown_reference(manifest.reference, manifest.digest)


def _words(spec: SourceSpec, manifest: str) -> tuple[str, ...]:
    """The options that name a source model."""
    named = ["--manifest", manifest, "--source", "+".join(spec.domains)]
    if spec.manifest.source_seeds > 1:
        named += ["--seed", str(spec.seed)]
    return (*named, *spec.manifest.model_option)


def _code(value: object) -> str:
    return f"`{json.dumps(value)}`".replace("|", "\\|")
