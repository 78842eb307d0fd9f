"""The code that computes predictions, and nothing else, is part of every key."""

from __future__ import annotations

import subprocess
import sys

from benchmark.folders import PACKAGE
from benchmark.keys import COMPUTES, compute_digest

# What a child imports from this package and why it does not change the bytes that it computes.
DOES_NOT_COMPUTE = {
    "__init__.py": "names",
    "child/__init__.py": "empty",
    "child/code.py": "which files a method's import may read",
    "child/main.py": "calls the function of a job",
    "child/notes.py": "what is shown beside the scores",
    "child/plugin.py": "imports a method, whose own code is part of the key",
    "child/refusals.py": "explains what the sandbox refuses",
    "errors.py": "exceptions",
    "failpoints.py": "stops a process in a test",
    "files.py": "atomic writes and digests",
    "folders.py": "paths",
    "images/__init__.py": "empty",
    "isolation/__init__.py": "empty",
    "isolation/allowlist.py": "what a child may read",
    "isolation/facts.py": "names of measures",
    "isolation/kernel.py": "what a child may read",
    "isolation/sandbox.py": "what a child may read",
    "isolation/seccomp.py": "which calls a child may make",
    "isolation/wire.py": "messages",
    "images/store/__init__.py": "empty",
    "networks/__init__.py": "empty",
    "networks/names.py": "names of networks; the table itself is part of the key",
    "parquet.py": "sizes of columns, for readers of predictions",
    "patterns.py": "forms of names and digests",
    "renames.py": "when a folder gets its name",
    "records.py": "schemas of what the driver writes",
    "text.py": "what is printed",
}
# What the driver does to bytes that a child computes with, or that it computed.
IN_THE_DRIVER = {
    "images/store/build.py": "decodes the images",
    "images/store/encoded.py": "reads the images that are handed out",
    "images/store/jpeg.py": "decodes the images",
    "images/store/store.py": "orders the images",
    "isolation/answers.py": "orders the rows",
    "runs/execute.py": "chooses what a run gets, and orders its predictions",
    "sources/features.py": "chooses the images, and orders the features",
    "sources/train.py": "chooses what a source model is trained on",
}
CODE = """
import sys, pathlib, benchmark, benchmark.child.main
package = pathlib.Path(benchmark.__file__).parent
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] == "benchmark":
        print(pathlib.Path(module.__file__).relative_to(package).as_posix())
"""


def imported_by_a_child() -> set[str]:
    process = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=300
    )
    return set(process.stdout.split())


def test_what_a_child_imports_is_part_of_the_key_or_does_not_compute() -> None:
    imported = imported_by_a_child()
    assert imported - DOES_NOT_COMPUTE.keys() - IN_THE_DRIVER.keys() == (
        set(COMPUTES) - IN_THE_DRIVER.keys()
    )
    assert not set(COMPUTES) & DOES_NOT_COMPUTE.keys()
    assert DOES_NOT_COMPUTE.keys() <= imported
    assert IN_THE_DRIVER.keys() <= set(COMPUTES)


def test_the_files_exist() -> None:
    assert all((PACKAGE / name).is_file() for name in COMPUTES)
    assert len(compute_digest()) == 64
