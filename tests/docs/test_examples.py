"""The examples of README.md and docs/ run as they are printed, on a small slice of the icons.

Python blocks of a page share one namespace and run in order. A block whose first line is a comment
with a file name, such as ``# smoothed.py``, is a plugin: all plugins run together at the end. A
TOML block of that kind is a data file of a plugin.
A Python block below a line ``<!-- writes FILE -->`` writes one.
Commands are parsed by the real command line, so that their options exist. Those below a line
``<!-- run -->`` are run as well.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import htbench
from benchmark.splits.export import export_task
from htbench.cli.main import main
from tests.htbench.command import parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLUGIN = re.compile(r"# (\w+\.py)\n")
DATA = re.compile(r"# (\w+\.toml)\n")
FILES = (".py", ".toml", ".zip", ".csv", ".pth", ".safetensors")  # arguments that must exist


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """The fenced blocks of a language, each with the line above it."""
    pattern = rf"^([^\n]*)\n```{language}\n(.*?)^```$"
    return re.findall(pattern, page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def python(page: Path) -> list[str]:
    return [code for _, code in blocks(page, "python") if not PLUGIN.match(code)]


def plugins() -> dict[str, str]:
    """The plugins of all pages by file name, README's as ``half_way.py``."""
    files = {
        match[1]: code
        for page in PAGES
        for _, code in blocks(page, "python")
        if (match := PLUGIN.match(code))
    }
    (readme,) = [code for above, code in blocks(PAGES[0], "python") if above == "<!-- plugin -->"]
    return {"half_way.py": readme, **files}


def data_files() -> dict[str, str]:
    """The data files of the plugins of all pages, by file name."""
    return {
        match[1]: text
        for page in PAGES
        for _, text in blocks(page, "toml")
        if (match := DATA.match(text))
    }


def scripts() -> list[str]:
    """The Python blocks of all pages that write data files of plugins."""
    python_blocks = [block for page in PAGES for block in blocks(page, "python")]
    return [code for above, code in python_blocks if above.startswith("<!-- writes ")]


def commands() -> list[tuple[str, str, bool]]:
    """The commands of all pages: the page's name, the command, and whether to run it."""
    return [
        (page.name, line.partition("  #")[0].rstrip(), above == "<!-- run -->")
        for page in PAGES
        for above, block in blocks(page, "bash")
        for line in block.splitlines()
        if line.startswith("htbench ")
    ]


