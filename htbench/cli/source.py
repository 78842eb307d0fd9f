"""`htbench source`: source models, trained here or brought from elsewhere."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from htbench.cli.main import network_option, plain, print_json, print_table

if TYPE_CHECKING:
    from benchmark.manifest import Manifest
    from benchmark.source import SourceCheckpoint, SourceSpec

F = TypeVar("F", bound=Callable[..., Any])

_device = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto",
                       show_default=True, help="Where to compute.")  # fmt: skip


def _which(many: bool) -> Callable[[F], F]:
    """The options that say which source models are meant."""

    def add(function: F) -> F:
        for option in (
            click.option("--source", "sources", multiple=many, metavar="DOMAINS",
                         help="Source domains as a task has them, such as outline+solid"
                         + ("; repeatable. Default: those of all tasks." if many else ".")),
            click.option("--manifest", "reference", metavar="REF",
                         help="Of this manifest: name@version, or a folder."),
            click.option("--suite", "suite_name", metavar="SUITE",
                         help="Of the manifest and tasks of this suite."),
            network_option,
        ):  # fmt: skip
            function = option(function)
        return function

    return add


@click.group("source")
def command() -> None:
    """Train, import, export or list source models.

    \b
    Examples:
      htbench source train --suite icons
      htbench source list
    """


@command.command()
@_which(many=True)
@click.option("--weights", "weights", metavar="FILE",
              type=click.Path(dir_okay=False, path_type=Path),
              help="The initial weights the manifest names, instead of a download.")  # fmt: skip
@_device
@click.option("--jobs", type=click.IntRange(min=1), metavar="N",
              help="Trainings side by side on CPU. Default: one per core.")  # fmt: skip
def train(
    suite_name: str | None,
    reference: str | None,
    sources: tuple[str, ...],
    network: str | None,
    weights: Path | None,
    device: str,
    jobs: int | None,
) -> None:
    """Train the source models that are not there yet. `htbench run` does so by itself.

    \b
    Examples:
      htbench source train --suite icons
      htbench source train --manifest icons-pretrained@1.0 --source outline+solid \\
          --weights mobilenet_v2-b0353104.pth
    """
    from benchmark.executors.local import slots
    from benchmark.runs.plan import resolve_device
    from benchmark.runs.workspace import Workspace
    from benchmark.weights import bring_initial
    from htbench.cli.session import Session, ready_sources, tell

    device = resolve_device(device)
    manifest, known = _manifest(suite_name, reference)
    with (
        tempfile.TemporaryDirectory() as folder,
        Session(never=[manifest.root], cuda=device == "cuda") as session,
        Workspace(Path(folder)) as workspace,
    ):
        manifest = session.with_network(manifest, network)
        specs = _specs(manifest, known, sources, device)
        if weights is not None:
            bring_initial(session.server, manifest, weights, tell)
        made = ready_sources(session, specs, workspace, jobs or slots(device))
    _print([made[spec] for spec in specs])


@command.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_which(many=False)
@click.option("--note", default="", metavar="TEXT", help="Where it comes from; kept with it.")
@_device
def import_(
    file: Path,
    suite_name: str | None,
    reference: str | None,
    sources: str | None,
    network: str | None,
    note: str,
    device: str,
) -> None:
    """Take a source model that was trained elsewhere: safetensors, or a state dict of torch.

    Names are those that `htbench source export` writes, or those of torchvision's network. It is
    tested on the source's test list, and runs start from it from now on.

    \b
    Examples:
      htbench source import model.safetensors --manifest icons@1.0 --source outline
      htbench source import resnet50.pth --manifest office-home@1.0 --source Art \\
          --note "trained by a friend"
    """
    from benchmark.runs.execute import import_source
    from benchmark.runs.plan import resolve_device
    from htbench.cli.session import Session, open_stores, source_needs

    device = resolve_device(device)
    manifest, known = _manifest(suite_name, reference)
    with (
        tempfile.TemporaryDirectory() as folder,
        Session(never=[manifest.root], cuda=device == "cuda") as session,
    ):
        manifest = session.with_network(manifest, network)
        spec = _one(_specs(manifest, known, (sources,) if sources else (), device))
        stores = open_stores(manifest, source_needs([spec]))
        made = import_source(session.server, spec, stores, file, plain(note), Path(folder))
    _print([made])


@command.command()
@_which(many=False)
@click.option("--out", required=True, metavar="DIR",
              type=click.Path(path_type=Path), help="A new folder.")  # fmt: skip
@_device
def export(
    suite_name: str | None,
    reference: str | None,
    sources: str | None,
    network: str | None,
    out: Path,
    device: str,
) -> None:
    """Copy a source model into a folder, with a card that says what it is.

    \b
    Examples:
      htbench source export --manifest icons@1.0 --source outline --out icons-outline
      htbench source export --suite icons --source outline+solid --out icons-both
    """
    import shutil

    from benchmark.errors import UsageError
    from benchmark.files import new_folder
    from benchmark.runs.plan import resolve_device
    from benchmark.source import MODEL_FILE, find_source
    from htbench.cli.session import Session

    device = resolve_device(device)
    manifest, known = _manifest(suite_name, reference)
    with Session(never=[manifest.root]) as session:
        manifest = session.with_network(manifest, network)
    spec = _one(_specs(manifest, known, (sources,) if sources else (), device))
    if out.exists():
        raise UsageError(f"--out: {out} exists already; name a new folder")
    found = find_source(spec)
    if found is None:
        raise UsageError(
            f"there is no source model of {spec.name} for {device}; train it: htbench source train "
            f"--manifest {manifest.reference}{manifest.model_option} "
            f"--source {'+'.join(spec.domains)}"
        )
    with new_folder(out.resolve()) as building:
        shutil.copyfile(found.path, building / MODEL_FILE)
        (building / "README.md").write_text(card(spec, found), "utf-8")
    click.echo(f"{out}: {MODEL_FILE} and README.md")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the source models of the data folder.

    \b
    Examples:
      htbench source list
      htbench source list --json
    """
    from benchmark.source import known_sources

    found = known_sources()
    if as_json:
        print_json([_entry(source) for source in found])
    else:
        _print(found)