@pytest.fixture
def folder(draft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: a slice of the icons as ``icons``, a suite of it, and the plugins."""
    manifest = draft.write()
    (tmp_path / "icons.toml").write_text(
        f'title = "A slice of icons"\nmanifest = "{manifest}"\ntasks = ["outline-solid"]\n'
        'methods = ["source", "finetune"]\nseeds = [0]\n'
    )
    for name, text in {**plugins(), **data_files()}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for code in scripts():
        exec(on_the_slice(code, tmp_path), {})
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:  # half_way.py of another test is another module
        if name + ".py" in plugins():
            del sys.modules[name]


def on_the_slice(text: str, folder: Path) -> str:
    """An example with the names of the icons replaced by the paths of the slice."""
    text = text.replace("icons@2.0", str(folder / "mini"))
    return re.sub(r'"icons"|(?<=--suite )icons\b', f'"{folder / "icons.toml"}"', text)


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize("page", [p for p in PAGES if python(p)], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, folder: Path) -> None:
    namespace: dict[str, object] = {}
    if page.name == "splits.md":
        manifest = htbench.load_manifest(folder / "mini")
        export_task(manifest, "outline-solid", "imagefolder", folder / "images")
    if page.name == "python.md":
        assert {"half_way.py", "icons.toml"} <= {p.name for p in folder.iterdir()}
    for code in python(page):
        exec(compile(on_the_slice(code, folder), str(page), "exec"), namespace)


def test_the_checks_of_a_page_pass_in_a_run(folder: Path) -> None:
    (code,) = (c for c in python(ROOT / "docs" / "plugin.md") if "method_checks" in c)
    (folder / "example_checks.py").write_text(code)
    (mark,) = importlib.import_module("example_checks").test_conformance.pytestmark
    (check,) = (check for check in mark.args[1] if check.name == "in-the-lock")
    check()


def test_the_plugins_run(folder: Path, draft) -> None:
    # Enough training for a learning rate that is too high to diverge, as on the whole icons.
    draft.document["model"]["width"] = 16
    draft.document["source"] |= {"steps": 40, "batch_size": 32}
    draft.document["recipe"] |= {"steps": 10, "batch_size": 32}
    draft.write()
    files = sorted(plugins())
    htbench.run_suite(
        folder / "icons.toml",
        plugins=files,
        tasks=["outline-solid"],
        seeds=[0],
        workspace=folder / "workspace",
    )
    results = htbench.load_results(folder / "workspace")
    ours = results[results["method"].isin([name[:-3].replace("_", "-") for name in files])]
    assert len(ours) == len(files)
    assert set(ours["status"]) == {"ok"}, ours[["method", "status"]].to_string()


@pytest.mark.parametrize(("page", "command", "_run"), commands(), ids=lambda value: str(value))
def test_a_command_can_be_parsed(
    page: str, command: str, _run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.replace("~", str(tmp_path)) for word in shlex.split(command)[1:]]
    for word in words:
        if word.endswith(FILES):
            (tmp_path / word).parent.mkdir(exist_ok=True)
            (tmp_path / word).touch()
    parse(words)


def test_commands_marked_to_run_do(folder: Path) -> None:
    marked = [command for _, command, run in commands() if run]
    assert marked
    for command in marked:
        words = shlex.split(on_the_slice(command, folder))[1:]
        with pytest.raises(SystemExit) as exit_:
            main(words)
        assert not exit_.value.code, command


def test_the_suite_file_is_valid(folder: Path) -> None:
    ((_, text),) = blocks(ROOT / "docs" / "suites.md", "toml")
    file = folder / "mine.toml"
    file.write_text(text)
    suite = htbench.load_suite(str(file))
    assert suite.methods == ("source", "finetune")
    assert suite.tasks == ("outline-solid",)


def test_every_public_name_has_an_example_and_an_api_entry() -> None:
    examples = "".join(code for page in PAGES for _, code in blocks(page, "python"))
    api = (ROOT / "docs" / "api.md").read_text("utf-8")
    for name in htbench.__all__:
        assert f"htbench.{name}\n" in api, f"docs/api.md has no entry for {name}"
        shown = re.search(rf"\b{name}\b", examples)
        # Instances of these are arguments of adapt; nobody calls them by name.
        assert shown or name in {"Classifier", "Run", "SourceModel", "TargetData"}, name


def test_the_names_of_the_plugin_page_are_complete_and_shown() -> None:
    page = ROOT / "docs" / "plugin.md"
    table = re.findall(r"^\| (`.*?) \| \[", page.read_text("utf-8"), re.MULTILINE)
    table_names = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    code = "".join(code for _, code in blocks(page, "python"))
    oracles = {"track", "missing", "with_missing"}  # a plugin cannot use them
    arguments = {"SourceModel", "TargetData", "Run", "Classifier"}
    for name in table_names - oracles - arguments:
        assert re.search(rf"\b{name}\b", code), f"no example of {name}"
    kept_by_the_run = {"report", "history", "notes"}  # behind progress, log and note
    for kind in (
        htbench.Method,
        htbench.SourceModel,
        htbench.TargetData,
        htbench.Run,
        htbench.Batch,
        htbench.Classifier,
    ):
        names = {name for name in {*vars(kind), *kind.__annotations__} if not name.startswith("_")}
        names -= {"adapt", "forward", *kept_by_the_run}
        assert names <= table_names, f"{kind.__name__}: {names - table_names}"