def _manifest(
    suite_name: str | None, reference: str | None
) -> tuple[Manifest, list[tuple[str, ...]]]:
    """The manifest that is meant, and the sources of its tasks, or of the suite's."""
    from benchmark.errors import UsageError
    from benchmark.manifest import load_manifest, load_suite

    if (suite_name is None) == (reference is None):
        raise UsageError("give either --suite SUITE or --manifest REF")
    if suite_name is not None:
        suite = load_suite(suite_name)
        manifest = load_manifest(suite.manifest)
        return manifest, [manifest.task(task).sources for task in suite.tasks]
    assert reference is not None
    manifest = load_manifest(reference)
    return manifest, [task.sources for task in manifest.tasks]


def _specs(
    manifest: Manifest, of_tasks: list[tuple[str, ...]], sources: tuple[str, ...], device: str
) -> list[SourceSpec]:
    """Those of the tasks' source models that were asked for; all where none were."""
    from benchmark.errors import UsageError
    from benchmark.source import SourceSpec

    specs = [SourceSpec.of(manifest, domains, device) for domains in of_tasks]
    known = {frozenset(spec.domains): spec for spec in reversed(specs)}
    if not sources:
        return list(dict.fromkeys(specs))
    chosen = []
    for text in sources:
        domains = frozenset(text.split("+"))
        if domains not in known:
            listed = ", ".join(sorted("+".join(spec.domains) for spec in known.values()))
            raise UsageError(f"--source {text}: no task starts from it; the tasks have: {listed}")
        chosen.append(known[domains])
    return list(dict.fromkeys(chosen))


def _one(specs: list[SourceSpec]) -> SourceSpec:
    from benchmark.errors import UsageError

    if len(specs) > 1:
        listed = ", ".join("+".join(spec.domains) for spec in specs)
        raise UsageError(f"say which source model with --source; there are: {listed}")
    return specs[0]


def _entry(source: SourceCheckpoint) -> dict[str, Any]:
    from benchmark.manifest import network_label

    record = source.record
    return {
        "manifest": record.get("manifest"),
        "manifest_digest": record["made_from"]["manifest"],
        "domains": record["made_from"]["domains"],
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


def _print(sources: list[SourceCheckpoint]) -> None:
    rows: list[list[object]] = []
    for entry in map(_entry, sources):
        name = entry["manifest"] or entry["manifest_digest"][:12]
        accuracy, size = f"{entry['test_accuracy']:.1f}", f"{entry['bytes'] / 1e6:.1f}"
        kind = " ".join(word for word in (entry["provenance"], entry["device"]) if word)
        rows.append([name, "+".join(entry["domains"]), entry["network"], entry["digest"][:12],
                     accuracy, kind, size])  # fmt: skip
    print_table(rows, ["manifest", "domains", "network", "digest", "accuracy %", "how", "MB"])


def card(spec: SourceSpec, source: SourceCheckpoint) -> str:
    """The README.md beside an exported source model, in Markdown."""
    record, document = source.record, spec.manifest.document
    made_from: Mapping[str, Any] = record["made_from"]
    facts = {
        "manifest": f"{spec.manifest.reference} (`{spec.manifest.digest}`)",
        "domains": " + ".join(spec.domains),
        "classes": str(len(spec.manifest.classes)),
        "digest of model.safetensors": f"`{source.digest}`",
        "accuracy": f"{record['test_accuracy']:.2f} % of {record['test_images']} images of the "
        "source's own test list",
        "provenance": record.get("provenance", "trained"),
        "network": _code(made_from["model"]),
    }
    if record.get("note"):
        facts["note"] = plain(record["note"]).replace("\n", " ").replace("|", "\\|")
    if made_from.get("initial"):
        facts["initial weights"] = f"`{made_from['initial']}` (as safetensors)"
    if "recipe" in made_from:
        recipe = {key: value for key, value in made_from["recipe"].items() if key != "chosen"}
        facts["recipe"] = _code(recipe)
        facts["transforms"] = _code(made_from["transforms"])
        facts["torch"] = made_from["torch"]
    rows = "\n".join(f"| {name} | {text} |" for name, text in facts.items())
    return (
        f"# Source model of {spec.name}\n\n"
        f"{document['title']}. Made by Holistic Transfer Bench.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n"
        "Names of tensors begin with `backbone.` or `head.`; the rows of `head.weight` are the "
        "classes in the manifest's order. To use it:\n\n"
        f"    htbench source import model.safetensors --manifest {spec.manifest.reference} "
        f"--source {'+'.join(spec.domains)}{spec.manifest.model_option}\n\n"
        f"## Terms of the images it was trained on\n\n{document['terms'].strip()}\n"
    )


def _code(value: object) -> str:
    return f"`{json.dumps(value)}`".replace("|", "\\|")
